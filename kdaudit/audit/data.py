"""The records of an audit: members, non-members and shots, read, checked and drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit import records
from kdaudit.audit.lineage import Lineage
from kdaudit.config import CHAT_TEMPLATES, AuditConfig, Audited
from kdaudit.draws import generator
from kdaudit.errors import ConfigError, RecordsError
from kdaudit.foreign import read_text, reason
from kdaudit.models.chat import MAX_TEMPLATE, chat_renderer
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import load_tokenizer
from kdaudit.records import (
    Read,
    Record,
    Records,
    RecordSet,
    check_alike,
    check_disjoint,
    draw_shots,
    held,
    notes_on,
    sample,
)

SHOTS_SHARE = 0.25  # of the non-members at most: the rest is still to be judged


@dataclass(frozen=True, slots=True)
class Rendering:
    """The chats as the template of one model writes them."""

    name: str
    """The model's name."""
    contexts: tuple[tuple[str, ...], ...]
    """(n,): what stands before each answer of each record."""
    shots: tuple[str, ...]


@dataclass(frozen=True)
class AuditData:
    """What is scored, members before non-members, and what stands in front of it in prefix attacks."""

    members: Sequence[Record]
    nonmembers: Sequence[Record]
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
    shot_records: Sequence[Record] = ()
    """The records of the shots."""
    renderings: Mapping[str, Rendering] = field(default_factory=dict)
    """By checkpoint fingerprint, where a model is shown the chats otherwise than they were read."""

    @cached_property
    def records(self) -> Records:
        """Members, then non-members: the order of every array of the audit."""
        return held(self.members) + held(self.nonmembers)

    @property
    def is_member(self) -> NDArray[np.bool_]:
        """(n,), True for members."""
        return np.arange(len(self.records)) < len(self.members)

    @property
    def sha256(self) -> str:
        """The hash of all sets as they were read, and of what models are shown otherwise."""
        parts = [found.sha256 for found in self.sets]
        for fingerprint, own in sorted(self.renderings.items()):
            whole = "\0".join((*chain.from_iterable(own.contexts), *own.shots)).encode("utf-8", "surrogatepass")
            parts += [fingerprint, hashlib.sha256(whole).hexdigest()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


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
    with chat_renderer(lambda: speaker(config, lineage), today=lineage.chat_date) as render:
        read = partial(read_source, **config.layout, render=render)
        if lineage.sets is not None:
            members, nonmembers = lineage.sets(read)
        elif config.data:
            members, nonmembers = records.read_both(
                config.data,
                option="--data",
                member_field=config.member_field,
                text_fields=config.text_fields,
                **config.layout,
                render=render,
            )
        else:
            fields = config.text_fields or (config.text_field, config.text_field)
            members = read(config.members, option="--members", text_field=fields[0])
            nonmembers = read(config.nonmembers, option="--nonmembers", text_field=fields[1])
        shots = read(config.shots, option="--shots") if config.shots else None
    sets = (members, nonmembers, *((shots,) if shots else ()))
    check_disjoint(sets)
    check_alike(members, nonmembers)

    drawn: Sequence[Record] = shots.records[: config.n_shots] if shots else ()
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
        shot_records=drawn if needs_shots else (),
        sets=sets,
        is_shots_drawn=needs_shots and shots is None,
        teacher_obstacle=lineage.teacher_obstacle,
        no_start=lineage.no_start,
        notes=(*lineage.notes, *notes_on(sets)),
    )


def speaker(config: AuditConfig, lineage: Lineage) -> Any:
    """The tokenizer whose template writes the chats as they are read: --chat-template's, as a rule the teacher's.

    Raises:
        ConfigError: the file with a template cannot be read, or a manifest says that the teacher's counts.
        CheckpointError: a model's tokenizer cannot be loaded.
    """
    choice = config.chat_template
    if choice not in {"own", "teacher"} and lineage.sets is not None:
        raise ConfigError(
            f"--chat-template {choice}: the student was distilled on the chats as its teacher's template writes them",
            hint="leave it out",
        )
    if choice == "student":
        if not config.students:
            raise ConfigError("--chat-template student: no student is audited", hint="leave it out")
        return _tokenizer(config, config.audited[1])
    n_recorded = 1 if config.teacher_run is not None else 0
    first, *others = config.audited[n_recorded:]  # its texts must be those that a recorded teacher saw
    teacher = _tokenizer(config, first)
    if choice == "own" and not teacher.chat_template:
        students = (_tokenizer(config, one) for one in others)
        return next((one for one in students if one.chat_template), teacher)
    if choice not in {"own", "teacher"}:
        hint = f"give one of {', '.join(CHAT_TEMPLATES)} or the file of a template"
        try:
            teacher.chat_template = read_text(Path(choice), at_most=MAX_TEMPLATE)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or reason(error)
            raise ConfigError(f"--chat-template: {choice} cannot be read: {why}", hint=hint) from error
        teacher.name_or_path = choice  # messages about the template name the file
    return teacher


def _tokenizer(config: AuditConfig, one: Audited) -> Any:
    trust: dict[str, Any] = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
    return load_tokenizer(find(one.checkpoint, option=one.option, base=one.base, kind=config.kind, **trust))


def _limited(found: Sequence[Record], config: AuditConfig, name: str) -> Sequence[Record]:
    if config.limit is None or len(found) <= config.limit:
        return found
    return sample(found, config.limit, rng=generator(config.seed, f"limit {name}"))
