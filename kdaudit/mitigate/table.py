"""From the students' figures to the table of arms: findings, gates, and which arm is recommended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import kdaudit
from kdaudit.attacks import read_settings, write_settings
from kdaudit.audit.assess import Judging, assess_attack
from kdaudit.audit.folder import library_versions
from kdaudit.audit.lineage import LOWER_BOUNDS
from kdaudit.audit.run import describe_checkpoint, describe_sources
from kdaudit.audit.scoring import Scores
from kdaudit.audit.stages import compare_sets
from kdaudit.config import student_names
from kdaudit.distill.prepare import Prepared
from kdaudit.metrics import METRICS
from kdaudit.metrics.frontier import Frontier, Placed, Point
from kdaudit.metrics.replicates import PLACED_BY
from kdaudit.metrics.scores import Integers
from kdaudit.mitigate import METHODS
from kdaudit.mitigate.base import Operation, Selection
from kdaudit.mitigate.figures import (
    MIN_GROUP,
    Groups,
    Roster,
    frontiers,
    leaks,
    mixed_supervision,
    subset_aucs,
    utility,
)
from kdaudit.mitigate.scoring import Scored, is_scored
from kdaudit.mitigate.settings import PLAIN, MitigateConfig, further_name
from kdaudit.results import AttackResult, ComparedRecords
from kdaudit.results.mitigation import Arm, Mitigation, Student
from kdaudit.verdict.mitigation import judge_arms

T = TypeVar("T")

METRIC = PLACED_BY[0]
VULNERABLE, OTHERS = "given away", "the others"
"""Members that the attack detects in the teacher, and those that it does not."""
ON_IT = "it is a point of the frontier itself"
NOT_COMPARABLE = "members and held-out records can be told apart by what no model remembers"
CONTROL = "leaves out as many members at random"


@dataclass(frozen=True, slots=True)
class Made:
    """What was done to make the students of the arms."""

    roster: Roster
    operations: Mapping[str, Operation]
    """By arm, where the start was changed."""
    selections: Mapping[str, Selection]
    """By method, where members were left out."""
    groups: Groups
    command: str = ""
    """As the user typed it."""
    measured: str = ""
    """The day."""


def make_table(config: MitigateConfig, prepared: Prepared, scored: Scored, made: Made) -> Mitigation:
    """Measure every arm, judge its gates, and name the one to take."""
    n_members = len(scored.data.members)
    plan = replace(scored.plan, warnings=tuple(w for w in scored.plan.warnings if w not in scored.data.notes))
    seed = config.distill.records_seed
    judging, validity = compare_sets(plan, scored.data, scored.scores, scored.parts, seed=seed)
    controls = {arm.name: arm.control_of for arm in config.arms if arm.control_of is not None}
    placed = frontiers(scored, made.roster, judging, _groups(config, made, n_members), controls)
    students = _students(config, scored, made, judging)
    arms = _arms(config, students, placed, made, lambda folders: _audit(scored, judging, folders, students))
    if validity.status == "failed":
        arms = {name: _without_evidence(arm) for name, arm in arms.items()}
    arms = _with_subsets(arms, scored, made, judging)
    table = Mitigation(
        kdaudit_version=kdaudit.__version__,
        models={
            "teacher": describe_checkpoint(prepared.models.teacher),
            "start": describe_checkpoint(prepared.models.start),
        },
        data=ComparedRecords(n_members, len(scored.data.nonmembers), scored.data.sha256, describe_sources(scored.data)),
        attack=scored.attacks[0],
        metric=METRIC,
        plain=tuple(students[folder] for run in made.roster.whole_epochs for folder in run),
        frontier={
            attack: {metric: found.points for metric, found in by_metric.items()}
            for attack, by_metric in placed.items()
        },
        arms=arms,
        validity=validity,
        config=_describe_config(config),
        mixed_supervision=mixed_supervision(scored, made.roster, made.groups, judging),
        warnings=(*_warnings(config, made.groups), *_not_scored(scored)),
        measured=made.measured,
        command=made.command,
        versions=library_versions(),
    )
    return judge_arms(table, config.parsed_gates())


def _groups(config: MitigateConfig, made: Made, n_members: int) -> dict[str, dict[str, Integers]]:
    """By arm the groups of members that its finding rests on.

    Kept and dropped members where it leaves members out, else those that the teacher gives away and the others.
    """
    everyone, is_vulnerable = np.arange(n_members), made.groups.is_vulnerable
    found: dict[str, dict[str, Integers]] = {}
    for arm in config.arms:
        selection = made.selections.get(arm.method.name)
        if selection is not None:
            kept = _kept(selection, is_control=arm.control_of is not None)
            groups = {"kept": kept, "dropped": np.setdiff1d(everyone, kept)}
            found[arm.name] = {name: members for name, members in groups.items() if members.size >= MIN_GROUP}
        elif is_vulnerable is not None:
            found[arm.name] = {VULNERABLE: np.flatnonzero(is_vulnerable), OTHERS: np.flatnonzero(~is_vulnerable)}
        else:
            found[arm.name] = {}
    return found


def _kept(selection: Selection, *, is_control: bool) -> Integers:
    return selection.control if is_control else selection.kept


def _students(config: MitigateConfig, scored: Scored, made: Made, judging: Judging) -> dict[Path, Student]:
    leaking = leaks(scored, made.roster, judging)
    found = {}
    rows = [
        *(
            (folder, k, epoch, None)
            for k, run in enumerate(made.roster.whole_epochs)
            for epoch, folder in enumerate(run, 1)
        ),
        *((folder, k, None, None) for run in made.roster.further.values() for k, folder in enumerate(run)),
        *(
            (folder, k, None, made.operations.get(name))
            for name, run in made.roster.arms.items()
            for k, folder in enumerate(run)
        ),
    ]
    for folder, k, epoch, operation in rows:
        nll, bits_per_byte = utility(scored, folder, judging.seed)
        found[folder] = Student(
            seed=config.training_seeds[k],
            checkpoint=folder.relative_to(config.out).as_posix(),
            nll=nll,
            bits_per_byte=bits_per_byte,
            leaks=leaking[folder],
            epoch=epoch,
            n_replaced=operation.n_replaced if operation else None,
        )
    return found


def _arms(
    config: MitigateConfig,
    students: Mapping[Path, Student],
    placed: Mapping[str, Mapping[str, Frontier]],
    made: Made,
    audit: Callable[[Sequence[Path]], Mapping[str, AttackResult]],
) -> dict[str, Arm]:
    """The plain runs, then every method's arms, then the plain run's earlier epochs where they were asked for."""
    n_epochs = made.roster.n_epochs

    def on_frontier(run: int, epoch: int, folders: Sequence[Path], method: str, summary: str) -> Arm:
        """A plain run at its end, or after an epoch: an arm that a gate may pass, and on the frontier by definition."""
        return Arm(
            method=method,
            summary=summary,
            students=tuple(students[folder] for folder in folders),
            attacks=audit(folders),
            placed={
                name: {metric: _on_frontier(one, run, epoch) for metric, one in by_metric.items()}
                for name, by_metric in placed.items()
            },
            finding="no evidence",
            reason=ON_IT,
            is_plain=True,
        )

    found = {PLAIN: on_frontier(n_epochs, n_epochs, made.roster.finished, PLAIN, "distils as asked, to the end")}
    for epochs, folders in made.roster.further.items():
        summary = f"distils as asked, but for {epochs} {'epochs' if epochs > 1 else 'epoch'}"
        found[further_name(epochs)] = on_frontier(epochs, epochs, folders, PLAIN, summary)
    for arm in config.arms:
        of_arm: dict[str, dict[str, Placed]] = {
            name: {metric: one.arms[arm.name] for metric, one in by_metric.items()}
            for name, by_metric in placed.items()
        }
        verdict = of_arm[next(iter(placed))][METRIC]
        operation = made.operations.get(arm.name)
        folders = made.roster.arms[arm.name]
        found[arm.name] = Arm(
            method=arm.method.name,
            summary=CONTROL if arm.control_of else arm.method.summary,
            students=tuple(students[folder] for folder in folders),
            attacks=audit(folders),
            placed=of_arm,
            finding=verdict.finding,
            reason=verdict.reason,
            control_of=arm.control_of,
            warnings=(*(operation.warnings if operation else ()), *_of_selection(made.selections.get(arm.method.name))),
        )
    for method in (method for method in config.chosen if method.is_plain):
        for epoch in range(1, n_epochs):
            stopped = [run[epoch - 1] for run in made.roster.whole_epochs]
            summary = f"stops the plain run after epoch {epoch}"
            found[f"{method.name}-{epoch}"] = on_frontier(n_epochs, epoch, stopped, method.name, summary)
    return found


def _on_frontier(frontier: Frontier, run: int, epoch: int) -> Placed:
    of_run = {(point.run, point.epochs): point for point in frontier.points}
    found = of_run.get((run, epoch))
    return Placed(None if found is None else Point(found.nll, found.leak), {}, "no evidence", ON_IT)


def _without_evidence(arm: Arm) -> Arm:
    """The arm where nothing that was measured says anything about membership."""
    placed = {
        attack: {
            metric: replace(one, finding="no evidence", reason=NOT_COMPARABLE) for metric, one in by_metric.items()
        }
        for attack, by_metric in arm.placed.items()
    }
    return replace(arm, placed=placed, finding="no evidence", reason=NOT_COMPARABLE)


def _with_subsets(arms: Mapping[str, Arm], scored: Scored, made: Made, judging: Judging) -> dict[str, Arm]:
    """Where members were left out: the AUC of those kept and of those dropped, for the first seed's student.

    Beside them the finished plain student's on the same members: the choice alone moves an AUC.
    """
    found = dict(arms)
    for name, arm in arms.items():
        selection = made.selections.get(arm.method)
        if selection is None:
            continue
        kept = _kept(selection, is_control=arm.control_of is not None)
        dropped = np.setdiff1d(np.arange(judging.n_members), kept)
        folder, plain = made.roster.arms[name][0], made.roster.finished[0]
        of_kept, of_dropped = (subset_aucs(scored, folder, plain, members, judging) for members in (kept, dropped))
        found[name] = replace(
            arm,
            subsets={
                "kept": {attack: own for attack, (own, _, _) in of_kept.items()},
                "kept_plain": {attack: other for attack, (_, other, _) in of_kept.items()},
                "dropped": {attack: own for attack, (own, _, _) in of_dropped.items()},
                "dropped_plain": {attack: other for attack, (_, other, _) in of_dropped.items()},
            },
            kept_change={attack: change for attack, (_, _, change) in of_kept.items()},
        )
    return found


def _audit(
    scored: Scored, judging: Judging, folders: Sequence[Path], students: Mapping[Path, Student]
) -> dict[str, AttackResult]:
    """By attack: the teacher and the students in these folders, by seed; only what a gate can be held against.

    A figure that stands among the students' has their interval: one figure, one interval, in tables and in gates.
    """
    names = dict(zip(student_names(len(folders)), (scored.subject_of[folder] for folder in folders), strict=True))
    known = {"teacher": "teacher", **names}
    starts = {name: judging.starts[subject] for name, subject in known.items() if subject in judging.starts}
    attacks = {}
    for plan in scored.plan.attacks:
        by_model = scored.scores.by_attack[plan.attack.name]
        own = replace(plan, obstacles={name: plan.obstacles[subject] for name, subject in known.items()})
        values = {name: by_model[subject] for name, subject in known.items() if subject in by_model}
        of_arm = Scores({plan.attack.name: values}, {}, False, {}, scored.scores.of_starts)
        found = assess_attack(own, of_arm, replace(judging, starts=starts))
        cells = dict(found.cells)
        for one, folder in zip(names, folders, strict=True):
            leak = students[folder].leaks.get(plan.attack.name)
            if leak is not None and cells[one].status == "ok":
                cells[one] = replace(cells[one], figures={**cells[one].figures, **leak.figures})
        attacks[plan.attack.name] = replace(
            found,
            cells={one: replace(cell, figures=_gateable(cell.figures)) for one, cell in cells.items()},
            comparison={
                one: replace(apart, figures=_gateable(apart.figures)) for one, apart in found.comparison.items()
            },
            curves={},
            histograms={},
            two_by_two={},
        )
    return attacks


def _gateable(figures: Mapping[str, T]) -> dict[str, T]:
    return {name: figure for name, figure in figures.items() if not METRICS[name].not_gated}


def _of_selection(selection: Selection | None) -> tuple[str, ...]:
    if selection is None:
        return ()
    found = []
    if selection.n_unscored:
        found.append(f"{selection.n_unscored} members could not be scored on the teacher and were kept")
    n_kept, n_dropped = selection.kept.size, selection.n_members - selection.kept.size
    for group, n in (("kept", n_kept), ("dropped", n_dropped)):
        if n < MIN_GROUP:
            found.append(f"{n} {group} members are too few to be judged apart, and {MIN_GROUP} are the least")
    return tuple(found)


def _warnings(config: MitigateConfig, groups: Groups) -> tuple[str, ...]:
    saw = config.distill.teacher_saw
    found = [LOWER_BOUNDS.format(saw=saw)] if saw in {"train", "unknown"} else []
    if groups.is_vulnerable is None:
        found.append(
            f"findings rest on all members together, not on those that the teacher gives away: {groups.reason}"
        )
    if config.seeds == 1:
        found.append("one seed cannot tell luck from help: no arm can be found to help (--seeds 3)")
    return tuple(found)


def _not_scored(scored: Scored) -> list[str]:
    counts = {attack: int((~is_scored(scored, attack)).sum()) for attack in scored.attacks}
    return [
        f"{n} records without a score under {attack} are left out for every student"
        for attack, n in counts.items()
        if n
    ]


def _describe_config(config: MitigateConfig) -> dict[str, Any]:
    return {
        **config.distill.identity(),
        "methods": [method.name for method in config.chosen],
        "seeds": list(config.training_seeds),
        "frontier_points": config.frontier_points,
        "plain_epochs": list(config.further),
        "gates": [str(gate) for gate in config.parsed_gates()],
        "vulnerability_attack": config.vulnerability_attack,
        "settings": list(write_settings(read_settings(config.settings))),
        **{f"strength_{one.field}": config.strength(one) for one in METHODS.values() if one.strength},
    }
