"""What a configuration asks for by name, checked before anything heavy is loaded: attacks, and gates on them."""

from __future__ import annotations

from dataclasses import dataclass

from kdaudit.attacks import expand, write_settings
from kdaudit.attacks.base import Attack
from kdaudit.config import AuditConfig
from kdaudit.verdict.gates import Gate, check_gates, parse_gate


@dataclass(frozen=True, slots=True)
class Request:
    """The attacks and gates of an audit."""

    attacks: tuple[tuple[Attack, bool], ...]
    """In report order, each with whether it was asked for by its own name."""
    gates: tuple[Gate, ...]
    settings: tuple[str, ...]
    """Those of the attacks, written in one way, without defaults."""


def read_request(config: AuditConfig) -> Request:
    """The attacks and gates that a configuration names.

    Raises:
        ConfigError: an attack, a setting or a gate is unknown, or a gate is on a model or an attack that the run will
            not have.
    """
    attacks = expand(config.attacks, config.settings)
    gates = tuple(parse_gate(text) for text in config.gates)
    names = [one.name for one in config.audited]
    check_gates(gates, models=names, attacks=[attack.name for attack, _ in attacks])
    settings = write_settings({attack.name: attack.settings for attack, _ in attacks})
    return Request(attacks, gates, settings)
