"""Thresholds, on the data and in every bootstrap replicate.

Balanced ones come from the calibration part, conformal ones from all non-members. A record counts as a member where its
score is above the threshold. Every threshold is one of the scores.

The gain of a balanced threshold is smoothed, so that its best point can be resampled. The plain maximum of an empirical
curve converges with the cube root of the sample size, and the bootstrap is inconsistent for it (Abrevaya and Huang
2005): in simulated audits its 95 % intervals for differences of member success covered in 99 to 100 %, and the
threshold jumped between far-off values. Averaging the curve over a window around each point first restores the usual
rates (Horowitz 1992), as does the balanced accuracy that the threshold then attains.

Papers fit the threshold on the records that it judges: such in-sample figures are too good, and for comparison only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdaudit.metrics.auc import auc
from kdaudit.metrics.bootstrap import draw_counts
from kdaudit.metrics.scores import Floats, Integers, finite

FALSE_POSITIVE_RATES: Mapping[str, int] = {"0.001": 1000, "0.01": 100, "0.1": 10}
"""Each rate under its key in the results: the number of non-members for each false positive."""

ROUNDING = 1e-9
"""A share of the largest gain: what lies closer together is a tie."""

MIN_RANK = 3
"""A resampled conformal threshold is at least the third largest score; above that it is mostly chance."""

BLOCK = 25
"""Replicates that are smoothed at one time: what is kept for each candidate threshold then stays in the cache."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Calibration scores of one model between its candidate thresholds, so that a replicate is a sum for each.

    Gains are whole numbers: their sums are exact, in whatever order records are added up.
    """

    step: Integers
    """(n + m,), the first candidate that lies at or above each record, members before non-members."""
    curve: SmoothCurve
    """Smooths the gain over the candidate thresholds."""

    @classmethod
    def of(cls, members: Floats, nonmembers: Floats) -> Ladder:
        """Sort the scores of one model."""
        together = np.concatenate([members, nonmembers])
        order = np.argsort(together, kind="stable")
        curve = SmoothCurve.of(together[order], is_member=order < members.size)
        step = np.empty(together.size, dtype=np.intp)
        step[order] = curve.values.searchsorted(together[order])
        return cls(step, curve)

    def sums(self, gains: Floats) -> Floats:
        """(d,), the gain between each candidate and the one below it.

        Args:
            gains: (n + m,), what is won when a record falls to or below the threshold: over its class's size and
                times how often it was drawn, positive for a non-member and negative for a member.
        """
        return np.asarray(np.bincount(self.step, gains, self.curve.values.size), dtype=np.float64)

    def thresholds(self, sums: Floats) -> Floats:
        """Threshold with the best smoothed balanced accuracy in each of b replicates: (b,); of several, the lowest.

        Where none does better than chance it is the highest score, so that nobody counts as a member.

        Args:
            sums: (b, d), the `sums` of each replicate.
        """
        reached = self.curve.smoothed(np.cumsum(np.ascontiguousarray(sums.T), axis=0))
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
    """Why this number of non-members allows no conformal threshold of that rank at this rate, or an empty string."""
    if conformal_rank(key, n_nonmembers) >= min_rank:
        return ""
    return f"needs {min_rank * FALSE_POSITIVE_RATES[key] - 1} non-members, there are {n_nonmembers}"


def balanced_threshold(members: Floats, nonmembers: Floats) -> float:
    """Threshold of best smoothed balanced accuracy.

    Args:
        members: (n,), calibration scores, n at least 1.
        nonmembers: (m,), calibration scores, m at least 1.
    """
    ladder = Ladder.of(members, nonmembers)
    gains = np.repeat(_weights(members.size, nonmembers.size), [members.size, nonmembers.size])
    return float(ladder.thresholds(ladder.sums(gains)[None])[0])


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
    of_member, of_nonmember = _weights(n, m)
    found = np.empty((len(models), resamples))
    gains = np.empty(n + m)
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        sums = [np.empty((size, ladder.curve.values.size)) for ladder in ladders]
        for replicate in range(size):
            np.multiply(draw_counts(n, rng), of_member, out=gains[:n])
            np.multiply(draw_counts(m, rng), of_nonmember, out=gains[n:])
            for ladder, rows in zip(ladders, sums, strict=True):
                rows[replicate] = ladder.sums(gains)
        for row, ladder, rows in zip(found, ladders, sums, strict=True):
            row[start : start + size] = ladder.thresholds(rows)
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
    found = np.empty((len(models), resamples, len(ranks)))
    wanted = list(ranks.values())
    for replicate in range(resamples):
        counts = draw_counts(m, rng)
        for nonmembers, top, rows in zip(models, tops, found, strict=True):
            place = np.cumsum(counts.take(top)).searchsorted(wanted).clip(max=width - 1)
            rows[replicate] = nonmembers[top[place]]
    return [dict(zip(ranks, rows.T.copy(), strict=True)) for rows in found]


def _weights(n: int, m: int) -> Floats:
    """(2,), what a member and a non-member at or below a threshold win: whole numbers, so that ties are exact."""
    return np.array([-(m // math.gcd(n, m)), n // math.gcd(n, m)], dtype=np.float64)


WIDTH = 0.3
"""Half the window is WIDTH * N ** -0.2 of the calibration records. At 0.3 no score distribution tried lost more than
0.002 of the balanced accuracy attained against no smoothing, and most gained; 0 would be the plain maximum."""

MAX_CANDIDATES = 500
"""Thresholds tried; of more distinct scores those at evenly spaced shares, dozens to a window."""


@dataclass(frozen=True, slots=True)
class SmoothCurve:
    """Candidate thresholds of one model and the window around each.

    The position of a threshold is the mean of the shares of members and of non-members at or below it: between classes
    of different size, perfect separation lies at 1/2, where the window is symmetric and its best point exact. Between
    candidates the curve is linear, beyond both ends it is 0.
    """

    values: Floats
    """(d,), the candidates, rising; the last is the highest score."""
    steps: Floats
    """(d,), how far each position lies above the one before, the first above 0."""
    window_start: Integrals
    window_end: Integrals

    @classmethod
    def of(cls, ranked: Floats, is_member: NDArray[np.bool_]) -> SmoothCurve:
        """Lay out the windows.

        Args:
            ranked: (n + m,), the scores of both classes, rising.
            is_member: (n + m,), the class of each; both classes occur.
        """
        n = int(np.count_nonzero(is_member))
        m = ranked.size - n
        place = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        members_below = np.cumsum(is_member)[place]
        position = members_below / (2 * n) + (place + 1 - members_below) / (2 * m)
        if place.size > MAX_CANDIDATES:
            wanted = np.arange(1, MAX_CANDIDATES + 1) / MAX_CANDIDATES
            kept = np.unique(position.searchsorted(wanted - 1e-9).clip(max=place.size - 1))  # 1/2 may be rounded
            place, position = place[kept], position[kept]
        half = WIDTH * (4 * n * m / (n + m)) ** -0.2
        knots = np.concatenate([[0.0], position])
        return cls(
            ranked[place],
            np.diff(knots),
            Integrals.up_to(position - half, knots),
            Integrals.up_to(position + half, knots),
        )

    def smoothed(self, reached: Floats) -> Floats:
        """Integral of the curve over the window around each candidate, in each of b replicates: (d, b).

        Args:
            reached: (d, b), the gain with the threshold at each candidate.
        """
        height, area = np.zeros((2, self.values.size + 1, reached.shape[1]))
        height[1:] = reached
        np.add(height[1:], height[:-1], out=area[1:])
        area[1:] *= self.steps[:, None] / 2
        np.cumsum(area, axis=0, out=area)
        integrals = self.window_end.of(height, area)
        integrals -= self.window_start.of(height, area)
        return integrals


@dataclass(frozen=True, slots=True)
class Integrals:
    """Integrals of a piecewise linear curve from 0 up to d points, as weights of its heights at the knots."""

    left: Integers
    """(d,), the knot before each point."""
    of_left: Floats
    """(d,), weight of the height there."""
    of_right: Floats
    """(d,), weight of the height at the next knot."""

    @classmethod
    def up_to(cls, points: Floats, knots: Floats) -> Integrals:
        """Weights for `points` (d,), cut to the range of the rising `knots` (d + 1,)."""
        inside = points.clip(knots[0], knots[-1])
        left = (knots.searchsorted(inside, side="right") - 1).clip(max=knots.size - 2)
        offset, length = inside - knots[left], knots[left + 1] - knots[left]
        of_right = offset**2 / (2 * length)
        return cls(left, offset - of_right, of_right)

    def of(self, height: Floats, area: Floats) -> Floats:
        """Integrals (d, b) of the curves with these heights and these areas up to each knot, both (d + 1, b)."""
        found = area.take(self.left, axis=0)
        for place, weight in ((self.left, self.of_left), (self.left + 1, self.of_right)):
            part = height.take(place, axis=0)
            part *= weight[:, None]
            found += part
        return found


class InSample(NamedTuple):
    """In-sample figures of one attack on one model; never gated, never given an interval."""

    auc: float
    balanced_accuracy: float
    member_success: float
    nonmember_success: float


def best_in_sample(members: Floats, nonmembers: Floats) -> InSample:
    """AUC, and the accuracies at the threshold of best balanced accuracy on these same records, the lowest of several.

    Args:
        members: (n,), finite, n at least 1.
        nonmembers: (m,), finite, m at least 1.

    Raises:
        ValueError: a class is empty, or a score is NaN or infinite.
    """
    members, nonmembers = finite(members), finite(nonmembers)
    area = auc(members, nonmembers)
    thresholds = np.unique(np.concatenate([members, nonmembers]))
    found_at = 1 - np.sort(members).searchsorted(thresholds, side="right") / members.size
    cleared_at = np.sort(nonmembers).searchsorted(thresholds, side="right") / nonmembers.size
    best = int(np.argmax(found_at + cleared_at))
    found, cleared = float(found_at[best]), float(cleared_at[best])
    return InSample(area, (found + cleared) / 2, found, cleared)
