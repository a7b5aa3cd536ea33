"""The true positive rate at a false positive rate, with bounds that are exact however the scores are distributed.

The threshold t above which a share f of all non-members would lie is not known, but order statistics enclose it: of m
non-members Bin(m, f) lie above it. Let y(j) be the j-th largest. With the largest j for which P(Bin(m, f) <= j - 1) is
at most a/2, y(j) lies below t with chance a/2 at most. So the TPR at y(j), bounded from below at a/2 by Clopper and
Pearson, bounds the TPR at t with an error of a at most. The upper bound is its mirror image. Nothing is resampled and
no record is set apart. Both errors seldom meet, so the bounds cover more often than they say.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from kdaudit.metrics.bounds import clopper_pearson
from kdaudit.metrics.calibration import FALSE_POSITIVE_RATES, conformal_rank, too_few
from kdaudit.metrics.estimate import Estimate, ExactRate, lower_bound, upper_bound
from kdaudit.metrics.scores import Floats, finite, missing_reason

METHOD = "exact, order statistics of all non-members"

MAX_COUNTS = 200
"""Ranks that are kept for bounds at other levels; of more, every second or third one, which can only widen a bound."""


def conformal_threshold(nonmembers: Floats, key: str) -> float:
    """The k-th largest score, k = floor(f (m + 1)).

    Args:
        nonmembers: (m,), enough for k of 1 at least.
        key: of FALSE_POSITIVE_RATES.
    """
    place = nonmembers.size - conformal_rank(key, nonmembers.size)
    return float(np.partition(nonmembers, place)[place])


def tpr_estimate(members: Floats, nonmembers: Floats, key: str, *, level: float = 0.95) -> Estimate:
    """The share of the members above the conformal threshold of all non-members, with exact bounds.

    `realised_fpr` is the share of the same non-members above that threshold, with the Clopper-Pearson interval of that
    count: about f by construction, lower where scores tie.

    Args:
        members: (n,), finite.
        nonmembers: (m,), finite.
        key: of FALSE_POSITIVE_RATES.
        level: chance that the interval covers the true rate, in (0, 1).

    Returns:
        `value` is None with a reason where scores do not vary, or non-members are fewer than 1 / f - 1.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    members, nonmembers = finite(members), finite(nonmembers)
    n, m = members.size, nonmembers.size
    if reason := missing_reason(members, nonmembers) or too_few(key, m):
        return Estimate(None, n=n, m=m, level=level, reason=reason)
    threshold = conformal_threshold(nonmembers, key)
    found, alarms = (int(np.count_nonzero(scores > threshold)) for scores in (members, nonmembers))
    realised, fixed = clopper_pearson(alarms, m, level), clopper_pearson(found, n, level)
    estimate = Estimate(
        found / n,
        n=n,
        m=m,
        level=level,
        method=METHOD,
        exact=_counts(members, nonmembers, key),
        threshold=threshold,
        realised_fpr=alarms / m,
        realised_fpr_low=realised[0],
        realised_fpr_high=realised[1],
        fixed_threshold_low=fixed[0],
        fixed_threshold_high=fixed[1],
    )
    one_sided = (1 + level) / 2
    return replace(estimate, low=lower_bound(estimate, one_sided), high=upper_bound(estimate, one_sided))


def _counts(members: Floats, nonmembers: Floats, key: str) -> ExactRate:
    """The counts that bounds of any level down to an error of 1e-7 rest on."""
    m, fpr = nonmembers.size, 1 / FALSE_POSITIVE_RATES[key]
    mean, reach = m * fpr, 6 * math.sqrt(m * fpr) + 10  # beyond: a tail of less than 5e-8, Poisson's included
    first, last = max(1, math.floor(mean - reach)), min(m, math.ceil(mean + reach))
    step = -(-(last - first + 1) // MAX_COUNTS)
    ranks = np.arange(first, last + 1, step)
    places = m - ranks
    top = np.partition(nonmembers, np.unique(places))[places]
    ranked = np.sort(members)
    detected = ranked.size - ranked.searchsorted(top, side="right")
    return ExactRate(fpr, first, step, tuple(detected.tolist()))
