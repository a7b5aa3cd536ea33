"""Rank correlation of two figures of the same records, means, ratios of totals, and differences of means."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from kdaudit.metrics.bootstrap import MANY, RESAMPLES, RESAMPLES_OF_MANY, draw_bounds, draw_counts
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.scores import Floats, Integers, finite

MIN_RECORDS = 4
"""Fewer ranks than these leave a partial correlation no freedom."""

MIN_FOR_INTERVAL = 30
"""With fewer records a percentile bootstrap makes intervals far too short: of 5, half of them miss a true 0."""


N_QUARTERS = 4

MIN_OF_QUARTER = 5
"""Records of each class: the mean of fewer says too much of a single one."""


@dataclass(frozen=True, slots=True)
class Quarter:
    """Members and non-members of one quarter of a figure; the edges are those of the non-members' quartiles."""

    low: float | None
    """The figure lies above this; None in the lowest quarter."""
    high: float | None
    """And at or below this; None in the highest."""
    n_members: int
    n_nonmembers: int
    gap: Difference
    """Mean of the other figure over members minus that over non-members."""


def spearman(
    x: Floats,
    y: Floats,
    *,
    rng: np.random.Generator,
    given: Floats | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    many: int = MANY,
) -> Estimate:
    """Spearman's rank correlation of x and y, with a percentile bootstrap over records, ranked again in each.

    `n` counts the records, `m` is 0. With more than `many` records the replicates are fewer, and the interval is normal
    with their standard deviation.

    Args:
        x: (n,), finite.
        y: (n,), finite, of the same records.
        rng: draws the resamples.
        given: (n,), finite: what to partial out, by its ranks.
        resamples: bootstrap replicates; those in which a variable is constant are left out of the interval.
        level: chance that the interval covers the true value, in (0, 1).
        many: see MANY.

    Raises:
        ValueError: the sizes differ, or a value is NaN or infinite.

    Source: Spearman 1904; the partial form is the first-order partial correlation of the ranks.
    """
    columns = [finite(column) for column in ((x, y) if given is None else (x, y, given))]
    n = columns[0].size
    if any(column.size != n for column in columns):
        raise ValueError("correlated figures must be of the same records")
    method = "Spearman, percentile bootstrap" if given is None else "partial Spearman, percentile bootstrap"
    if n < MIN_RECORDS:
        return Estimate(None, n=n, level=level, method=method, reason=f"fewer than {MIN_RECORDS} records")
    if any(np.ptp(column) == 0 for column in columns):
        return Estimate(None, n=n, level=level, method=method, reason="a figure does not vary")
    rankings = [_Ranking.of(column) for column in columns]
    value = _correlation(rankings, np.ones(n, dtype=np.intp))
    if math.isnan(value):
        return Estimate(
            None, n=n, level=level, method=method, reason="nothing is left to correlate at equal difficulty"
        )
    if n < MIN_FOR_INTERVAL:
        reason = f"no interval from fewer than {MIN_FOR_INTERVAL} records"
        return Estimate(value, n=n, level=level, method=method, reason=reason)
    is_normal = n > many
    resamples = min(resamples, RESAMPLES_OF_MANY) if is_normal else resamples
    draws = np.array([_correlation(rankings, draw_counts(n, rng)) for _ in range(resamples)])
    low, high = draw_bounds(value, draws, level, is_normal=is_normal)
    method = method.replace("percentile", "normal") if is_normal else method
    return Estimate(value, max(low, -1.0), min(high, 1.0), n, 0, level, method)


def mean_estimate(values: Floats, *, level: float = 0.95) -> Estimate:
    """Mean with Student's t interval; `n` counts the values, `m` is 0; no interval for a single value.

    Args:
        values: (n,), finite.
        level: chance that the interval covers the true mean, in (0, 1).

    Raises:
        ValueError: a value is NaN or infinite.
    """
    values = finite(values)
    n, method = values.size, "mean, Student's t"
    if n == 0:
        return Estimate(None, level=level, method=method, reason="no values")
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, n=1, level=level, method=method)
    reach = float(scipy.special.stdtrit(n - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - reach, mean + reach, n, 0, level, method)


def mean_difference(members: Floats, nonmembers: Floats, *, level: float = 0.95) -> Difference:
    """Mean of the members minus mean of the non-members with Welch's interval; none for fewer than two of either.

    Args:
        members: (n,), finite.
        nonmembers: (m,), finite.
        level: chance that the interval covers the true difference, in (0, 1).

    Raises:
        ValueError: a value is NaN or infinite.

    Source: Welch 1947.
    """
    members, nonmembers = finite(members), finite(nonmembers)
    n, m, method = members.size, nonmembers.size, "difference of means, Welch's t"
    if min(n, m) == 0:
        return Difference(None, n=n, m=m, level=level, method=method, reason="no values")
    value = float(members.mean() - nonmembers.mean())
    if min(n, m) == 1:
        return Difference(value, n=n, m=m, level=level, method=method, reason="no interval from a single record")
    own, other = float(members.var(ddof=1)) / n, float(nonmembers.var(ddof=1)) / m
    if own + other == 0:
        return Difference(value, value, value, n=n, m=m, level=level, method=method)
    freedom = (own + other) ** 2 / (own**2 / (n - 1) + other**2 / (m - 1))
    reach = float(scipy.special.stdtrit(freedom, (1 + level) / 2)) * math.sqrt(own + other)
    return Difference(value, value - reach, value + reach, n=n, m=m, level=level, method=method)


def gaps_by_quarter(
    figure: tuple[Floats, Floats], other: tuple[Floats, Floats], *, level: float = 0.95
) -> tuple[Quarter, ...]:
    """How far members and non-members of like `figure` lie apart in `other`, by quarter of the non-members' figures.

    The edges are the quartiles of the non-members, which membership does not move. Given the edges, the non-members
    of a quarter are a sample of it like any other, so that Welch's intervals hold although the edges were estimated.

    Args:
        figure: of the members (n,) and of the non-members (m,), finite.
        other: likewise, of the same records.
        level: chance that an interval covers the true difference, in (0, 1).

    Raises:
        ValueError: the sizes differ, or a value is NaN or infinite.
    """
    members, nonmembers = (finite(values) for values in figure)
    if (members.size, nonmembers.size) != (other[0].size, other[1].size):
        raise ValueError("both figures must be of the same records")
    edges = (
        [] if nonmembers.size == 0 else np.quantile(nonmembers, [k / N_QUARTERS for k in range(1, N_QUARTERS)]).tolist()
    )
    places = [np.searchsorted(edges, values, side="left") for values in (members, nonmembers)]
    found = []
    for k in range(len(edges) + 1):
        inside = [values[place == k] for values, place in zip(other, places, strict=True)]
        n, m = inside[0].size, inside[1].size
        gap = mean_difference(*inside, level=level)
        if min(n, m) < MIN_OF_QUARTER:
            reason = f"fewer than {MIN_OF_QUARTER} {'members' if n < MIN_OF_QUARTER else 'non-members'}"
            gap = Difference(None, n=n, m=m, level=level, method=gap.method, reason=reason)
        found.append(Quarter(edges[k - 1] if k else None, edges[k] if k < len(edges) else None, n, m, gap))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One variable sorted once, so that ranks of a resample are a pass over counts."""

    group: Integers
    """(n,), which distinct value each record has, counted from the lowest."""
    order: Integers
    """(n,), sorts the records."""
    last_of_tie: Integers
    """(d,), where each distinct value ends in that order."""

    @classmethod
    def of(cls, values: Floats) -> _Ranking:
        order = np.argsort(values, kind="stable")
        is_last = np.append(values[order][1:] != values[order][:-1], True)
        group = np.empty(values.size, dtype=np.intp)
        group[order] = np.concatenate([[0], np.cumsum(is_last[:-1])])
        return cls(group, order, np.flatnonzero(is_last))

    def centred(self, counts: Integers) -> Floats:
        """Mid-rank of each record in the resample, minus the mean rank."""
        up_to = np.cumsum(counts.take(self.order))[self.last_of_tie]
        mid = up_to - np.diff(up_to, prepend=0) / 2
        return np.asarray((mid - up_to[-1] / 2)[self.group], dtype=np.float64)


def _correlation(rankings: list[_Ranking], counts: Integers) -> float:
    """Correlation of the first two rankings, the third partialled out where there is one; NaN where undefined."""
    ranks = [ranking.centred(counts) for ranking in rankings]
    weighted = [counts * rank for rank in ranks]
    norms = [math.sqrt(float(rank @ weight)) for rank, weight in zip(ranks, weighted, strict=True)]
    if min(norms) == 0:
        return math.nan
    plain = float(ranks[0] @ weighted[1]) / (norms[0] * norms[1])
    if len(ranks) == 2:
        return min(max(plain, -1.0), 1.0)
    with_x = float(ranks[0] @ weighted[2]) / (norms[0] * norms[2])
    with_y = float(ranks[1] @ weighted[2]) / (norms[1] * norms[2])
    left = (1 - with_x**2) * (1 - with_y**2)
    if left < 1e-12:  # rounding: x or y is a function of what is partialled out
        return math.nan
    return min(max((plain - with_x * with_y) / math.sqrt(left), -1.0), 1.0)


METHOD = "ratio of totals, percentile bootstrap over records"
BLOCK = 200  # replicates whose weights exist at one time, fewer where they would exceed MAX_WEIGHTS
MAX_WEIGHTS = 2**24


def ratio_estimate(
    numerators: Floats,
    denominators: Floats,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Sum of `numerators` over sum of `denominators`, with a percentile bootstrap over records.

    Long records weigh more than short ones, in the value and in every replicate alike. `n` counts the records, `m`
    is 0.

    Args:
        numerators: (n,), finite: negative log-likelihood of each record, for example.
        denominators: (n,), finite, at least 0: its tokens.
        rng: draws the resamples.
        level: chance that the interval covers the true ratio, in (0, 1).
        resamples: bootstrap replicates.

    Raises:
        ValueError: the sizes differ, or a value is NaN or infinite.

    Source: the ratio estimator of survey sampling (Cochran 1977, chapter 6); interval by Efron and Tibshirani 1993.
    """
    above, below = finite(numerators), finite(denominators)
    if above.size != below.size:
        raise ValueError("numerators and denominators must be of the same records")
    n = above.size
    if n == 0 or below.sum() <= 0:
        return Estimate(None, n=n, level=level, method=METHOD, reason="nothing to divide by")
    value = float(above.sum() / below.sum())
    if n < 2:
        return Estimate(value, n=n, level=level, method=METHOD, reason="no interval from a single record")
    draws = []
    block = min(BLOCK, max(MAX_WEIGHTS // n, 1))
    for start in range(0, resamples, block):
        chosen = rng.integers(0, n, size=(min(block, resamples - start), n))
        totals = below[chosen].sum(axis=1)
        draws.append(above[chosen].sum(axis=1) / np.where(totals > 0, totals, np.nan))
    low, high = np.nanquantile(np.concatenate(draws), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n=n, level=level, method=METHOD)
