"""The records of an audit: members, non-members and shots, read, checked and drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from kdaudit import records
from kdaudit.audit.lineage import Lineage
from kdaudit.config import AuditConfig
from kdaudit.draws import generator
from kdaudit.errors import RecordsError
from kdaudit.models.chat import chat_renderer
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import load_tokenizer
from kdaudit.records import Read, Record, RecordSet, check_alike, check_disjoint, draw_shots, sample

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
    teacher_obstacle: str = ""
    """Why nothing can be said about the teacher; "" where something can."""
    no_start: Mapping[str, str] = field(default_factory=dict)
    """By student: why what it started from cannot serve as a reference."""
    notes: tuple[str, ...] = ()
    """What a reader must know about where the records come from."""

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
        """The hash of all sets as they were read."""
        return hashlib.sha256("".join(found.sha256 for found in self.sets).encode()).hexdigest()


def read_data(
    config: AuditConfig, lineage: Lineage, *, needs_shots: bool, read_source: Read = records.read
) -> AuditData:
    """Read the sets that `config` or a manifest names, refuse what cannot be judged, and draw shots and limit.

    Args:
        config: names them.
        lineage: what the students' manifests say.
        needs_shots: whether an attack puts texts before a text.
        read_source: gives the records of a source.

    Raises:
        ConfigError: a manifest cannot be used.
        RecordsError: a set cannot be read, is empty, has changed, or shares texts or ids with another.
    """
    with chat_renderer(lambda: load_tokenizer(_teacher(config)), today=lineage.chat_date) as render:
        read = partial(read_source, text_field=config.text_field, id_field=config.id_field, render=render)
        if lineage.sets is not None:
            members, nonmembers = lineage.sets(read)
        else:
            members = read(config.members or "", option="--members")
            nonmembers = read(config.nonmembers or "", option="--nonmembers")
        shots = read(config.shots, option="--shots") if config.shots else None
    sets = (members, nonmembers, *((shots,) if shots else ()))
    check_disjoint(sets)
    check_alike(members, nonmembers)

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
        teacher_obstacle=lineage.teacher_obstacle,
        no_start=lineage.no_start,
        notes=lineage.notes,
    )


def _teacher(config: AuditConfig) -> Checkpoint:
    code, pickle = config.trust_remote_code, config.allow_pickle
    first = config.audited[0]
    return find(first.checkpoint, option=first.option, allow_pickle=pickle, trust_remote_code=code)


def _limited(found: tuple[Record, ...], config: AuditConfig, name: str) -> tuple[Record, ...]:
    if config.limit is None or len(found) <= config.limit:
        return found
    return sample(found, config.limit, rng=generator(config.seed, f"limit {name}"))
