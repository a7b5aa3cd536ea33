"""From counts in bootstrap replicates to intervals, p-values and stored quantiles.

Given the thresholds of a replicate, resampling n records and counting those above is a binomial draw; for two models
it is one over the records that one alone detects. So no record is copied, and the counts are exact in distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from kdaudit.metrics.estimate import QUANTILE_GRID, Difference, Estimate
from kdaudit.metrics.scores import Floats, Integers

RESAMPLES = 2000
"""Bootstrap replicates: each bound of a 95 % interval is uncertain by 0.06 standard errors."""

MANY, RESAMPLES_OF_MANY = 65_536, 400
"""With more records than MANY, figures that are smooth in them are normal in the replicates. The standard deviation of
RESAMPLES_OF_MANY replicates then tells the bounds of a 95 % interval as well as the quantiles of RESAMPLES do."""

DECIMALS = 6
"""What is kept of the quantiles: they are uncertain in the third decimal, and a results file holds thousands."""

FEW = 10
"""Counts below this are backed by exact intervals: see `Spread`."""


NULL_LEVEL = 0.9
"""The level of an interval whose ends are one-sided 95 % bounds: a leak must lie above its null at 95 %."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure and what is known of its uncertainty.

    A bootstrap cannot leave an edge: where none of 300 members is detected, none is in any resample, and its
    interval would be [0, 0]. So where a count is below FEW the figure never says more than the exact interval at the
    fixed threshold, whose lower and upper confidence distributions then stand beside the resampled values: each
    quantile below the median is the smaller one of resampled and lower, each above it the larger one of resampled
    and upper. Elsewhere all three are the resampled values.
    """

    value: float
    resampled: Floats
    """(R,), the figure in every replicate."""
    lower: Floats
    """(S,), its quantiles are lower Clopper-Pearson bounds."""
    upper: Floats
    """(S,), its quantiles are upper Clopper-Pearson bounds."""


def draw_counts(n: int, rng: np.random.Generator) -> Integers:
    """How often each of n records is in one resample of size n: multinomial counts of shape (n,)."""
    return np.bincount(rng.integers(0, n, size=n), minlength=n)


def draw_bounds(value: float, draws: Floats, level: float, *, is_normal: bool) -> tuple[float, float]:
    """The interval of a figure from its replicates (R,), those that are undefined left out: percentile or normal."""
    known = draws[np.isfinite(draws)]
    if is_normal:
        reach = float(scipy.special.ndtri((1 + level) / 2)) * float(known.std(ddof=1))
        return value - reach, value + reach
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def rate_spread(k: int, n: int, resampled: Integers, rng: np.random.Generator) -> Spread:
    """Spread of a proportion of which `k` of `n` were seen and `resampled` (R,) of n in the replicates."""
    draws = resampled / n
    if min(k, n - k) >= FEW:
        return Spread(k / n, draws, draws, draws)
    return Spread(k / n, draws, *_confidence_draws(k, n, draws.size, rng))


def gap_spread(only_a: int, only_b: int, n: int, resampled: Integers, rng: np.random.Generator) -> Spread:
    """Spread of a paired difference of proportions: of n records `only_a` count for a alone, `only_b` for b alone.

    `resampled` (R,) holds the differences of the two counts in the replicates.
    """
    value, draws = (only_a - only_b) / n, resampled / n
    if min(only_a, only_b) >= FEW:
        return Spread(value, draws, draws, draws)
    low_a, high_a = _confidence_draws(only_a, n, draws.size, rng)
    low_b, high_b = _confidence_draws(only_b, n, draws.size, rng)
    return Spread(value, draws, low_a - high_b, high_a - low_b)


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion: k of n were seen, and how many were in every replicate."""

    k: int
    n: int
    resampled: Integers
    """(R,)."""

    @property
    def complement(self) -> Rate:
        """The same for the records that were not seen."""
        return Rate(self.n - self.k, self.n, self.n - self.resampled)


@dataclass(frozen=True, slots=True)
class Gap:
    """A paired difference of proportions: of n records `only_a` count for a alone, `only_b` for b alone."""

    only_a: int
    only_b: int
    n: int
    resampled: Integers
    """(R,), differences of the two counts in the replicates."""

    @property
    def complement(self) -> Gap:
        """The same for the records that were not seen: a gains what b loses."""
        return Gap(self.only_b, self.only_a, self.n, -self.resampled)


def mean_rate_spread(a: Rate, b: Rate, rng: np.random.Generator) -> Spread:
    """Spread of the mean of two proportions of different records at one threshold.

    Where the threshold moves, one rises as the other falls, so resampled values are averaged replicate by replicate.
    Exact bounds hold at a fixed threshold, where the two are independent: they are averaged with each other, never with
    resampled ones, which would leave that balance out and give means that no threshold has.

    A fitted threshold falls short of the best one, and a resampled one falls short of the fitted one by about as much.
    So the values are lifted by that shortfall, once for the lower quantiles, which then bound what the fitted threshold
    attains, and twice for the upper ones, which bound what the best one would: else 8 % of simulated upper bounds at
    95 % lay below it.
    """
    draws = (a.resampled / a.n + b.resampled / b.n) / 2
    value = (a.k / a.n + b.k / b.n) / 2
    if min(a.k, a.n - a.k, b.k, b.n - b.k) >= FEW:
        centred = draws + (value - draws.mean())
        return Spread(value, centred, centred, centred + (value - draws.mean()))
    (low_a, high_a), (low_b, high_b) = (_confidence_draws(one.k, one.n, draws.size, rng) for one in (a, b))
    return Spread(value, draws, (low_a + low_b) / 2, (high_a + high_b) / 2)


def mean_gap_spread(a: Gap, b: Gap, rng: np.random.Generator) -> Spread:
    """Spread of the mean of two paired differences of proportions, of different records; see `mean_rate_spread`."""
    draws = (a.resampled / a.n + b.resampled / b.n) / 2
    value = ((a.only_a - a.only_b) / a.n + (b.only_a - b.only_b) / b.n) / 2
    if min(a.only_a, a.only_b, b.only_a, b.only_b) >= FEW:
        return Spread(value, draws, draws, draws)
    lower, upper = np.zeros(draws.size), np.zeros(draws.size)
    for one in (a, b):
        low_a, high_a = _confidence_draws(one.only_a, one.n, draws.size, rng)
        low_b, high_b = _confidence_draws(one.only_b, one.n, draws.size, rng)
        lower += (low_a - high_b) / 2
        upper += (high_a - low_b) / 2
    return Spread(value, draws, lower, upper)


def subtracted_from(total: float, spread: Spread) -> Spread:
    """Spread of `total` minus the figure: lower and upper change places."""
    return Spread(total - spread.value, total - spread.resampled, total - spread.upper, total - spread.lower)


def quantiles(spread: Spread, levels: Floats) -> Floats:
    """Quantiles of a spread at `levels` (q,), never rising where levels fall."""
    middle = np.quantile(spread.resampled, levels)
    below = np.minimum(middle, np.quantile(spread.lower, levels))
    above = np.maximum(middle, np.quantile(spread.upper, levels))
    return np.where(levels < 0.5, below, np.where(levels > 0.5, above, middle))


def p_value(spread: Spread) -> float:
    """Two-sided p-value of 0: twice the smaller tail share, each (count + 1) / (R + 1), at most 1.

    A tail share is the larger one of the bootstrap's and the exact one, as for the quantiles.
    """
    at_most = max(_share(spread.resampled <= 0), _share(spread.lower <= 0))
    at_least = max(_share(spread.resampled >= 0), _share(spread.upper >= 0))
    return min(1.0, 2 * min(at_most, at_least))


def to_estimate(spread: Spread, n: int, m: int, level: float, method: str) -> Estimate:
    """An estimate with the spread's interval and its quantiles on QUANTILE_GRID."""
    low, high, grid = _bounds(spread, level)
    return Estimate(spread.value, low, high, n, m, level, method, quantiles=grid)


def to_difference(spread: Spread, n: int, m: int, level: float, method: str) -> Difference:
    """A difference with the spread's interval, p-value and quantiles on QUANTILE_GRID."""
    low, high, grid = _bounds(spread, level)
    return Difference(spread.value, low, high, p_value(spread), n=n, m=m, level=level, method=method, quantiles=grid)


def to_null_difference(spread: Spread, n: int, m: int, method: str) -> Difference:
    """A difference to what saw neither set: only its one-sided 95 % bounds are asked for, so no quantiles are kept."""
    low, high = quantiles(spread, np.array([(1 - NULL_LEVEL) / 2, (1 + NULL_LEVEL) / 2]))
    return Difference(spread.value, float(low), float(high), p_value(spread), n=n, m=m, level=NULL_LEVEL, method=method)


def _bounds(spread: Spread, level: float) -> tuple[float, float, tuple[float, ...]]:
    low, high = quantiles(spread, np.array([(1 - level) / 2, (1 + level) / 2]))
    return float(low), float(high), tuple(quantiles(spread, np.array(QUANTILE_GRID)).round(DECIMALS).tolist())


def _confidence_draws(k: int, n: int, size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws whose quantiles are the one-sided Clopper-Pearson bounds of k out of n."""
    lower = rng.beta(k, n - k + 1, size) if k > 0 else np.zeros(size)
    upper = rng.beta(k + 1, n - k, size) if k < n else np.ones(size)
    return lower, upper


def _share(is_extreme: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float((np.count_nonzero(is_extreme) + 1) / (is_extreme.size + 1))


@dataclass(frozen=True, slots=True)
class Detections:
    """Records of one class that the baseline and another model detect, each at its own threshold."""

    both: int
    baseline_only: int
    other_only: int
    neither: int


@dataclass(frozen=True, slots=True)
class Judged:
    """Records of one class under one model, at one kind of threshold."""

    scores: Floats
    """(n,), records in the same order for every model."""
    threshold: float
    """As fitted on the data."""
    replicated: Floats
    """(R,), as fitted in each replicate."""

    @property
    def n(self) -> int:
        """Records."""
        return self.scores.size

    @property
    def k(self) -> int:
        """How many of them lie above the threshold."""
        return int(np.count_nonzero(self.scores > self.threshold))

    def is_same(self, other: Judged) -> bool:
        """Whether the two cannot differ, whatever the sample."""
        return np.array_equal(self.scores, other.scores) and np.array_equal(self.replicated, other.replicated)


@dataclass(frozen=True, slots=True)
class Sight:
    """What one model detects of the evaluation part at the threshold of best balanced accuracy."""

    members: Judged
    nonmembers: Judged


def cross_tabulate(baseline: Judged, other: Judged) -> Detections:
    """Who detects which records, at the thresholds fitted on the data."""
    by_baseline, by_other = baseline.scores > baseline.threshold, other.scores > other.threshold
    both = int(np.count_nonzero(by_baseline & by_other))
    baseline_only, other_only = baseline.k - both, other.k - both
    return Detections(both, baseline_only, other_only, baseline.n - both - baseline_only - other_only)


def resampled_detections(judged: Judged, rng: np.random.Generator) -> Integers:
    """How many of n resampled records lie above the threshold of each replicate: (R,)."""
    return rng.binomial(judged.n, _count_above(judged) / judged.n)


def resampled_gaps(judged: Judged, baseline: Judged, rng: np.random.Generator) -> Integers:
    """By how many of n resampled records the model detects more than the baseline in each replicate: (R,)."""
    n, above_both = judged.n, _count_above_both(judged, baseline)
    judged_only, baseline_only = _count_above(judged) - above_both, _count_above(baseline) - above_both
    more = rng.binomial(n, judged_only / n)
    return more - rng.binomial(n - more, baseline_only / np.maximum(n - judged_only, 1))


def _count_above(judged: Judged) -> Integers:
    """How many of the scores lie above each replicate's threshold: (R,)."""
    return judged.n - np.sort(judged.scores).searchsorted(judged.replicated, side="right")


def _count_above_both(a: Judged, b: Judged) -> Integers:
    """How many records lie above a's and b's threshold at once, in each replicate: (R,)."""
    steps_a, step_a = np.unique(a.replicated, return_inverse=True)
    steps_b, step_b = np.unique(b.replicated, return_inverse=True)
    passed_a, passed_b = steps_a.searchsorted(a.scores), steps_b.searchsorted(b.scores)  # thresholds below each score
    shape = steps_a.size + 1, steps_b.size + 1
    passed = np.bincount(passed_a * shape[1] + passed_b, minlength=shape[0] * shape[1]).reshape(shape)
    at_least = passed[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    return at_least[step_a + 1, step_b + 1]
