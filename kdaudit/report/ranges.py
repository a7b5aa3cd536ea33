"""Figures that cannot be: a share above 1 means a broken file, not a finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.frontier import PlainPoint, Point
from kdaudit.results import AttackResult, AuditResult, Cell, Validity
from kdaudit.results.mitigation import Arm, Leak, Mitigation, Student

ROUNDING = 1e-9
MAX_LOSS = 1e6
"""Nats per token; a model that guesses among a million words has 14."""
Range: TypeAlias = tuple[float, float]
SHARE, GAP = METRICS["auc"].range, METRICS["auc"].difference_range
Figures: TypeAlias = Iterator[tuple[str, Estimate | Difference | None, Range]]
"""Each with its place and the values that it can take."""


def check_ranges(result: AuditResult) -> None:
    """Refuse a result with a figure outside its metric's range.

    Raises:
        ValueError: names the figure.
    """
    _check(_of_attacks(result.attacks, "attacks"))
    _check(_of_validity(result.validity))
    for model, found in result.strongest.items():
        if not -ROUNDING <= found.low <= found.value + ROUNDING <= found.high + 2 * ROUNDING <= 1 + 3 * ROUNDING:
            raise ValueError(f"strongest.{model} is not an interval around its value between 0 and 1")
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
        for attack, leak in student.leaks.items():
            _check(_levels(leak, f"{where}.{attack}"))
            _check(_changes(leak.changes, f"{where}.{attack}.change"))
        _check_loss(student.nll.value, f"{where}.nll")
    for name, arm in table.arms.items():
        _check(_of_attacks(arm.attacks, f"arms.{name}.attacks"))
        _check(_of_arm(arm, f"arms.{name}"))
    if (found := table.mixed_supervision) is not None:
        for name, gap in (("mixed", found.mixed), ("hard", found.hard), ("effect", found.effect)):
            if gap.value is not None and abs(gap.value) > MAX_LOSS:
                raise ValueError(f"mixed_supervision.{name}.value is {gap.value:g}: no difference in nats per token")
    for where, metric, point in _points(table):
        lowest, highest = METRICS[metric].range
        if not lowest - ROUNDING <= point.leak <= highest + ROUNDING:
            raise ValueError(f"{where}.leak is {point.leak:g}, outside {lowest:g} to {highest:g}")
        _check_loss(point.nll, f"{where}.nll")


def _of_arm(arm: Arm, where: str) -> Figures:
    for subset, by_attack in arm.subsets.items():
        yield from ((f"{where}.subsets.{subset}.{attack}", found, SHARE) for attack, found in by_attack.items())
    for attack, change in arm.kept_change.items():
        yield f"{where}.kept_change.{attack}", change, GAP
    for attack, placed in arm.placed.items():
        for metric, one in placed.items():
            gap = METRICS[metric].difference_range
            for group, beside in one.groups.items():
                here = f"{where}.placed.{attack}.{metric}.groups.{group}"
                for name, leak in (("leak", beside.leak), ("stair", beside.stair), ("next_stair", beside.next_stair)):
                    yield f"{here}.{name}", Estimate(leak), METRICS[metric].range
                # Their intervals may reach further: with two seeds, Student's t stretches them past every real leak.
                yield f"{here}.distance", Difference(beside.distance.value), gap
                yield f"{here}.excess", Difference(beside.excess.value if beside.excess else None), gap
            if one.vs_control is not None:
                twice = (2 * gap[0], 2 * gap[1])
                yield f"{where}.placed.{attack}.{metric}.vs_control", Difference(one.vs_control.value), twice


def _students(table: Mitigation) -> Iterator[tuple[str, Student]]:
    for position, student in enumerate(table.plain):
        yield f"plain[{position}]", student
    for name, arm in table.arms.items():
        for position, student in enumerate(arm.students):
            yield f"arms.{name}.students[{position}]", student


def _points(table: Mitigation) -> Iterator[tuple[str, str, Point | PlainPoint]]:
    for attack, by_metric in table.frontier.items():
        for metric, points in by_metric.items():
            yield from ((f"frontier.{attack}.{metric}[{i}]", metric, point) for i, point in enumerate(points))
    for name, arm in table.arms.items():
        for attack, placed in arm.placed.items():
            for metric, found in placed.items():
                if found.point is not None:
                    yield f"arms.{name}.placed.{attack}.{metric}.point", metric, found.point


def _check_loss(nll: float | None, where: str) -> None:
    if nll is not None and not 0 <= nll <= MAX_LOSS:
        raise ValueError(f"{where} is {nll:g}: no loss in nats per token")


def _check(figures: Figures) -> None:
    for where, found, (lowest, highest) in figures:
        ends = {} if found is None else {"value": found.value, "low": found.low, "high": found.high}
        for end, number in ends.items():
            if number is not None and not lowest - ROUNDING <= number <= highest + ROUNDING:
                raise ValueError(f"{where}.{end} is {number:g}, outside {lowest:g} to {highest:g}")


def _of_attacks(attacks: Mapping[str, AttackResult], where: str) -> Figures:
    for name, attack in attacks.items():
        for model, cell in attack.cells.items():
            yield from _levels(cell, f"{where}.{name}.{model}")
        for student, comparison in attack.comparison.items():
            yield from _changes(comparison.figures, f"{where}.{name}.comparison.{student}")


def _levels(part: Cell | Leak, where: str) -> Figures:
    for metric, found in part.figures.items():
        yield f"{where}.{metric}", found, METRICS[metric].range


def _changes(figures: Mapping[str, Difference], where: str) -> Figures:
    for metric, found in figures.items():
        yield f"{where}.{metric}", found, METRICS[metric].difference_range


def _of_validity(validity: Validity) -> Figures:
    yield "validity.blind_auc", validity.blind_auc, SHARE
    for name, blind in validity.blind.items():
        yield f"validity.{name}", blind, SHARE
    for model, by_attack in validity.reference_alone.items():
        for attack, alone in by_attack.items():
            yield f"validity.reference_alone.{model}.{attack}", alone, SHARE
