"""A number with its uncertainty, and how to read a bound of it at any level without the scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from kdaudit.metrics.edges import auc_bound

QUANTILE_GRID: tuple[float, ...] = (
    *(0.0005, 0.001, 0.0025, 0.005),
    *(percent / 100 for percent in range(1, 100)),
    *(0.995, 0.9975, 0.999, 0.9995),
)
"""Levels at which the bootstrap quantiles of an estimate are kept in the results file."""

_ROUNDING = 1e-9  # 1 - 0.9995 is not exactly 0.0005


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of one attack on one model with a two-sided interval; `value` is None where `reason` says why.

    Either `logit_value` and `logit_se` are set (AUC: `edges.auc_bound` gives every bound from them, the value and the
    sizes), or `quantiles` holds the bootstrap quantiles at QUANTILE_GRID.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Members behind the value."""
    m: int = 0
    """Non-members behind the value."""
    level: float = 0.95
    method: str = ""
    reason: str = ""
    logit_value: float | None = None
    logit_se: float | None = None
    quantiles: tuple[float, ...] | None = None
    is_separable: bool = False
    """AUC exactly 0 or 1: the open side of the interval is that value."""
    threshold: float | None = None
    realised_fpr: float | None = None
    realised_fpr_low: float | None = None
    realised_fpr_high: float | None = None
    fixed_threshold_low: float | None = None
    """Clopper-Pearson at this fixed threshold; ignores that the threshold itself was estimated."""
    fixed_threshold_high: float | None = None

    def __post_init__(self) -> None:
        """A ValueError where there are quantiles, but not those of QUANTILE_GRID."""
        _check_quantiles(self.quantiles)


@dataclass(frozen=True, slots=True)
class Difference:
    """Student minus teacher of one metric, paired over records; `value` is None where `reason` says why.

    Either `se` is set (raw scale, normal), or `quantiles` holds the bootstrap quantiles at QUANTILE_GRID.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_value_holm: float | None = None
    n: int = 0
    m: int = 0
    level: float = 0.95
    method: str = ""
    reason: str = ""
    se: float | None = None
    quantiles: tuple[float, ...] | None = None
    mcnemar_p_value: float | None = None
    """McNemar at these fixed thresholds; never in a verdict."""

    def __post_init__(self) -> None:
        """A ValueError where there are quantiles, but not those of QUANTILE_GRID."""
        _check_quantiles(self.quantiles)


def _check_quantiles(quantiles: tuple[float, ...] | None) -> None:
    if quantiles is not None and len(quantiles) != len(QUANTILE_GRID):
        raise ValueError(f"{len(quantiles)} bootstrap quantiles, {len(QUANTILE_GRID)} are kept")


def lower_bound(figure: Estimate | Difference, level: float) -> float | None:
    """One-sided lower bound: the true value lies at or above it with chance `level`.

    None where the figure has no value. The end of the metric's range (0, or -1 for a difference) where the
    figure holds nothing that reaches this level: a bound is never extrapolated.

    Raises:
        ValueError: level is not in (0, 1).
    """
    return _bound(figure, level, is_lower=True)


def upper_bound(figure: Estimate | Difference, level: float) -> float | None:
    """One-sided upper bound: the true value lies at or below it with chance `level`; see `lower_bound`.

    Raises:
        ValueError: level is not in (0, 1).
    """
    return _bound(figure, level, is_lower=False)


def _bound(figure: Estimate | Difference, level: float, *, is_lower: bool) -> float | None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    if figure.value is None:
        return None
    bottom, top = (0.0, 1.0) if isinstance(figure, Estimate) else (-1.0, 1.0)
    open_end = bottom if is_lower else top
    tail = 1 - level if is_lower else level
    if isinstance(figure, Difference) and figure.se is not None:
        return min(max(figure.value + float(ndtri(tail)) * figure.se, bottom), top)
    if isinstance(figure, Estimate) and figure.logit_value is not None and figure.logit_se is not None:
        if figure.is_separable and figure.value == open_end:
            return open_end
        return auc_bound(figure.value, figure.logit_value, figure.logit_se, figure.n, figure.m, tail)
    is_on_grid = QUANTILE_GRID[0] - _ROUNDING <= tail <= QUANTILE_GRID[-1] + _ROUNDING
    if figure.quantiles is None or not is_on_grid:
        return open_end
    return float(np.interp(tail, QUANTILE_GRID, figure.quantiles))
