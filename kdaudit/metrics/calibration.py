"""Thresholds, on the data and in every bootstrap replicate.

Balanced ones come from the calibration part, conformal ones from all non-members. A record counts as a member where its
score is above the threshold. Every threshold is one of the scores. Replicates are worked on in blocks of columns, so
that a pass over records is a pass over whole rows of memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""A resampled conformal threshold is at least the third largest score; above that it is mostly chance."""

BLOCK = 25
"""Replicates that are worked on at one time: what is kept for each candidate threshold then stays in the cache."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Calibration scores of one model, sorted once, so that a replicate is a pass over counts."""

    order: Integers
    """(n + m,), sorts members and non-members together."""
    curve: SmoothCurve
    """Smooths the gain over the candidate thresholds."""

    @classmethod
    def of(cls, members: Floats, nonmembers: Floats) -> Ladder:
        """Sort the scores of one model."""
        together = np.concatenate([members, nonmembers])
        order = np.argsort(together, kind="stable")
        return cls(order, SmoothCurve.of(together[order], is_member=order < members.size))

    def thresholds(self, gains: Floats, scratch: Floats) -> Floats:
        """Threshold with the best smoothed balanced accuracy in each of b replicates: (b,); of several, the lowest.

        Where none does better than chance it is the highest score, so that nobody counts as a member.

        Args:
            gains: (n + m, b), what is won when a record falls to or below the threshold: over its class's size and
                times how often it was drawn, positive for a non-member and negative for a member.
            scratch: (n + m, b), overwritten: fresh memory for each block would cost more than the sums in it.
        """
        np.take(gains, self.order, axis=0, out=scratch, mode="clip")  # no index is out of range; "raise" would copy
        reached = self.curve.smoothed(np.cumsum(scratch, axis=0, out=scratch))
        highest = reached.max(axis=0)
        rounding = ROUNDING * np.maximum(highest, -reached.min(axis=0))
        best = (reached >= highest - rounding).argmax(axis=0)  # the lowest, whatever rounding does to ties
        is_better = reached[best, np.arange(best.size)] > rounding
        return np.asarray(np.where(is_better, self.curve.values[best], self.curve.values[-1]), dtype=np.float64)


def conformal_rank(key: str, n_nonmembers: int) -> int:
    """Rank k = floor(f (n + 1)): a new score exceeds the k-th largest of n with chance at most f.

    In whole numbers, so that 0.1 * 30 is 3.
    """
    return (n_nonmembers + 1) // FALSE_POSITIVE_RATES[key]


def too_few(key: str, n_nonmembers: int, min_rank: int = 1) -> str:
    """Why so many non-members have no conformal threshold of that rank at this rate, or an empty string."""
    if conformal_rank(key, n_nonmembers) >= min_rank:
        return ""
    return f"needs {min_rank * FALSE_POSITIVE_RATES[key] - 1} non-members, there are {n_nonmembers}"


def balanced_threshold(members: Floats, nonmembers: Floats) -> float:
    """Threshold of best smoothed balanced accuracy.

    Args:
        members: (n,), calibration scores, n at least 1.
        nonmembers: (m,), calibration scores, m at least 1.
    """
    gains = np.ones((members.size + nonmembers.size, 1))
    _weigh(gains, members.size)
    return float(Ladder.of(members, nonmembers).thresholds(gains, np.empty_like(gains))[0])


def replicate_balanced(
    models: Sequence[tuple[Floats, Floats]], *, resamples: int, rng: np.random.Generator
) -> list[Floats]:
    """The balanced threshold of every model in every replicate, each (R,): the same records for all models.

    Args:
        models: calibration scores (members (n,), non-members (m,)) of each model, in the same order, neither empty.
        resamples: R, replicates; both classes are resampled apart.
        rng: draws the records.
    """
    if not models:
        return []
    n, m = models[0][0].size, models[0][1].size
    ladders = [Ladder.of(*scores) for scores in models]
    found = np.empty((len(models), resamples))
    for block, counts in _blocks(n + m, resamples, lambda: np.concatenate([draw_counts(n, rng), draw_counts(m, rng)])):
        _weigh(counts, n)
        scratch = np.empty_like(counts)
        for row, ladder in zip(found, ladders, strict=True):
            row[block] = ladder.thresholds(counts, scratch)
    return list(found)


def replicate_conformal(
    models: Sequence[Floats], keys: Sequence[str], *, resamples: int, rng: np.random.Generator
) -> list[dict[str, Floats]]:
    """The conformal thresholds of every model in every replicate, each (R,) by false-positive rate.

    Args:
        models: non-member scores (m,) of each model, in the same order.
        keys: of FALSE_POSITIVE_RATES, those that `too_few` allows.
        resamples: R, replicates; all non-members are resampled, the same for all models.
        rng: draws the records.
    """
    if not models or not keys:
        return [{} for _ in models]
    m = models[0].size
    ranks = {key: conformal_rank(key, m) for key in keys}
    # The count of resampled records among the top w is nearly Poisson(w): falling short of the rank is a matter of 9
    # standard deviations.
    largest = max(ranks.values())
    width = min(m, math.ceil(largest + 9 * math.sqrt(largest) + 40))
    tops = [np.argsort(-nonmembers, kind="stable")[:width] for nonmembers in models]
    found = [{key: np.empty(resamples) for key in keys} for _ in models]
    for block, counts in _blocks(m, resamples, lambda: draw_counts(m, rng)):
        for nonmembers, top, by_key in zip(models, tops, found, strict=True):
            reached = counts.take(top, axis=0)
            np.cumsum(reached, axis=0, out=reached)
            for key, rank in ranks.items():
                place = np.minimum((reached < rank).sum(axis=0), width - 1)
                by_key[key][block] = nonmembers[top[place]]
    return found


def _blocks(n: int, resamples: int, draw: Callable[[], Integers]) -> Iterator[tuple[slice, Floats]]:
    """Counts (n, b) of `resamples` draws, b replicates at a time, and where they belong; overwritten by the next."""
    counts = np.empty((n, BLOCK))
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        if size < BLOCK:
            counts = np.empty((n, size))
        for column in range(size):
            counts[:, column] = draw()
        yield slice(start, start + size), counts


def _weigh(counts: Floats, n: int) -> None:
    """Turn the counts (n + m, b) of members, then non-members, into gains: whole numbers, so that ties are exact."""
    m = counts.shape[0] - n
    counts[:n] *= -(m // math.gcd(n, m))
    counts[n:] *= n // math.gcd(n, m)
