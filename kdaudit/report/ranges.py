"""Figures that cannot be: a share above 1 is a broken file, not a finding."""

from __future__ import annotations

from collections.abc import Iterator

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.results import AuditResult, Cell, Comparison

ROUNDING = 1e-9


def check_ranges(result: AuditResult) -> None:
    """Refuse a result with a figure outside its metric's range.

    Raises:
        ValueError: names the figure.
    """
    for where, found, lowest in _figures(result):
        for end, number in (("value", found.value), ("low", found.low), ("high", found.high)):
            if number is not None and not lowest - ROUNDING <= number <= 1 + ROUNDING:
                raise ValueError(f"{where}.{end} is {number:g}, outside {lowest} to 1")
    for name, attack in result.attacks.items():
        for model, curve in attack.curves.items():
            if not all(0 <= x <= 1 for axis in (curve.fpr, curve.tpr, curve.tpr_low, curve.tpr_high) for x in axis):
                raise ValueError(f"attacks.{name}.curves.{model} leaves the square from 0 to 1")


def _figures(result: AuditResult) -> Iterator[tuple[str, Estimate | Difference, int]]:
    """Every figure with its place and the lowest value that it can take."""
    parts: dict[str, Cell | Comparison] = {}
    for name, attack in result.attacks.items():
        parts |= {f"attacks.{name}.{model}": cell for model, cell in attack.cells.items()}
        parts |= {f"attacks.{name}.comparison.{student}": found for student, found in attack.comparison.items()}
    for where, part in parts.items():
        figures: dict[str, Estimate | Difference | None] = {
            "auc": part.auc,
            "balanced_accuracy": part.balanced_accuracy,
            "member_success": part.member_success,
            "nonmember_success": part.nonmember_success,
            **{f"tpr_at_fpr.{rate}": found for rate, found in part.tpr_at_fpr.items()},
        }
        for name, figure in figures.items():
            if figure is not None:
                yield f"{where}.{name}", figure, 0 if isinstance(part, Cell) else -1
    for name, blind in (("blind_auc", result.validity.blind_auc), *result.validity.blind.items()):
        yield f"validity.{name}", blind, 0
