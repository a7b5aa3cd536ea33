"""What a configuration asks for by name, checked before anything heavy is loaded: attacks, and gates on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdaudit.attacks import expand, write_settings
from kdaudit.attacks.base import Attack
from kdaudit.config import AuditConfig
from kdaudit.errors import ConfigError
from kdaudit.results.seal import LIKELIHOODS
from kdaudit.verdict.gates import Gate, check_gates, parse_gate

A_RUN = "name the folder of a finished run of `kdaudit attack`"


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
        ConfigError: --teacher-run names no run that can serve, an attack, a setting or a gate is unknown, or a gate is
            on a model or an attack that the run will not have.
    """
    if config.teacher_run is not None:
        check_there(config.teacher_run)
    attacks = expand(config.attacks, config.settings)
    gates = tuple(parse_gate(text) for text in config.gates)
    names = [one.name for one in config.audited]
    check_gates(gates, models=names, attacks=[attack.name for attack, _ in attacks])
    settings = write_settings({attack.name: attack.settings for attack, _ in attacks})
    return Request(attacks, gates, settings)


def check_there(folder: Path) -> None:
    """Refuse a folder that holds no finished run with its likelihoods; no file is read.

    Raises:
        ConfigError: saying what is missing and how to come by it.
    """
    if not folder.is_dir():
        raise ConfigError(f"--teacher-run: {folder} is not a folder", hint=A_RUN)
    for name in ("results.json", "scores.parquet"):
        if not (folder / name).is_file():
            raise ConfigError(f"--teacher-run: {folder} holds no {name}, so it is not a finished run", hint=A_RUN)
    if not (folder / LIKELIHOODS).is_file():
        raise ConfigError(
            f"--teacher-run: {folder} holds no {LIKELIHOODS}: it was measured by an earlier version of kdaudit, which "
            "did not keep what the teacher makes of each record",
            hint="run its own command again with this version: from its signals no model is asked again",
        )
