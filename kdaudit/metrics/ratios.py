"""A total over records divided by another total, such as nats per token, with its interval."""

from __future__ import annotations

import numpy as np

from kdaudit.metrics.bootstrap import RESAMPLES
from kdaudit.metrics.estimate import Estimate
from kdaudit.metrics.scores import Floats, finite

METHOD = "ratio of totals, percentile bootstrap over records"
BLOCK = 200  # replicates whose weights exist at one time


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
    for start in range(0, resamples, BLOCK):
        chosen = rng.integers(0, n, size=(min(BLOCK, resamples - start), n))
        totals = below[chosen].sum(axis=1)
        draws.append(above[chosen].sum(axis=1) / np.where(totals > 0, totals, np.nan))
    low, high = np.nanquantile(np.concatenate(draws), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n=n, level=level, method=METHOD)
