"""Students and teacher scored on the same records, through the stages of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdaudit.attacks import read_settings, write_settings
from kdaudit.audit.data import AuditData
from kdaudit.audit.measure import Progress
from kdaudit.audit.plan import Plan, Subject, make_plan
from kdaudit.audit.scoring import Scores
from kdaudit.audit.stages import plan_audit, score_plan, split_records
from kdaudit.config import AuditConfig, student_names
from kdaudit.distill.prepare import Prepared
from kdaudit.distill.start import is_reference
from kdaudit.draws import generator
from kdaudit.errors import ConfigError
from kdaudit.manifest import record_id
from kdaudit.metrics.scores import Floats, Parts
from kdaudit.mitigate import non_vulnerable
from kdaudit.mitigate.base import Method, Selection
from kdaudit.mitigate.settings import ATTACKED_BY, MitigateConfig
from kdaudit.models.checkpoint import find
from kdaudit.signals.likelihoods import Likelihoods

SIGNALS = "signals"


@dataclass(frozen=True, slots=True)
class Scored:
    """All students and the teacher on all original members and the held-out records."""

    plan: Plan
    data: AuditData
    scores: Scores
    parts: Parts
    subject_of: Mapping[Path, str]
    """By a student's folder: the name that the plan and the scores know it by."""

    def subject(self, folder: Path) -> Subject:
        """A student as the plan knows it."""
        return next(one for one in self.plan.subjects if one.name == self.subject_of[folder])

    def likelihoods(self, folder: Path) -> Likelihoods:
        """What a student makes of each record."""
        return self.scores.likelihoods[self.subject(folder).checkpoint.fingerprint]

    @property
    def attacks(self) -> tuple[str, ...]:
        """Those that ran on the students, first the one that verdicts rest on."""
        first = next(iter(self.subject_of.values()))
        ran = {one.attack.name for one in self.plan.attacks if first in one.runs_on}
        return tuple(name for name in ATTACKED_BY if name in ran)


def score_students(
    config: MitigateConfig, prepared: Prepared, folders: Sequence[Path], *, on_progress: Progress
) -> Scored:
    """Score every student with every attack; signals that are on disk are not measured again.

    Every student has the reference of the plain ones: an arm's own changed start could only blunt the attack.

    Args:
        config: of the comparison.
        prepared: the plain run.
        folders: of the students; the first has a manifest.
        on_progress: told about text tokens.

    Raises:
        KdauditError: as an audit.
    """
    reference = _student_reference(prepared)
    asked = _audit_config(config, prepared, tuple(map(str, folders)), (reference,) * len(folders))
    planned = plan_audit(asked, ())
    plan, data = planned.plan, planned.data
    scores = score_plan(plan, config.out / SIGNALS, on_progress=on_progress)
    parts = split_records(data, share=planned.config.calibration_share, seed=planned.config.seed)
    names = student_names(len(folders))
    return Scored(plan, data, scores, parts, dict(zip(folders, names, strict=True)))


def attack_teacher(config: MitigateConfig, prepared: Prepared, *, on_progress: Progress) -> tuple[Floats, Floats]:
    """Scores of the members and of the held-out records under the attack that says whom the teacher gives away.

    Raises:
        ConfigError: the attack cannot run on the teacher.
    """
    name = config.vulnerability_attack
    asked = _audit_config(config, prepared, (str(prepared.models.start.folder),), (), attacks=(name,))
    reference = None
    if asked.teacher_reference is not None:
        reference = find(asked.teacher_reference, option="--teacher-reference", load=asked.teacher_load,
                         kind=asked.kind, allow_pickle=asked.allow_pickle,
                         trust_remote_code=asked.trust_remote_code)  # fmt: skip
    teacher = Subject("teacher", prepared.models.teacher, reference)
    members, held_out = prepared.assignment.members, prepared.assignment.held_out
    sets = tuple(found for found in (prepared.train, prepared.nonmembers) if found is not None)
    data = AuditData(members, held_out, shots=(), sets=sets, is_shots_drawn=False)
    try:
        plan = make_plan(asked, (teacher,), data)
    except ConfigError as error:
        raise ConfigError(
            f"--vulnerability-attack {name}: {str(error).partition(': ')[2]}",
            hint="give --teacher-reference, the checkpoint that the teacher started from, or choose another attack",
        ) from error
    scores = score_plan(plan, config.out / SIGNALS, on_progress=on_progress).by_attack[name]["teacher"]
    return scores[: len(members)], scores[len(members) :]


def select_members(prepared: Prepared, method: Method, scores: tuple[Floats, Floats]) -> Selection:
    """Which members a method trains on, by what the teacher gives away.

    Raises:
        ConfigError: the attack detects no member or every one.
        InsufficientDataError: there are too few non-members.
    """
    if method.select is None:
        raise ValueError(f"{method.name} leaves nobody out")
    return method.select(*scores, _selecting(prepared))


def find_vulnerable(prepared: Prepared, scores: tuple[Floats, Floats]) -> NDArray[np.bool_]:
    """(n,), the members that the teacher gives away: the same ones that `non-vulnerable` leaves out.

    Raises:
        InsufficientDataError: there are too few non-members.
    """
    return non_vulnerable.detected(*scores, _selecting(prepared))


def _selecting(prepared: Prepared) -> np.random.Generator:
    return generator(prepared.config.records_seed, f"select {non_vulnerable.METHOD.name}")


def member_ids(prepared: Prepared) -> tuple[str, ...]:
    """Keyed ids of all members, in order."""
    return tuple(record_id(prepared.key, record.text) for record in prepared.assignment.members)


def is_scored(scored: Scored, attack: str) -> NDArray[np.bool_]:
    """(n,), records that the attack could score on every student: only those are compared."""
    of_students = [scored.scores.by_attack[attack][name] for name in scored.subject_of.values()]
    return np.asarray(np.isfinite(np.array(of_students)).all(axis=0))


def split(values: Floats, n_members: int, is_kept: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The kept values of members and of held-out records."""
    return values[:n_members][is_kept[:n_members]], values[n_members:][is_kept[n_members:]]


def _audit_config(
    config: MitigateConfig,
    prepared: Prepared,
    students: tuple[str, ...],
    references: tuple[str | None, ...],
    *,
    attacks: tuple[str, ...] = (),
) -> AuditConfig:
    distill = config.distill
    known = tuple(name for name in ATTACKED_BY if name != "reference" or any(references))
    names = attacks or known
    settings = {name: found for name, found in read_settings(config.settings).items() if name in names}
    return AuditConfig(
        teacher=distill.teacher,
        students=students,
        train=distill.train,
        nonmembers=distill.nonmembers,
        key_file=distill.key_file,
        teacher_reference=_teacher_reference(config, prepared),
        student_references=references if any(references) else (),
        attacks=names,
        settings=write_settings(settings),
        out=config.out,
        seed=distill.records_seed,
        max_tokens=prepared.models.window,
        device=distill.device,
        dtype=distill.dtype,
        teacher_load=distill.teacher_load,
        teacher_base=distill.teacher_base,
        student_load=distill.student_load,
        kind=distill.kind,
        trust_remote_code=distill.trust_remote_code,
        allow_pickle=distill.allow_pickle,
    )


def attacks_of(prepared: Prepared) -> tuple[str, ...]:
    """The attacks on the students, first the one that findings rest on."""
    return tuple(name for name in ATTACKED_BY if name != "reference" or _student_reference(prepared))


def start_to_score(prepared: Prepared) -> Path | None:
    """The untrained start, where it is scored like a student; None where it is the students' reference anyhow."""
    start, teacher = prepared.models.start, prepared.models.teacher
    is_scored = _student_reference(prepared) is None and start.weights_sha256 != teacher.weights_sha256
    return start.folder if is_scored else None


def _student_reference(prepared: Prepared) -> str | None:
    """What the plain students started from; None where it may have seen the members."""
    return str(prepared.models.start.folder) if is_reference(prepared.config) else None


def _teacher_reference(config: MitigateConfig, prepared: Prepared) -> str | None:
    """As given, else the student's start, where that has not seen the members."""
    start, teacher = prepared.models.start, prepared.models.teacher
    is_own = start.weights_sha256 == teacher.weights_sha256
    return config.teacher_reference or (None if is_own else _student_reference(prepared))
