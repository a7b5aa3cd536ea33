"""The metrics, in the order in which results list them. Adding one: write its file, add its line here."""

from __future__ import annotations

from collections.abc import Mapping

from kdaudit.metrics import auc, thresholds
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.metric import Case, Family, Figures, Metric

FAMILIES: tuple[Family, ...] = (
    auc.FAMILY,
    thresholds.FAMILY,
)

METRICS: Mapping[str, Metric] = {metric.name: metric for family in FAMILIES for metric in family.metrics}


def measure(case: Case) -> Figures:
    """Every metric of every model of one attack, and every comparison, family by family."""
    found = [family.measure(case) for family in FAMILIES]
    models: dict[str, dict[str, Estimate]] = {}
    differences: dict[str, dict[str, Difference]] = {}
    beyond: dict[str, dict[str, dict[str, Difference]]] = {name: {} for name in case.held_against}
    for figures in found:
        for model, levels in figures.models.items():
            models.setdefault(model, {}).update(levels)
        for model, gaps in figures.differences.items():
            differences.setdefault(model, {}).update(gaps)
        for model, by_null in figures.beyond_nulls.items():
            for null, gaps in by_null.items():
                beyond[model].setdefault(null, {}).update(gaps)
    return Figures(models, differences, beyond)
