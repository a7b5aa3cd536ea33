"""Thresholds from the calibration part, on the data and in every bootstrap replicate.

A record counts as a member where its score is above the threshold. Every threshold is one of the calibration scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdaudit.metrics.bootstrap import draw_counts
from kdaudit.metrics.scores import Floats, Integers
from kdaudit.metrics.smoothing import SmoothCurve

FALSE_POSITIVE_RATES: Mapping[str, int] = {"0.001": 1000, "0.01": 100, "0.1": 10}
"""Each rate under its key in the results: one false positive in so many non-members."""

ROUNDING = 1e-9
"""Of the largest gain: what lies closer together is a tie."""

MIN_RANK = 3
"""A conformal threshold is at least the third largest calibration score; above that it is mostly chance."""

MIN_FALSE_POSITIVES = 5
"""False positives that the evaluation part must be expected to hold at the rate, so that it can be checked."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds of one model: on the data (R = 1) or in R replicates."""

    balanced: Floats
    """(R,), best balanced accuracy on the calibration part."""
    conformal: Mapping[str, Floats]
    """(R,) for each false-positive rate that the sizes allow."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Calibration scores of one model, sorted once, so that a replicate is a pass over counts."""

    order: Integers
    """(n + m,), sorts members and non-members together."""
    curve: SmoothCurve
    """Smooths the gain over the candidate thresholds."""
    top: Integers
    """(w,), the highest non-members, falling; enough of them for every rank wanted."""
    top_scores: Floats
    """(w,), their scores."""

    @classmethod
    def of(cls, members: Floats, nonmembers: Floats, max_rank: int) -> Ladder:
        """Sort the scores of one model; `max_rank` is the largest conformal rank that will be asked for."""
        together = np.concatenate([members, nonmembers])
        order = np.argsort(together, kind="stable")
        curve = SmoothCurve.of(together[order], is_member=order < members.size)
        # The count of resampled records among the top w is nearly Poisson(w): falling short of the rank is a
        # matter of 9 standard deviations.
        width = min(nonmembers.size, math.ceil(max_rank + 9 * math.sqrt(max_rank) + 40))
        top = np.argsort(-nonmembers, kind="stable")[:width]
        return cls(order, curve, top, nonmembers[top])

    def balanced_threshold(self, gains: Integers) -> float:
        """Threshold with the best smoothed balanced accuracy; of several, the lowest.

        Where none does better than chance it is the highest score, so that nobody counts as a member.

        Args:
            gains: (n + m,), what is won when a record falls to or below the threshold: over its class's size and
                times how often it was drawn, positive for a non-member and negative for a member.
        """
        reached = self.curve.smoothed(np.cumsum(gains.take(self.order)))
        rounding = ROUNDING * np.abs(reached).max()
        best = int((reached >= reached.max() - rounding).argmax())  # the lowest, whatever rounding does to ties
        return float(self.curve.values[best] if reached[best] > rounding else self.curve.values[-1])

    def conformal_thresholds(self, nonmember_counts: Integers, ranks: Integers) -> Floats:
        """Scores at which the resampled non-members reach each of the rising `ranks` (p,), counted from the top."""
        reached = np.cumsum(nonmember_counts.take(self.top))
        return self.top_scores[np.minimum(reached.searchsorted(ranks), self.top.size - 1)]


def conformal_rank(key: str, n_nonmembers: int) -> int:
    """Rank k = floor(f (n + 1)): a new score exceeds the k-th largest of n with chance at most f.

    In whole numbers, so that 0.1 * 30 is 3.
    """
    return (n_nonmembers + 1) // FALSE_POSITIVE_RATES[key]


def too_few(key: str, n_calibration: int, n_evaluation: int) -> str:
    """Why these counts of non-members do not allow a TPR at this false-positive rate, or an empty string."""
    one_in = FALSE_POSITIVE_RATES[key]
    if conformal_rank(key, n_calibration) < MIN_RANK:
        return f"needs {MIN_RANK * one_in - 1} non-members in the calibration part, there are {n_calibration}"
    if n_evaluation < MIN_FALSE_POSITIVES * one_in:
        return f"needs {MIN_FALSE_POSITIVES * one_in} non-members in the evaluation part, there are {n_evaluation}"
    return ""


def fit_thresholds(members: Floats, nonmembers: Floats, keys: Sequence[str]) -> Thresholds:
    """Thresholds on the data itself.

    Args:
        members: (n,), calibration scores, n at least 1.
        nonmembers: (m,), calibration scores, m at least 1.
        keys: of FALSE_POSITIVE_RATES, those that `too_few` allows.
    """
    once = np.ones(members.size, dtype=np.intp), np.ones(nonmembers.size, dtype=np.intp)
    (fitted,) = _fit([(members, nonmembers)], keys, [once], size=1)
    return fitted


def replicate_thresholds(
    models: Sequence[tuple[Floats, Floats]], keys: Sequence[str], *, resamples: int, rng: np.random.Generator
) -> list[Thresholds]:
    """Thresholds of every model in every replicate, both classes resampled apart, the same records for all models.

    Args:
        models: calibration scores (members (n,), non-members (m,)) of each model, in the same order, neither empty.
        keys: of FALSE_POSITIVE_RATES, those that `too_few` allows.
        resamples: R, replicates.
        rng: draws the records.
    """
    if not models:
        return []
    n, m = models[0][0].size, models[0][1].size
    counts = ((draw_counts(n, rng), draw_counts(m, rng)) for _ in range(resamples))
    return _fit(models, keys, counts, size=resamples)


def _fit(
    models: Sequence[tuple[Floats, Floats]],
    keys: Sequence[str],
    counts: Iterable[tuple[Integers, Integers]],
    *,
    size: int,
) -> list[Thresholds]:
    """Thresholds of every model under each of `size` pairs of counts (members (n,), non-members (m,))."""
    n, m = models[0][0].size, models[0][1].size
    ranks = np.array([conformal_rank(key, m) for key in keys], dtype=np.intp)
    ladders = [Ladder.of(*scores, max_rank=int(ranks.max(initial=0))) for scores in models]
    balanced = np.empty((len(models), size))
    conformal = np.empty((len(models), len(keys), size))
    member_gain, nonmember_gain = -m // math.gcd(n, m), n // math.gcd(n, m)  # whole numbers, so that ties are exact
    gains = np.empty(n + m, dtype=np.intp)
    for replicate, (member_counts, nonmember_counts) in enumerate(counts):
        np.multiply(member_counts, member_gain, out=gains[:n])
        np.multiply(nonmember_counts, nonmember_gain, out=gains[n:])
        for index, ladder in enumerate(ladders):
            balanced[index, replicate] = ladder.balanced_threshold(gains)
            conformal[index, :, replicate] = ladder.conformal_thresholds(nonmember_counts, ranks)
    return [Thresholds(balanced[index], dict(zip(keys, conformal[index], strict=True))) for index in range(len(models))]
