"""The attacks, in the order reports list them. Adding one: write its file, add its line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kdaudit.attacks import (
    ez,
    gap_k,
    loss,
    lowercase,
    min_k,
    min_k_plus_plus,
    recall,
    reference,
    wbc,
    zlib,
)
from kdaudit.attacks.base import Attack
from kdaudit.attacks.settings import Setting, written
from kdaudit.errors import ConfigError, did_you_mean

ATTACKS: Mapping[str, Attack] = {
    module.ATTACK.name: module.ATTACK
    for module in (
        loss,
        zlib,
        reference,
        min_k,
        min_k_plus_plus,
        recall,
        gap_k,
        ez,
        wbc,
        lowercase,
    )
}

SETTING_HINT = "such as --set min-k.fraction=0.1; kdaudit attack --list-attacks lists every parameter"

GROUPS: Mapping[str, tuple[str, ...]] = {
    "paper": ("loss", "zlib", "reference", "min-k", "min-k++", "recall"),
    "all": tuple(ATTACKS),
}


def get_attack(name: str) -> Attack:
    """Look an attack up by its name; a ConfigError suggests the nearest ones."""
    if name not in ATTACKS:
        raise _unknown(name, ATTACKS)
    return ATTACKS[name]


def expand(names: Sequence[str], settings: Sequence[str] = ()) -> tuple[tuple[Attack, bool], ...]:
    """The attacks that `names` ask for, in report order, each once with whether it was asked for by its own name.

    Args:
        names: attacks and groups in any order; none means the group `paper`.
        settings: `ATTACK.PARAMETER=VALUE` each.

    Raises:
        ConfigError: a name is neither an attack nor a group (the nearest names are suggested), a setting cannot be
            used, or it is of an attack that was not asked for.
    """
    wanted: set[str] = set()
    for name in names or ("paper",):
        if name not in GROUPS and name not in ATTACKS:
            raise _unknown(name, [*ATTACKS, *GROUPS])
        wanted.update(GROUPS.get(name, (name,)))
    chosen = read_settings(settings)
    if idle := [name for name in chosen if name not in wanted]:
        raise ConfigError(
            f"--set {write_settings({idle[0]: chosen[idle[0]]})[0]}: {idle[0]} is not among the attacks of this run",
            hint=f"add --attack {idle[0]}, or leave the setting out",
        )
    return tuple(
        (attack.tuned(chosen.get(name, {})), name in names) for name, attack in ATTACKS.items() if name in wanted
    )


def read_settings(texts: Iterable[str]) -> dict[str, dict[str, Setting]]:
    """By attack, then by parameter: the values that `ATTACK.PARAMETER=VALUE` each say.

    Raises:
        ConfigError: one is of another form, names something unknown, has a value that cannot be, or is there twice.
    """
    found: dict[str, dict[str, Setting]] = {}
    for text in texts:
        key, _, value = map(str.strip, text.partition("="))
        name, _, parameter = key.rpartition(".")
        if not (name and parameter and value):
            raise ConfigError(f"--set {text}: it is not of the form ATTACK.PARAMETER=VALUE", hint=SETTING_HINT)
        if name not in ATTACKS:
            raise ConfigError(f"--set {text}: unknown attack '{name}'", hint=did_you_mean(name, ATTACKS))
        known = {one.name: one for one in ATTACKS[name].parameters}
        if parameter not in known:
            raise ConfigError(f"--set {text}: {name} has no parameter '{parameter}'", hint=_parameters(name, parameter))
        if parameter in found.setdefault(name, {}):
            raise ConfigError(f"--set {key}: given twice, but it has one value", hint="give it once")
        try:
            found[name][parameter] = known[parameter].read(value)
        except ValueError as error:
            hint = f"it is {known[parameter].option.help}; the default is {written(known[parameter].default)}"
            raise ConfigError(f"--set {key}: {error}", hint=hint) from error
    return found


def write_settings(settings: Mapping[str, Mapping[str, Setting]]) -> tuple[str, ...]:
    """Settings in report order as they can be typed, without those that hold the default: equal ones are equal."""
    return tuple(
        f"{name}.{parameter}={written(value)}"
        for name, attack in ATTACKS.items()
        for parameter, value in sorted(attack.tuned(settings.get(name, {})).settings.items())
    )


def _parameters(name: str, parameter: str) -> str:
    """What a user may have meant by an unknown parameter."""
    attack = ATTACKS[name]
    if attack.needs_shots:
        return "--n-shots sets how many shots stand before a text"
    names = [one.name for one in attack.parameters]
    return did_you_mean(parameter, names, otherwise=f"{name} has {', '.join(names)}") if names else SETTING_HINT


def _unknown(name: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"unknown attack '{name}'", hint=did_you_mean(name, known))
