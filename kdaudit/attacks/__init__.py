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

GROUPS: Mapping[str, tuple[str, ...]] = {
    "paper": ("loss", "zlib", "reference", "min-k", "min-k++", "recall"),
    "all": tuple(ATTACKS),
}


def get_attack(name: str) -> Attack:
    """Look an attack up by its name; a ConfigError suggests the nearest ones."""
    if name not in ATTACKS:
        raise _unknown(name, ATTACKS)
    return ATTACKS[name]


def expand(names: Sequence[str]) -> tuple[tuple[Attack, bool], ...]:
    """The attacks that `names` ask for, in report order, each once with whether it was asked for by its own name.

    Args:
        names: attacks and groups in any order; none means the group `paper`.

    Raises:
        ConfigError: a name is neither an attack nor a group; the nearest names are suggested.
    """
    wanted: set[str] = set()
    for name in names or ("paper",):
        if name not in GROUPS and name not in ATTACKS:
            raise _unknown(name, [*ATTACKS, *GROUPS])
        wanted.update(GROUPS.get(name, (name,)))
    return tuple((attack, name in names) for name, attack in ATTACKS.items() if name in wanted)


def _unknown(name: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"unknown attack '{name}'", hint=did_you_mean(name, known))
