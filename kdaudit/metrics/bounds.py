"""Bounds of an AUC near 0 and 1, exact bounds of proportions, and p-values adjusted for many tests.

Near 0 and 1 DeLong's variance of an AUC is too small: few records disagree, and none may be sampled. Simulated
(`tests/metrics/coverage.py`): at AUC 0.99 to 0.999, 200 to 2000 records a class, unequal spreads, heavy tails and
unbalanced classes, DeLong's lower bound of level 0.975 lies too high in up to 30 % of runs instead of 2.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import scipy

from kdaudit.metrics.scores import Floats, Integers

RAMP = (0.90, 0.95)
"""Up to the first AUC the interval is DeLong's alone, from the second one the edge's; between them it moves steadily.

Below 0.9 DeLong's interval covers as it should, and Newcombe's, which never looks at the scores, does not where the
spreads differ.
"""
STEPS = 60  # bisections down to rounding error

normal_quantile = NormalDist().inv_cdf
"""It comes with Python: loading scipy.special takes longer than judging the gates of a run does."""


def auc_bound(value: float, logit_value: float, logit_se: float, n: int, m: int, tail: float) -> float:
    """The one-sided bound of an AUC that the true one lies below with chance `tail`, above with chance 1 - `tail`.

    In the middle expit(logit_value + z * logit_se), DeLong's on the logit scale. Near 1 a lower bound is the lowest of
    DeLong's, Newcombe's and the gamma bound with one more record on the wrong side, an upper bound the higher one of
    DeLong's and the gamma bound; near 0 mirrored.

    Args:
        value: the AUC, in [0, 1].
        logit_value: logit of the value, moved inside where it is 0 or 1.
        logit_se: standard error on the logit scale, above 0.
        n: members.
        m: non-members; with n or m 0 the bound is DeLong's everywhere.
        tail: in (0, 1).

    Source: Newcombe 2006, Statistics in Medicine 25:559-573, method 5; Fay and Feuer 1997, Statistics in Medicine
    16:791-801, for the share of lost pairs 1 - AUC as a sum of few unequal events.
    """
    if value < 0.5:
        return 1 - auc_bound(1 - value, -logit_value, logit_se, n, m, 1 - tail)
    plain = (1 + math.tanh((logit_value + normal_quantile(tail) * logit_se) / 2)) / 2  # expit
    weight = edge_weight(value)
    if weight == 0 or min(n, m) < 1:
        return plain
    lost = float(scipy.special.expit(-logit_value))
    variance = (logit_se * lost * (1 - lost)) ** 2
    if tail < 0.5:
        one_record = 1 / max(n, m)
        edge = min(
            plain,
            newcombe_bound(value, n, m, tail),
            1 - _gamma_quantile(1 - tail, lost + one_record, variance + one_record**2),
        )
    else:
        edge = max(plain, 1 - _gamma_quantile(1 - tail, lost, variance))
    if weight == 1 or not 0 < edge < 1:
        return min(max(edge, 0.0), 1.0)
    return float(scipy.special.expit((1 - weight) * scipy.special.logit(plain) + weight * scipy.special.logit(edge)))


def edge_weight(value: float) -> float:
    """How far an AUC lies on the way from DeLong's bounds (0) to those of the edge (1)."""
    from_half = abs(value - 0.5) + 0.5
    return min(max((from_half - RAMP[0]) / (RAMP[1] - RAMP[0]), 0.0), 1.0)


def newcombe_bound(value: float, n: int, m: int, tail: float) -> float:
    """Newcombe's method 5: the AUC whose own standard error puts `value` at z, z being the quantile of 1 - `tail`.

    The standard error is Hanley and McNeil's for exponential scores with n and m each replaced by their mean.

    Args:
        value: the AUC found, in [0, 1].
        n: members, at least 1.
        m: non-members, at least 1.
        tail: of the bound, in (0, 0.5] for a lower one; an upper one is 1 - newcombe_bound(1 - value, n, m, 1 - tail).
    """
    z, mean_size = -normal_quantile(tail), (n + m) / 2 - 1
    low, high = 0.0, value
    for _ in range(STEPS):
        middle = (low + high) / 2
        shape = (1 - middle) / (2 - middle) + middle / (1 + middle)
        se = math.sqrt(middle * (1 - middle) * (1 + mean_size * shape) / (n * m))
        if value - middle > z * se:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _gamma_quantile(level: float, mean: float, variance: float) -> float:
    return float(scipy.special.gammaincinv(mean**2 / variance, level)) * variance / mean


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
    low = np.where(k == 0, 0.0, scipy.special.betaincinv(np.maximum(k, 1), n - k + 1, tail))
    high = np.where(k == n, 1.0, scipy.special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail))
    return low, high


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value that two detectors succeed equally often, from the records where just one does.

    Exact at every size: twice the smaller binomial tail at 1/2, at most 1; 1 where they never disagree.

    Source: McNemar 1947; the exact form as in R's `exact2x2::mcnemar.exact`.
    """
    if min(only_a, only_b) < 0:
        raise ValueError("counts must not be negative")
    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * float(scipy.special.bdtr(min(only_a, only_b), n, 0.5)))


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
