"""From the students' figures to the table of arms: findings, gates, and which arm is recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import kdaudit
from kdaudit.audit.assess import Judging, assess_attack
from kdaudit.audit.lineage import LOWER_BOUNDS
from kdaudit.audit.run import describe_validity
from kdaudit.audit.scoring import Scores
from kdaudit.config import student_names
from kdaudit.distill.prepare import Prepared
from kdaudit.draws import generator
from kdaudit.metrics.estimate import Difference
from kdaudit.metrics.frontier import Frontier, Placed
from kdaudit.metrics.replicates import Metric
from kdaudit.metrics.validity import blind_baseline, overlap
from kdaudit.mitigate.base import Operation, Selection
from kdaudit.mitigate.figures import Roster, frontiers, leaks, subset_aucs, utility
from kdaudit.mitigate.scoring import Scored, is_scored
from kdaudit.mitigate.settings import MitigateConfig
from kdaudit.results import GateResult, Validity
from kdaudit.results.mitigation import Arm, Mitigation, Student
from kdaudit.verdict import Gate, judge
from kdaudit.verdict.rules import ALPHA

METRIC: Metric = "auc"
EARLY_STOP = "early-stop"
ON_IT = "it is a point of the frontier itself"
NOT_COMPARABLE = "members and held-out records differ without any model"
CONTROL = "leaves out as many members at random"


@dataclass(frozen=True, slots=True)
class Made:
    """What was done to make the students of the arms."""

    roster: Roster
    operations: Mapping[str, Operation]
    """By arm, where the start was changed."""
    selections: Mapping[str, Selection]
    """By method, where members were left out."""


def make_table(config: MitigateConfig, prepared: Prepared, scored: Scored, made: Made) -> Mitigation:
    """Measure every arm, judge its gates, and name the one to take."""
    texts, n_members, seed = (
        [r.text for r in scored.data.records],
        len(scored.data.members),
        config.distill.records_seed,
    )
    blind = blind_baseline(texts[:n_members], texts[n_members:], rng=generator(seed, "blind baseline"))
    plan = replace(scored.plan, warnings=tuple(w for w in scored.plan.warnings if w not in scored.data.notes))
    validity = describe_validity(blind, overlap(texts[:n_members], texts[n_members:]), scored.data, plan)
    judging = Judging(n_members, scored.parts, blind, seed)
    placed = frontiers(scored, made.roster, judging)
    students = _students(config, scored, made, judging)
    arms = _arms(config, students, placed, made, validity)
    arms = _with_subsets(arms, scored, made, judging)
    if config.gates:
        level = 1 - ALPHA / max(len(arms), 1)
        gates = {
            name: _judge(scored, judging, _folders(config, arm), config.parsed_gates(), validity, level)
            for name, arm in arms.items()
        }
        arms = {name: replace(arm, gates=gates[name]) for name, arm in arms.items()}
    return Mitigation(
        kdaudit_version=kdaudit.__version__,
        models={"teacher": prepared.models.teacher.describe(), "start": prepared.models.start.describe()},
        data={"members": n_members, "nonmembers": len(scored.data.nonmembers), "sha256": scored.data.sha256},
        attack=scored.attacks[0],
        metric=METRIC,
        plain=tuple(students[folder] for run in made.roster.plain for folder in run),
        frontier={
            attack: {metric: found.epochs for metric, found in by_metric.items()}
            for attack, by_metric in placed.items()
        },
        arms=arms,
        config=_describe_config(config),
        recommended=_recommended(arms) if config.gates else None,
        validity=validity,
        warnings=(*_warnings(config), *_not_scored(scored)),
    )


def _students(config: MitigateConfig, scored: Scored, made: Made, judging: Judging) -> dict[Path, Student]:
    leaking = leaks(scored, made.roster, judging)
    found = {}
    rows = [
        *((folder, k, epoch, None) for k, run in enumerate(made.roster.plain) for epoch, folder in enumerate(run, 1)),
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
    placed: Mapping[str, Mapping[Metric, Frontier]],
    made: Made,
    validity: Validity,
) -> dict[str, Arm]:
    attack = next(iter(placed))
    found = {}
    for arm in config.arms:
        of_arm: dict[str, dict[str, Placed]] = {
            name: {metric: one.arms[arm.name] for metric, one in by_metric.items()}
            for name, by_metric in placed.items()
        }
        verdict = of_arm[attack][METRIC]
        operation = made.operations.get(arm.name)
        found[arm.name] = Arm(
            method=arm.method.name,
            summary=CONTROL if arm.control_of else arm.method.summary,
            students=tuple(students[folder] for folder in made.roster.arms[arm.name]),
            placed=of_arm,
            finding=verdict.finding,
            reason=verdict.reason,
            control_of=arm.control_of,
            warnings=(*(operation.warnings if operation else ()), *_unscored(made.selections.get(arm.method.name))),
        )
    found |= _early_stops(config, students, placed, made) if config.stops_early else {}
    if validity.status == "failed":
        found = {name: replace(arm, finding="no evidence", reason=NOT_COMPARABLE) for name, arm in found.items()}
    return found


def _early_stops(
    config: MitigateConfig,
    students: Mapping[Path, Student],
    placed: Mapping[str, Mapping[Metric, Frontier]],
    made: Made,
) -> dict[str, Arm]:
    """The plain run's epochs but the last, each an arm that a gate may pass; on the frontier by definition."""
    (method,) = (method for method in config.chosen if method.is_plain)
    found = {}
    for epoch in range(1, len(made.roster.plain[0])):
        of_arm: dict[str, dict[str, Placed]] = {
            name: {metric: _on_frontier(one, epoch) for metric, one in by_metric.items()}
            for name, by_metric in placed.items()
        }
        found[f"{EARLY_STOP}-{epoch}"] = Arm(
            method=method.name,
            summary=f"stops the plain run after epoch {epoch}",
            students=tuple(students[run[epoch - 1]] for run in made.roster.plain),
            placed=of_arm,
            finding="no evidence",
            reason=ON_IT,
        )
    return found


def _on_frontier(frontier: Frontier, epoch: int) -> Placed:
    if not frontier.epochs:
        return Placed(None, None, Difference(None, reason=ON_IT), "no evidence", ON_IT)
    point = frontier.epochs[epoch - 1]
    return Placed(point, point.leak, Difference(None, reason=ON_IT), "no evidence", ON_IT)


def _with_subsets(arms: Mapping[str, Arm], scored: Scored, made: Made, judging: Judging) -> dict[str, Arm]:
    """Where members were left out: the AUC of those kept and of those dropped, for the first seed's student."""
    found = dict(arms)
    for name, arm in arms.items():
        selection = made.selections.get(arm.method)
        if selection is None:
            continue
        kept = selection.control if arm.control_of else selection.kept
        dropped = np.setdiff1d(np.arange(judging.n_members), kept)
        folder = made.roster.arms[name][0]
        found[name] = replace(
            arm,
            subsets={
                subset: subset_aucs(scored, folder, members, judging)
                for subset, members in (("kept", kept), ("dropped", dropped))
            },
        )
    return found


def _judge(
    scored: Scored, judging: Judging, folders: Sequence[Path], gates: Sequence[Gate], validity: Validity, level: float
) -> tuple[GateResult, ...]:
    """Every gate on every seed's student, at upper bounds of `level`."""
    names = dict(zip(student_names(len(folders)), (scored.subject_of[folder] for folder in folders), strict=True))
    known = {"teacher": "teacher", **names}
    attacks = {}
    for plan in scored.plan.attacks:
        by_model = scored.scores.by_attack[plan.attack.name]
        own = replace(plan, obstacles={name: plan.obstacles[subject] for name, subject in known.items()})
        values = {name: by_model[subject] for name, subject in known.items() if subject in by_model}
        attacks[plan.attack.name] = assess_attack(own, Scores({plan.attack.name: values}, {}, False, {}), judging)
    each = [
        replace(gate, subject=name)
        for gate in gates
        for name in (names if gate.subject == "student" else [gate.subject])
    ]
    return judge(attacks, validity, each, pass_level=level).gates


def _folders(config: MitigateConfig, arm: Arm) -> list[Path]:
    return [config.out / student.checkpoint for student in arm.students]


def _recommended(arms: Mapping[str, Arm]) -> str | None:
    """The arm of the lowest held-out loss, the mean over seeds, among those that pass every gate."""
    passing = [name for name, arm in arms.items() if all(gate.status == "pass" for gate in arm.gates)]
    return min(passing, key=lambda name: mean_nll(arms[name].students), default=None)


def mean_nll(students: Sequence[Student]) -> float:
    """Held-out, nats per token, the mean over seeds."""
    return float(np.mean([student.nll.value for student in students if student.nll.value is not None]))


def _unscored(selection: Selection | None) -> tuple[str, ...]:
    if selection is None or not selection.n_unscored:
        return ()
    return (f"{selection.n_unscored} members could not be scored on the teacher and were kept",)


def _warnings(config: MitigateConfig) -> tuple[str, ...]:
    saw = config.distill.teacher_saw
    found = [LOWER_BOUNDS.format(saw=saw)] if saw in {"train", "unknown"} else []
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
        "gates": [str(gate) for gate in config.parsed_gates()],
        "vulnerability_attack": config.vulnerability_attack,
        **{f"strength_{name}": getattr(config.strength, name) for name in config.strength.__slots__},
    }
