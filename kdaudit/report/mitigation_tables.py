"""The tables of a comparison of mitigations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from statistics import fmean

from kdaudit.metrics import METRICS
from kdaudit.metrics.bootstrap import RESAMPLES
from kdaudit.metrics.frontier import ALL, Placed
from kdaudit.report.blocks import Detail, Table
from kdaudit.report.checks import sets_rows
from kdaudit.report.text import ABSENT, counted, difference, interval, number, p_value
from kdaudit.results import GateResult
from kdaudit.results.mitigation import Arm, Mitigation, Student

NOT_MEASURED = "not measured"
ON_FRONTIER = "on the frontier"
SEED = re.compile(r"^student-[0-9]+\.")
"""The beginning of a gate's subject: student-2 is the second seed's student."""
LEAST_P = 1 / RESAMPLES
"""The smallest one-sided p-value of a bootstrap, and a little more."""
WORST_FIRST = ("fail", "inconclusive", "waived", "pass")
SUBSETS = {
    "kept": "AUC, kept",
    "kept_plain": "plain run, the same",
    "dropped": "AUC, dropped",
    "dropped_plain": "plain run, the same",
}
SUBSET_NOTE = (
    "Secondary. Members are dropped because the teacher gives them away, so kept and dropped ones differ by selection "
    "alone: read each beside the plain run on the same members, and beside the control, which drops as many at random. "
    "First seed."
)
FRONTIER_NOTE = (
    "Distance: leak of the arm minus that of the last plain checkpoint that is no more useful; below 0 is better than "
    "stopping earlier. Helps: the 95 % upper bound is below 0 for every group of members. Moves the risk: surely "
    "less for one group, surely more for another. Undertrained: not below 0 over all members."
)


def arms_table(table: Mitigation) -> Table:
    """The plain run's epochs and every other arm, means over seeds: utility, leak, distance, finding."""
    metric = METRICS[table.metric].short
    head = (
        "arm", "finding", "nats per token", "bits per byte", f"{metric} ({table.attack})", "change from plain",
        "distance", "group worst off", "p (Holm)",
    )  # fmt: skip
    rows = [*_plain_rows(table), *(_row(name, arm, table) for name, arm in off_frontier(table).items())]
    seeds = len({student.seed for student in table.plain})
    note = f"Means over {counted(seeds, 'seed')}; distances with 95 % interval. {FRONTIER_NOTE}"
    return Table("Arms", head, rows, note)


def students_table(table: Mitigation, attack: str) -> Table:
    """Every student in a row of its own: utility and the leak under one attack, with intervals."""
    metrics = [metric for metric, points in table.frontier[attack].items() if points]
    shown = [heading for metric in metrics for heading in (METRICS[metric].short, "change")]
    rows = [_student_row(f"plain, epoch {student.epoch}", student, attack, metrics) for student in table.plain]
    for name, arm in table.arms.items():
        rows += [_student_row(name, student, attack, metrics) for student in arm.students if student.epoch is None]
    note = "All original members against all held-out records. Change: minus the finished plain student of that seed."
    head = ("student", "seed", "nats per token", "bits per byte", *shown)
    return Table(f"Every student under {attack}", head, rows, note, detail=Detail.WHOLE)


def frontier_table(table: Mitigation, attack: str, metric: str) -> Table:
    """Every group of members of every arm beside the frontier by one metric of one attack."""
    rows: list[Sequence[str]] = []
    for name, arm in off_frontier(table).items():
        placed = arm.placed[attack][metric]
        nll = number(placed.point.nll if placed.point else None)
        for group, beside in placed.groups.items():
            rows.append(
                (
                    name, nll, group, str(beside.n), number(beside.leak), number(beside.stair),
                    difference(beside.distance), number(beside.next_stair),
                    ABSENT if beside.excess is None else difference(beside.excess),
                )
            )  # fmt: skip
        if not placed.groups:
            leak = number(placed.point.leak if placed.point else None)
            rows.append((name, nll, ALL, ABSENT, leak, ABSENT, placed.reason, ABSENT, ABSENT))
    head = (
        "arm", "nats per token", "group", "members", "leak", "stair", "distance", "next stair", "above next stair",
    )  # fmt: skip
    note = (
        "Stair: leak of the same members under the last plain checkpoint that is no more useful than the arm. Next "
        "stair: under the next one, which is more useful."
    )
    return Table(f"Frontier by {METRICS[metric].short} of {attack}", head, rows, note, detail=Detail.WHOLE)


def subsets_table(table: Mitigation) -> Table | None:
    """The AUC over kept and over dropped members alone; None where no arm drops any."""
    rows = [
        (
            name,
            attack,
            *(interval(arm.subsets.get(subset, {}).get(attack)) for subset in SUBSETS),
        )
        for name, arm in table.arms.items()
        if arm.subsets
        for attack in table.frontier
    ]
    head = ("arm", "attack", *SUBSETS.values())
    return Table("Kept and dropped members apart", head, rows, SUBSET_NOTE, detail=Detail.WHOLE) if rows else None


def gates_table(table: Mitigation) -> Table | None:
    """Every gate on every arm, as its worst seed stands; None where none was set."""
    rows = [
        _gate_row(name, gate, list(results))
        for name, arm in table.arms.items()
        for gate, results in groupby(arm.gates, key=lambda result: SEED.sub("student.", result.gate))
    ]
    level = 100 * (1 - 0.05 / max(len(table.arms), 1))
    note = (
        "The seed that is worst off. Passed where every seed's upper bound of level "
        f"{level:.4g} %, one for {len(table.arms)} arms, is within the limit."
    )
    head = ("arm", "gate", "status", "seeds that pass", "bound", "reason")
    return Table("Limits", head, rows, note, status=2) if rows else None


def _gate_row(arm: str, gate: str, results: Sequence[GateResult]) -> Sequence[str]:
    worst = min(results, key=lambda result: (WORST_FIRST.index(result.status), -(result.bound or 0.0)))
    n_passed = sum(result.status == "pass" for result in results)
    bound = ABSENT if worst.bound is None else f"{worst.bound_side} {worst.bound:.3f}"
    seeds = f"{n_passed} of {len(results)}" if worst.subject.startswith("student") else ABSENT
    return (arm, gate, worst.status, seeds, bound, worst.reason)


def _plain_rows(table: Mitigation) -> Iterator[Sequence[str]]:
    for name, arm in table.arms.items():
        if arm.is_plain and arm.students[0].epoch is None:  # a further plain run
            yield (name, _found(name, ON_FRONTIER, table), *_means(arm.students, table), *[ABSENT] * 3)
    by_epoch: dict[int | None, list[Student]] = {}
    for student in table.plain:
        by_epoch.setdefault(student.epoch, []).append(student)
    names = {arm.students[0].epoch: name for name, arm in table.arms.items()}
    for epoch, students in by_epoch.items():
        name = names.get(epoch, f"plain, epoch {epoch}")
        yield (name, _found(name, ON_FRONTIER, table), *_means(students, table), *[ABSENT] * 3)


def _row(name: str, arm: Arm, table: Mitigation) -> Sequence[str]:
    placed = arm.placed[table.attack][table.metric]
    finding = _found(name, arm.finding, table)
    whole = placed.groups.get(ALL)
    distance = NOT_MEASURED if whole is None else difference(whole.distance)
    return (name, finding, *_means(arm.students, table), distance, _worst_group(placed), _p(placed))


def _p(placed: Placed) -> str:
    """The p-value of an arm, adjusted over the arms, at its floor where no draw of any group speaks against it."""
    found = [beside.distance.p_value for beside in placed.groups.values()]
    return p_value(placed.p_value, is_floor=bool(found) and all(p is not None and p <= LEAST_P for p in found))


def _worst_group(placed: Placed) -> str:
    """The group with the highest upper bound of its distance."""
    groups = {name: beside for name, beside in placed.groups.items() if name != ALL}
    if not groups:
        return ABSENT
    worst = max(groups, key=lambda name: groups[name].distance.high or 0.0)
    return f"{worst} {difference(groups[worst].distance)}"


def _found(name: str, finding: str, table: Mitigation) -> str:
    return f"{finding}, recommended" if name == table.recommended else finding


def _means(students: Sequence[Student], table: Mitigation) -> tuple[str, str, str, str]:
    def leak(student: Student) -> float | None:
        found = student.leaks[table.attack].figures.get(table.metric)
        return found.value if found is not None else None

    def change(student: Student) -> float | None:
        found = student.leaks[table.attack].changes.get(table.metric)
        return found.value if found is not None else None

    is_itself = not any(student.leaks[table.attack].changes for student in students)  # the plain student at its end
    return (
        _mean(students, lambda one: one.nll.value, ".3f"),
        _mean(students, lambda one: one.bits_per_byte.value, ".3f"),
        _mean(students, leak, ".3f"),
        ABSENT if is_itself else _mean(students, change, "+.3f"),
    )


def _mean(students: Sequence[Student], read: Callable[[Student], float | None], form: str) -> str:
    """The mean over seeds; nothing where a seed has no value."""
    values = [read(student) for student in students]
    known = [value for value in values if value is not None]
    return f"{fmean(known):{form}}" if known and len(known) == len(values) else NOT_MEASURED


def _student_row(name: str, student: Student, attack: str, metrics: Sequence[str]) -> Sequence[str]:
    leak = student.leaks[attack]
    figures = [
        shown
        for metric in metrics
        for shown in (interval(leak.figures.get(metric)), difference(leak.changes.get(metric)))
    ]
    return (name, str(student.seed), interval(student.nll), interval(student.bits_per_byte), *figures)


def off_frontier(table: Mitigation) -> dict[str, Arm]:
    """The arms other than plain runs."""
    return {name: arm for name, arm in table.arms.items() if not arm.is_plain}


def checks_table(table: Mitigation) -> Table:
    """The checks of the sets themselves; all students of a comparison have one start."""
    rows = [*sets_rows(table.validity, named=_teacher_or_students)]
    return Table("Checks", ("check", "found", "how to read it"), rows)


def _teacher_or_students(names: Sequence[str]) -> str:
    """Which models of a comparison, whose students have no names that a reader knows."""
    return " and ".join(dict.fromkeys("teacher" if name == "teacher" else "students" for name in names))
