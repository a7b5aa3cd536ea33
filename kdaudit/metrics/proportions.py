"""Exact statements about proportions and about many p-values at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr, betaincinv

from kdaudit.metrics.scores import Floats, Integers


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval for a proportion of which `k` of `n` were seen; (0, 1) where n is 0.

    Raises:
        ValueError: k is not in 0..n, or level is not in (0, 1).

    Source: Clopper and Pearson 1934.
    """
    low, high = clopper_pearson_band(np.array([k], dtype=np.intp), n, level)
    return float(low[0]), float(high[0])


def clopper_pearson_band(k: Integers, n: int, level: float = 0.95) -> tuple[Floats, Floats]:
    """Clopper-Pearson bounds for many counts out of the same `n`.

    Args:
        k: (p,), each in 0..n.
        n: trials.
        level: chance that one interval covers its proportion, in (0, 1).

    Returns:
        Lower and upper bounds, each (p,).

    Raises:
        ValueError: a count is not in 0..n, or level is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    if n < 0 or np.any(k < 0) or np.any(k > n):
        raise ValueError(f"counts must lie in 0..{n}")
    tail = (1 - level) / 2
    # Where k is 0 or n the bound is that end; the maximum keeps the unused branch inside betaincinv's domain.
    low = np.where(k == 0, 0.0, betaincinv(np.maximum(k, 1), n - k + 1, tail))
    high = np.where(k == n, 1.0, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail))
    return low, high


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value that two detectors succeed equally often, from the records where just one does.

    Exact at every size: twice the smaller binomial tail at 1/2, at most 1; 1 where they never disagree.

    Source: McNemar 1947; the exact form as in R's `exact2x2::mcnemar.exact`.
    """
    if min(only_a, only_b) < 0:
        raise ValueError("counts must not be negative")
    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values of one family so that rejecting those at or below alpha keeps the family's error at alpha.

    None stays None and does not count towards the family.

    Raises:
        ValueError: a p-value is NaN or outside [0, 1].

    Source: Holm 1979.
    """
    known = [(p, index) for index, p in enumerate(p_values) if p is not None]
    if any(math.isnan(p) or not 0 <= p <= 1 for p, _ in known):
        raise ValueError("p-values must lie in [0, 1]")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted
