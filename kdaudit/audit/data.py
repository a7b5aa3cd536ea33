"""The records of an audit: members, non-members and shots, read, checked and drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from kdaudit.config import AuditConfig
from kdaudit.errors import ConfigError, RecordsError
from kdaudit.records import Record, RecordSet, check_disjoint, draw_shots, read, sample

SHOTS_SHARE = 0.25  # of the non-members at most: the rest is still to be judged


@dataclass(frozen=True)
class AuditData:
    """What is scored, members before non-members, and what stands in front of it in prefix attacks."""

    members: tuple[Record, ...]
    nonmembers: tuple[Record, ...]
    shots: tuple[str, ...]
    sets: tuple[RecordSet, ...]
    """As read, before shots and limit."""
    is_shots_drawn: bool
    """Whether the shots were taken out of the non-members."""

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Members, then non-members: the order of every array of the audit."""
        return self.members + self.nonmembers

    @property
    def is_member(self) -> NDArray[np.bool_]:
        """(n,), True for members."""
        return np.arange(len(self.records)) < len(self.members)

    @property
    def sha256(self) -> str:
        """Of all sets as read."""
        return hashlib.sha256("".join(found.sha256 for found in self.sets).encode()).hexdigest()


def generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one named draw: adding another draw does not move this one."""
    return np.random.default_rng([seed, crc32(name.encode())])


def read_data(config: AuditConfig, *, needs_shots: bool) -> AuditData:
    """Read the sets that `config` names, refuse what cannot be judged, and draw shots and limit by the seed.

    Raises:
        ConfigError: no sets are given.
        RecordsError: a set cannot be read, is empty, or shares texts or ids with another.
    """
    if config.members is None or config.nonmembers is None:
        raise ConfigError(
            "no records: give --members FILE and --nonmembers FILE",
            hint="a student's own manifest (kdaudit.json) can name them, but this student's folder has none",
        )
    fields = {"text_field": config.text_field, "id_field": config.id_field}
    members = read(config.members, option="--members", **fields)
    nonmembers = read(config.nonmembers, option="--nonmembers", **fields)
    shots = read(config.shots, option="--shots", **fields) if config.shots else None
    sets = (members, nonmembers, *((shots,) if shots else ()))
    check_disjoint(sets)

    drawn: tuple[Record, ...] = shots.records[: config.n_shots] if shots else ()
    rest = nonmembers
    if needs_shots and shots is None:
        n_shots = min(config.n_shots, int(len(nonmembers.records) * SHOTS_SHARE))
        if n_shots:
            drawn, rest = draw_shots(nonmembers, n_shots, rng=generator(config.seed, "shots"))
    if not rest.records:
        raise RecordsError("--nonmembers: no record is left after the shots were taken out")
    return AuditData(
        members=_limited(members.records, config, "members"),
        nonmembers=_limited(rest.records, config, "nonmembers"),
        shots=tuple(record.text for record in drawn) if needs_shots else (),
        sets=sets,
        is_shots_drawn=needs_shots and shots is None,
    )


def _limited(records: tuple[Record, ...], config: AuditConfig, name: str) -> tuple[Record, ...]:
    if config.limit is None or len(records) <= config.limit:
        return records
    return sample(records, config.limit, rng=generator(config.seed, f"limit {name}"))
