"""What a comparison of mitigations found, part by part, and its file: mitigation.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdaudit.artefacts import write_text
from kdaudit.config import student_names
from kdaudit.errors import ConfigError
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.excess import SupervisionEffect
from kdaudit.metrics.frontier import Finding, Placed, PlainPoint
from kdaudit.results.audit import (
    BY_METRIC,
    CHANGE_BY_METRIC,
    AttackResult,
    AuditedModel,
    ComparedRecords,
    GateResult,
    Validity,
    check_day,
)
from kdaudit.results.file import decode, encode, parse

SCHEMA = "kdaudit.mitigation/1"
HINT = "give the mitigation.json that `kdaudit mitigate` wrote"


@dataclass(frozen=True, slots=True)
class Leak:
    """One attack on one student, over all original members and the held-out records."""

    figures: Mapping[str, Estimate] = field(metadata=BY_METRIC)
    changes: Mapping[str, Difference] = field(default_factory=dict, metadata=CHANGE_BY_METRIC)
    """Minus the finished plain student of the same seed, paired over records; empty for that student itself."""


@dataclass(frozen=True, slots=True)
class Student:
    """One distilled student."""

    seed: int
    checkpoint: str
    """Its folder, seen from the folder of the file."""
    nll: Estimate
    """Held-out, nats per token."""
    bits_per_byte: Estimate
    leaks: Mapping[str, Leak]
    """By attack."""
    epoch: int | None = None
    """The epochs after which the plain run left it; None for every other student."""
    n_replaced: int | None = None
    """Modules that a surgery replaced; None where there was none."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to distil, with all its seeds."""

    method: str
    """A name of the table of methods, or plain."""
    summary: str
    students: tuple[Student, ...]
    """By seed."""
    attacks: Mapping[str, AttackResult]
    """Its audit, as `attack` makes one of the teacher and the arm's students, named by seed: student, student-2.
    Gates are held against it; it has nothing that no gate can name."""
    placed: Mapping[str, Mapping[str, Placed]]
    """By attack, then metric (auc, tpr@0.01): the arm beside the plain checkpoints."""
    finding: Finding
    """By the attack that the verdict rests on."""
    reason: str = ""
    """Why there is no evidence, or whose risk is moved."""
    is_plain: bool = False
    """Whether it is a plain run, at its end or before: a point of the frontier itself."""
    control_of: str | None = None
    """The arm for which this one does at random what that one does by choice."""
    subsets: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """Secondary: the AUC over the `kept` and over the `dropped` members alone, by subset, then attack; and the finished
    plain student's over the same members, `kept_plain` and `dropped_plain`."""
    kept_change: Mapping[str, Difference] = field(default_factory=dict)
    """By attack: the AUC over the kept members minus the finished plain student's over the same, paired, first seed."""
    gates: tuple[GateResult, ...] = ()
    """Judged at upper bounds of level 1 - 0.05 / arms."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mitigation:
    """Everything in mitigation.json."""

    kdaudit_version: str
    models: Mapping[str, AuditedModel]
    """The teacher and the student's start."""
    data: ComparedRecords
    attack: str
    """What the verdicts rest on, with `metric`."""
    metric: str
    plain: tuple[Student, ...]
    """The plain run after every epoch, seed after seed."""
    frontier: Mapping[str, Mapping[str, tuple[PlainPoint, ...]]]
    """By attack, then metric: the untrained start, the plain run's checkpoints, and the ends of the further plain runs,
    each the mean over seeds."""
    arms: Mapping[str, Arm]
    """In the order in which they are shown."""
    validity: Validity
    """Whether members and held-out records can be told apart by what no model remembers: then no finding counts."""
    config: Mapping[str, Any]
    recommended: str | None = None
    """The arm of the lowest held-out loss among those that pass every gate and move no risk to other members; None
    where none does or no gate is set."""
    warnings: tuple[str, ...] = ()
    mixed_supervision: SupervisionEffect | None = None
    """What the teacher's word adds on the members that it gives away; None without an arm of hard labels alone."""
    measured: str = ""
    """The day, as 2030-01-31; empty in files of older versions."""
    command: str = ""
    """That made it; empty where none is known."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The libraries that distilled and measured, with their versions."""

    def __post_init__(self) -> None:
        """A ValueError where the day is none."""
        check_day(self.measured)

    @property
    def is_failed(self) -> bool:
        """Whether gates were set and no arm passes them all."""
        return self.recommended is None and any(arm.gates for arm in self.arms.values())


def to_json(mitigation: Mitigation) -> dict[str, Any]:
    """The table in the fixed layout of its file: dicts, lists, strings, booleans, finite numbers and None.

    Raises:
        ValueError: a number is NaN or infinite; the message says which.
    """
    return {"schema": SCHEMA, **encode(mitigation, "mitigation")}


def save(mitigation: Mitigation, path: Path) -> None:
    """Write the table; a reader finds the old file or the whole new one, and equal tables give equal bytes.

    Raises:
        OutputError: the file cannot be written.
        DiskFullError: no space is left; an older file is still whole.
    """
    write_text(path, to_text(mitigation))


def to_text(mitigation: Mitigation) -> str:
    """The table as its file holds it; indented by 1, for most of it are long lists of quantiles.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(to_json(mitigation), indent=1, allow_nan=False) + "\n"


def load(path: Path) -> Mitigation:
    """Read a table that `save` wrote; keys that this version does not know are ignored.

    Raises:
        ConfigError: the file cannot be read, is too large, is no JSON, or holds no table of this schema.
    """
    layout = parse(path, kind="mitigation", hint=HINT)
    try:
        schema = layout.get("schema") if isinstance(layout, dict) else None
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema!r:.40}, and this version of kdaudit reads {SCHEMA!r}")
        mitigation: Mitigation = decode(Mitigation, layout, "")
        _check(mitigation)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", hint=HINT) from error
    return mitigation


def _check(mitigation: Mitigation) -> None:
    """Refuse names that point nowhere: a report would fall over them."""
    if not mitigation.arms:
        raise ValueError("arms is empty")
    if mitigation.recommended is not None and mitigation.recommended not in mitigation.arms:
        raise ValueError(f"recommended is {mitigation.recommended!r:.40}, which is not an arm")
    for name, arm in mitigation.arms.items():
        if arm.control_of is not None and arm.control_of not in mitigation.arms:
            raise ValueError(f"arms.{name}.control_of is {arm.control_of!r:.40}, which is not an arm")
        if not arm.students:
            raise ValueError(f"arms.{name}.students is empty")
        if not {*mitigation.frontier} <= {*arm.attacks}:
            raise ValueError(f"arms.{name}.attacks has not all of {', '.join(mitigation.frontier)}")
        models = {"teacher", *student_names(len(arm.students))}
        for attack, audit in arm.attacks.items():
            if lacking := sorted(models - {*audit.cells}):
                raise ValueError(f"arms.{name}.attacks.{attack}.cells has no {lacking[0]}")
        wanted = [(attack, metric) for attack, metrics in mitigation.frontier.items() for metric in metrics]
        for attack, metric in [*wanted, (mitigation.attack, mitigation.metric)]:
            if metric not in arm.placed.get(attack, {}):
                raise ValueError(f"arms.{name}.placed has no {metric} of {attack}")
    students = [*mitigation.plain, *(student for arm in mitigation.arms.values() for student in arm.students)]
    for attack in mitigation.frontier:
        if any(attack not in student.leaks for student in students):
            raise ValueError(f"a student has no leaks.{attack}")
    if mitigation.metric not in mitigation.frontier.get(mitigation.attack, {}):
        raise ValueError(f"frontier has no {mitigation.metric} of {mitigation.attack}")
