"""The mitigations, in the order reports list them. Adding one: write its file, add its line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdaudit.errors import ConfigError, did_you_mean
from kdaudit.mitigate import (
    bottleneck,
    early_stop,
    goldfish,
    hard_only,
    label_smoothing,
    lora,
    no_norm,
    non_vulnerable,
    reverse_kl,
    soft_only,
)
from kdaudit.mitigate.base import Method

METHODS: Mapping[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (
        non_vulnerable,
        bottleneck,
        no_norm,
        early_stop,
        soft_only,
        hard_only,
        reverse_kl,
        goldfish,
        lora,
        label_smoothing,
    )
}

ALL = "all"


def expand(names: Sequence[str]) -> tuple[Method, ...]:
    """The methods that `names` ask for, in report order, each once.

    Args:
        names: methods in any order, or `all`; at least one.

    Raises:
        ConfigError: there is none, or a name is not a method; the nearest names are suggested.
    """
    if not names:
        raise ConfigError("--method: at least one method is needed", hint=f"give --method {ALL} for every one of them")
    for name in names:
        if name not in METHODS and name != ALL:
            raise ConfigError(f"unknown method '{name}'", hint=did_you_mean(name, [*METHODS, ALL]))
    return tuple(method for name, method in METHODS.items() if name in names or ALL in names)
