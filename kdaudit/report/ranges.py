"""Figures that cannot be: a share above 1 is a broken file, not a finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.frontier import PlainPoint, Point
from kdaudit.results import AttackResult, AuditResult, Cell, Comparison, Validity
from kdaudit.results.mitigation import Arm, Leak, Mitigation, Student

ROUNDING = 1e-9
MAX_LOSS = 1e6
"""Nats per token; a model of so many words that guesses has 14."""
Figures: TypeAlias = Iterator[tuple[str, Estimate | Difference | None, int]]
"""Each with its place and the lowest value that it can take."""


def check_ranges(result: AuditResult) -> None:
    """Refuse a result with a figure outside its metric's range.

    Raises:
        ValueError: names the figure.
    """
    _check(_of_attacks(result.attacks, "attacks"))
    _check(_of_validity(result.validity))
    for model, found in result.strongest.items():
        if not -ROUNDING <= found.low <= found.value + ROUNDING <= found.high + 2 * ROUNDING <= 1 + 3 * ROUNDING:
            raise ValueError(f"strongest.{model} is no interval around its value between 0 and 1")
    for name, attack in result.attacks.items():
        for model, curve in attack.curves.items():
            if not all(0 <= x <= 1 for axis in (curve.fpr, curve.tpr, curve.tpr_low, curve.tpr_high) for x in axis):
                raise ValueError(f"attacks.{name}.curves.{model} leaves the square from 0 to 1")


def check_comparison(table: Mitigation) -> None:
    """Refuse a comparison of mitigations with a figure outside its metric's range.

    Raises:
        ValueError: names the figure.
    """
    _check(_of_validity(table.validity))
    for where, student in _students(table):
        _check(_of_leaks(student.leaks, where))
        _check_loss(student.nll.value, f"{where}.nll")
    for name, arm in table.arms.items():
        _check(_of_attacks(arm.attacks, f"arms.{name}.attacks"))
        _check(_of_arm(arm, f"arms.{name}"))
    if (found := table.mixed_supervision) is not None:
        for name, gap in (("mixed", found.mixed), ("hard", found.hard), ("effect", found.effect)):
            if gap.value is not None and abs(gap.value) > MAX_LOSS:
                raise ValueError(f"mixed_supervision.{name}.value is {gap.value:g}: no difference in nats per token")
    for where, point in _points(table):
        if not -ROUNDING <= point.leak <= 1 + ROUNDING:
            raise ValueError(f"{where}.leak is {point.leak:g}, outside 0 to 1")
        _check_loss(point.nll, f"{where}.nll")


def _of_arm(arm: Arm, where: str) -> Figures:
    for subset, by_attack in arm.subsets.items():
        yield from ((f"{where}.subsets.{subset}.{attack}", found, 0) for attack, found in by_attack.items())
    for attack, change in arm.kept_change.items():
        yield f"{where}.kept_change.{attack}", change, -1
    for attack, placed in arm.placed.items():
        for metric, one in placed.items():
            for group, beside in one.groups.items():
                here = f"{where}.placed.{attack}.{metric}.groups.{group}"
                for name, leak in (("leak", beside.leak), ("stair", beside.stair), ("next_stair", beside.next_stair)):
                    yield f"{here}.{name}", Estimate(leak), 0
                # Their intervals may reach further: with two seeds, Student's t stretches them past every real leak.
                yield f"{here}.distance", Difference(beside.distance.value), -1
                yield f"{here}.excess", Difference(beside.excess.value if beside.excess else None), -1
            if one.vs_control is not None:
                yield f"{where}.placed.{attack}.{metric}.vs_control", Difference(one.vs_control.value), -2


def _students(table: Mitigation) -> Iterator[tuple[str, Student]]:
    for position, student in enumerate(table.plain):
        yield f"plain[{position}]", student
    for name, arm in table.arms.items():
        for position, student in enumerate(arm.students):
            yield f"arms.{name}.students[{position}]", student


def _points(table: Mitigation) -> Iterator[tuple[str, Point | PlainPoint]]:
    for attack, by_metric in table.frontier.items():
        for metric, points in by_metric.items():
            yield from ((f"frontier.{attack}.{metric}[{i}]", point) for i, point in enumerate(points))
    for name, arm in table.arms.items():
        for attack, placed in arm.placed.items():
            for metric, found in placed.items():
                if found.point is not None:
                    yield f"arms.{name}.placed.{attack}.{metric}.point", found.point


def _check_loss(nll: float | None, where: str) -> None:
    if nll is not None and not 0 <= nll <= MAX_LOSS:
        raise ValueError(f"{where} is {nll:g}: no loss in nats per token")


def _check(figures: Figures) -> None:
    for where, found, lowest in figures:
        ends = {} if found is None else {"value": found.value, "low": found.low, "high": found.high}
        for end, number in ends.items():
            if number is not None and not lowest - ROUNDING <= number <= max(1, -lowest) + ROUNDING:
                raise ValueError(f"{where}.{end} is {number:g}, outside {lowest} to {max(1, -lowest)}")


def _of_attacks(attacks: Mapping[str, AttackResult], where: str) -> Figures:
    for name, attack in attacks.items():
        for model, cell in attack.cells.items():
            yield from _of_part(cell, f"{where}.{name}.{model}", 0)
        for student, comparison in attack.comparison.items():
            yield from _of_part(comparison, f"{where}.{name}.comparison.{student}", -1)


def _of_part(part: Cell | Comparison, where: str, lowest: int) -> Figures:
    yield f"{where}.auc", part.auc, lowest
    yield f"{where}.balanced_accuracy", part.balanced_accuracy, lowest
    yield f"{where}.member_success", part.member_success, lowest
    yield f"{where}.nonmember_success", part.nonmember_success, lowest
    for rate, found in part.tpr_at_fpr.items():
        yield f"{where}.tpr_at_fpr.{rate}", found, lowest


def _of_validity(validity: Validity) -> Figures:
    yield "validity.blind_auc", validity.blind_auc, 0
    for name, blind in validity.blind.items():
        yield f"validity.{name}", blind, 0
    for model, by_attack in validity.reference_alone.items():
        for attack, alone in by_attack.items():
            yield f"validity.reference_alone.{model}.{attack}", alone, 0


def _of_leaks(leaks: Mapping[str, Leak], where: str) -> Figures:
    for attack, leak in leaks.items():
        yield f"{where}.{attack}.auc", leak.auc, 0
        yield f"{where}.{attack}.auc_change", leak.auc_change, -1
        for rate, found in leak.tpr_at_fpr.items():
            yield f"{where}.{attack}.tpr_at_fpr.{rate}", found, 0
        for rate, change in leak.tpr_change.items():
            yield f"{where}.{attack}.tpr_change.{rate}", change, -1
