"""The stages that every audit passes, alone or as part of a comparison of mitigations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdaudit import records
from kdaudit.attacks.base import Attack
from kdaudit.audit.assess import Judging
from kdaudit.audit.data import AuditData, read_data
from kdaudit.audit.earlier import Earlier, check_fits, check_records, read_earlier
from kdaudit.audit.lineage import Lineage, check_lineage, trace
from kdaudit.audit.measure import Progress
from kdaudit.audit.plan import FROM_HEADERS, Plan, find_subjects, is_shown_shots, make_plan, on_disk
from kdaudit.audit.references import check_references
from kdaudit.audit.renderings import show_each
from kdaudit.audit.scoring import Scores
from kdaudit.audit.units import Measure, measure_alone, work_of
from kdaudit.audit.validity import describe_validity
from kdaudit.config import AuditConfig
from kdaudit.draws import generator
from kdaudit.metrics.scores import Parts, split_parts
from kdaudit.metrics.texts import overlap
from kdaudit.metrics.validity import blind_baseline
from kdaudit.models.devices import computes_on, settle_spread
from kdaudit.models.headers import check_headers
from kdaudit.models.loading import choose_device
from kdaudit.records import Read, texts_of
from kdaudit.results import Validity


@dataclass(frozen=True, slots=True)
class Planned:
    """An audit before its first forward pass."""

    config: AuditConfig
    """As the students' manifests complete it."""
    lineage: Lineage
    data: AuditData
    plan: Plan
    earlier: Earlier | None = None
    """The run that scored the teacher."""


def plan_audit(
    config: AuditConfig, attacks: Sequence[Attack], *, read_source: Read = records.read, only_plan: bool = False
) -> Planned:
    """Read the records, find the checkpoints, and settle what runs on what.

    Args:
        config: of the audit.
        attacks: those for which non-members may have to be taken out as shots; none where nothing may.
        read_source: gives the records of a source.
        only_plan: it is shown and not run: no weights are read, not even for a hash.

    Raises:
        KdauditError: something that was given cannot be used.
    """
    config, lineage = trace(config)
    earlier = read_earlier(config.teacher_run) if config.teacher_run is not None else None
    recorded = earlier.subject if earlier else None
    subjects = find_subjects(config, lineage.loads, recorded=recorded, is_hashed=not only_plan)
    needs_shots = any(attack.needs_shots and is_shown_shots(attack, config, subjects[0]) for attack in attacks)
    data = read_data(config, lineage, needs_shots=needs_shots, read_source=read_source)
    for subject in subjects if not only_plan else ():
        check_lineage(lineage, subject.name, subject.checkpoint, subject.reference)
    device = computes_on(settle_spread(config, only_plan=only_plan), choose_device(config.device))
    for checkpoint in on_disk(subjects).values():
        check_headers(checkpoint, device)
    data = show_each(data, subjects, config, lineage)
    if earlier is not None:
        check_records(earlier, data, config)
    notes = (FROM_HEADERS,) if only_plan else check_references(subjects, lineage)
    if earlier is None:
        return Planned(config, lineage, data, make_plan(config, subjects, data, notes=notes, only_plan=only_plan))
    notes = (*notes, earlier.note)
    plan = make_plan(config, subjects, data, notes=notes, splits=earlier.splits, only_plan=only_plan)
    check_fits(earlier, plan, data, config)
    return Planned(config, lineage, data, plan, earlier)


def score_plan(
    plan: Plan, signals: Path, *, on_progress: Progress, with_paper: bool = False, measure: Measure = measure_alone
) -> Scores:
    """Run every forward pass of a plan whose signals are not on disk yet, and score every record.

    Args:
        plan: what to run.
        signals: folder of their cache.
        on_progress: told about text tokens.
        with_paper: also score with the settings of the paper.
        measure: sees to it that all units are measured.
    """
    work = work_of(plan, signals, with_paper=with_paper)
    measure(work, on_progress=on_progress)
    return work.scores()


def split_records(data: AuditData, *, share: float, seed: int) -> Parts:
    """The calibration and the evaluation part of the records."""
    return split_parts(len(data.members), len(data.nonmembers), share=share, rng=generator(seed, "parts"))


def compare_sets(plan: Plan, data: AuditData, scores: Scores, parts: Parts, *, seed: int) -> tuple[Judging, Validity]:
    """What every attack is judged with, and whether the two sets can be compared at all."""
    texts, n_members = texts_of(data.records), len(data.members)
    blind = blind_baseline(texts[:n_members], texts[n_members:], rng=generator(seed, "blind baseline"))
    shared = overlap(texts[:n_members], texts[n_members:])
    starts = {one.name: one.reference.fingerprint for one in plan.subjects if one.reference is not None}
    judging = Judging(n_members, parts, blind, seed, starts=starts)
    return judging, describe_validity(blind, shared, data, plan, scores)
