"""A number with its uncertainty, and how to read a bound of it at any level without the scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy

from kdaudit.metrics.bounds import auc_bound, clopper_pearson, normal_quantile
from kdaudit.metrics.scores import Integers

QUANTILE_GRID: tuple[float, ...] = (
    *(0.0005, 0.001, 0.0025, 0.005),
    *(percent / 100 for percent in range(1, 100)),
    *(0.995, 0.9975, 0.999, 0.9995),
)
"""Levels at which the bootstrap quantiles of an estimate are kept in the results file."""

TAIL = 0.005
"""Quantiles further out rest on fewer than ten of 2000 resamples: a normal tail through this one takes their place."""

_ROUNDING = 1e-9  # 1 - 0.9995 is not exactly 0.0005


@dataclass(frozen=True, slots=True)
class ExactRate:
    """What gives the exact bounds of a TPR at a false positive rate at any level: see `metrics.tpr`."""

    fpr: float
    first: int
    """The lowest rank that is kept; the highest non-member has rank 1."""
    step: int
    """From one rank that is kept to the next."""
    detected: tuple[int, ...]
    """Members above the non-member of each rank that is kept."""

    def __post_init__(self) -> None:
        """A ValueError where these cannot be such counts."""
        if not 0 < self.fpr < 1 or self.first < 1 or self.step < 1:
            raise ValueError("the ranks behind an exact rate are out of range")
        if any(more < less for less, more in zip((0, *self.detected), self.detected, strict=False)):
            raise ValueError("the counts behind an exact rate fall")

    def lower(self, n: int, m: int, error: float) -> float:
        """A bound that lies above the rate of n members, seen beside m non-members, with chance `error` at most."""
        ranks = self._ranks()
        below = np.flatnonzero(scipy.special.bdtr(ranks - 1, m, self.fpr) <= error / 2)
        return clopper_pearson(self.detected[below[-1]], n, 1 - error)[0] if below.size else 0.0

    def upper(self, n: int, m: int, error: float) -> float:
        """A bound that lies below the rate with chance `error` at most."""
        ranks = self._ranks()
        above = np.flatnonzero(scipy.special.bdtrc(ranks - 1, m, self.fpr) <= error / 2)
        return clopper_pearson(self.detected[above[0]], n, 1 - error)[1] if above.size else 1.0

    def _ranks(self) -> Integers:
        return self.first + self.step * np.arange(len(self.detected))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of one attack on one model with a two-sided interval; `value` is None where `reason` says why.

    Either `logit_value` and `logit_se` are set (AUC: `bounds.auc_bound` gives every bound from them, the value and the
    sizes), or `exact` holds counts (TPR at a false positive rate), or `quantiles` holds the bootstrap quantiles at
    QUANTILE_GRID.
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
    exact: ExactRate | None = None
    threshold: float | None = None
    realised_fpr: float | None = None
    """Share of the same non-members above the threshold that they gave, with Clopper-Pearson's interval."""
    realised_fpr_low: float | None = None
    realised_fpr_high: float | None = None
    fixed_threshold_low: float | None = None
    """Clopper-Pearson at this fixed threshold; ignores that the threshold itself was estimated."""
    fixed_threshold_high: float | None = None

    def __post_init__(self) -> None:
        """A ValueError where there are quantiles, but not those of QUANTILE_GRID, or more detections than members."""
        _check_quantiles(self.quantiles)
        if self.exact is not None and max(self.exact.detected, default=0) > self.n:
            raise ValueError(f"an exact rate of {self.n} members counts more of them")


@dataclass(frozen=True, slots=True)
class Difference:
    """One model minus another of one metric, paired over records; `value` is None where `reason` says why.

    Either `se` is set (raw scale, normal), or `quantiles` holds the bootstrap quantiles at QUANTILE_GRID. With neither
    its only bounds are the ends of its interval.
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


Range: TypeAlias = tuple[float, float]
"""The least and the largest value of a metric, or of a difference; infinite where there is no end."""

SHARE: Range = (0.0, 1.0)
DIFFERENCE_OF_SHARES: Range = (-1.0, 1.0)


def lower_bound(figure: Estimate | Difference, level: float, within: Range | None = None) -> float | None:
    """One-sided lower bound: the true value lies at or above it with chance `level`.

    None where the figure has no value. Where the figure holds nothing that reaches this level it is the end of the
    range, and None where the range has no end. Beyond TAIL a bootstrap quantile is that of a normal tail which runs
    through the median and the quantile at TAIL: too few resamples lie there to be counted.

    Args:
        figure: with its interval.
        level: in (0, 1).
        within: the range; None: that of a share, or of a difference of shares.

    Raises:
        ValueError: level is not in (0, 1).
    """
    return _bound(figure, level, within, is_lower=True)


def upper_bound(figure: Estimate | Difference, level: float, within: Range | None = None) -> float | None:
    """One-sided upper bound: the true value lies at or below it with chance `level`; see `lower_bound`.

    Raises:
        ValueError: level is not in (0, 1).
    """
    return _bound(figure, level, within, is_lower=False)


def _bound(figure: Estimate | Difference, level: float, within: Range | None, *, is_lower: bool) -> float | None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    if figure.value is None:
        return None
    bottom, top = within or (SHARE if isinstance(figure, Estimate) else DIFFERENCE_OF_SHARES)
    open_end = bottom if is_lower else top
    tail = 1 - level if is_lower else level
    if isinstance(figure, Difference) and figure.se is not None:
        return min(max(figure.value + normal_quantile(tail) * figure.se, bottom), top)
    if isinstance(figure, Estimate) and figure.logit_value is not None and figure.logit_se is not None:
        if figure.is_separable and figure.value == open_end:
            return open_end
        return auc_bound(figure.value, figure.logit_value, figure.logit_se, figure.n, figure.m, tail)
    if isinstance(figure, Estimate) and figure.exact is not None:
        bound = figure.exact.lower if is_lower else figure.exact.upper
        return bound(figure.n, figure.m, 1 - level)
    if figure.quantiles is not None:
        return min(max(_quantile(figure.quantiles, tail), bottom), top)
    end = figure.low if is_lower else figure.high
    if abs(level - (1 + figure.level) / 2) < _ROUNDING and end is not None:
        return end
    return open_end if math.isfinite(open_end) else None


def _quantile(quantiles: tuple[float, ...], tail: float) -> float:
    """The bootstrap quantile at `tail`, by a normal tail outside TAIL to 1 - TAIL."""
    if TAIL - _ROUNDING <= tail <= 1 - TAIL + _ROUNDING:
        return float(np.interp(tail, QUANTILE_GRID, quantiles))
    median, last = np.interp([0.5, TAIL if tail < 0.5 else 1 - TAIL], QUANTILE_GRID, quantiles)
    return float(median + (last - median) * normal_quantile(tail) / normal_quantile(TAIL if tail < 0.5 else 1 - TAIL))
