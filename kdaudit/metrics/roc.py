"""AUC with DeLong's interval, and the difference of two paired AUCs.

Source: DeLong et al. 1988, computed from ranks as in Sun and Xu 2014; Hanley and McNeil 1982 at the edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from kdaudit.metrics.bootstrap import RESAMPLES, Spread, draw_counts, to_difference
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.scores import DO_NOT_VARY, Floats, Integers, finite, missing_reason


def auc(members: Floats, nonmembers: Floats) -> float:
    """Chance that a random member outscores a random non-member; a tie counts half.

    Args:
        members: (n,), finite, n at least 1.
        nonmembers: (m,), finite, m at least 1.

    Raises:
        ValueError: a class is empty, or a score is NaN or infinite.
    """
    members, nonmembers = finite(members), finite(nonmembers)
    if min(members.size, nonmembers.size) == 0:
        raise ValueError("AUC needs a score of each class")
    return float(_share_below(members, nonmembers).mean())


def auc_estimate(members: Floats, nonmembers: Floats, *, level: float = 0.95) -> Estimate:
    """AUC with DeLong's interval on the logit scale; `value` is None with a reason where the scores do not vary.

    At AUC 1 the lower bound comes from Hanley and McNeil's standard error at 1 - 1 / (2 min(n, m)) and the upper
    one is 1; mirrored at AUC 0. With a single record in a class, where DeLong's variance is undefined, Hanley and
    McNeil's is taken.

    Args:
        members: (n,), finite.
        nonmembers: (m,), finite.
        level: chance that the interval covers the true AUC, in (0, 1).

    Raises:
        ValueError: a score is NaN or infinite.
    """
    members, nonmembers = finite(members), finite(nonmembers)
    n, m = members.size, nonmembers.size
    if reason := missing_reason(members, nonmembers):
        return Estimate(None, n=n, m=m, level=level, reason=reason)
    wins = _Wins.of(members, nonmembers)
    centre, se, method = wins.auc, wins.se(), "DeLong, logit scale"
    if wins.is_separable:
        centre = abs(wins.auc - _edge_gap(n, m))
        se, method = hanley_mcneil_se(centre, n, m), "Hanley-McNeil at the edge, logit scale"
    elif min(n, m) == 1:
        se, method = hanley_mcneil_se(centre, n, m), "Hanley-McNeil, logit scale"
    if se == 0:
        return Estimate(None, n=n, m=m, level=level, reason=DO_NOT_VARY)
    logit_value, logit_se = float(logit(centre)), se / (centre * (1 - centre))
    z = float(ndtri((1 + level) / 2))
    return Estimate(
        wins.auc,
        0.0 if wins.auc == 0 else float(expit(logit_value - z * logit_se)),
        1.0 if wins.auc == 1 else float(expit(logit_value + z * logit_se)),
        n,
        m,
        level,
        method,
        logit_value=logit_value,
        logit_se=logit_se,
        is_separable=wins.is_separable,
    )


def auc_difference(
    members_a: Floats,
    nonmembers_a: Floats,
    members_b: Floats,
    nonmembers_b: Floats,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Difference:
    """AUC of a minus AUC of b over the same records, with DeLong's paired covariance on the raw scale.

    Where one AUC is exactly 0 or 1 the interval and the p-value come from a paired stratified bootstrap. Where
    both are, no resample differs from the data, so the standard errors are Hanley and McNeil's at the edge,
    without a covariance. Equal rankings give 0 in [0, 0] with p-value 1.

    Args:
        members_a: (n,), finite.
        nonmembers_a: (m,), finite.
        members_b: (n,), the same records in the same order.
        nonmembers_b: (m,), the same records in the same order.
        rng: draws the resamples, where there are any.
        level: chance that the interval covers the true difference, in (0, 1).

    Raises:
        ValueError: the sizes of a and b differ, or a score is NaN or infinite.
    """
    members_a, nonmembers_a = finite(members_a), finite(nonmembers_a)
    members_b, nonmembers_b = finite(members_b), finite(nonmembers_b)
    n, m = members_a.size, nonmembers_a.size
    if (members_b.size, nonmembers_b.size) != (n, m):
        raise ValueError("paired scores must be of the same records")
    if reason := missing_reason(members_a, nonmembers_a) or missing_reason(members_b, nonmembers_b):
        return Difference(None, n=n, m=m, level=level, reason=reason)
    a, b = _Wins.of(members_a, nonmembers_a), _Wins.of(members_b, nonmembers_b)
    gap = _Wins(a.of_members - b.of_members, a.of_nonmembers - b.of_nonmembers)
    value, se, method = a.auc - b.auc, gap.se(), "DeLong, paired"
    is_same = np.array_equal(members_a, members_b) and np.array_equal(nonmembers_a, nonmembers_b)
    if is_same or (gap.is_zero and not a.is_separable):
        return Difference(0.0, 0.0, 0.0, 1.0, n=n, m=m, level=level, method="equal rankings", se=0.0)
    if a.is_separable and b.is_separable:
        se, method = math.sqrt(2) * hanley_mcneil_se(1 - _edge_gap(n, m), n, m), "Hanley-McNeil at the edge"
    elif a.is_separable or b.is_separable:
        draws = _paired_resamples((members_a, nonmembers_a), (members_b, nonmembers_b), rng)
        return to_difference(Spread(value, draws, draws, draws), n, m, level, "paired bootstrap")
    if se == 0 or min(n, m) == 1:
        return Difference(None, n=n, m=m, level=level, reason="too few records for a paired difference")
    reach = float(ndtri((1 + level) / 2)) * se
    p_value = float(2 * ndtr(-abs(value) / se))
    return Difference(
        value, max(value - reach, -1.0), min(value + reach, 1.0), p_value, n=n, m=m, level=level, method=method, se=se
    )


def hanley_mcneil_se(value: float, n: int, m: int) -> float:
    """Standard error of an AUC of `value` with n members and m non-members, without their scores.

    Source: Hanley and McNeil 1982, the negative-exponential approximation.
    """
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (n - 1) * (q1 - value**2) + (m - 1) * (q2 - value**2)
    return math.sqrt(max(variance, 0.0) / (n * m))


@dataclass(frozen=True, slots=True)
class _Wins:
    """DeLong's structural components: how each record fares against the other class; a tie counts half."""

    of_members: Floats
    """(n,), share of the non-members that each member outscores."""
    of_nonmembers: Floats
    """(m,), share of the members that outscore each non-member."""

    @classmethod
    def of(cls, members: Floats, nonmembers: Floats) -> _Wins:
        return cls(_share_below(members, nonmembers), 1 - _share_below(nonmembers, members))

    @property
    def auc(self) -> float:
        return float(self.of_members.mean())

    @property
    def is_separable(self) -> bool:
        return self.auc in (0.0, 1.0)

    @property
    def is_zero(self) -> bool:
        return not (self.of_members.any() or self.of_nonmembers.any())

    def se(self) -> float:
        """DeLong's standard error; 0 where a class has one record, whose variance nothing tells."""
        n, m = self.of_members.size, self.of_nonmembers.size
        if min(n, m) == 1:
            return 0.0
        return math.sqrt(self.of_members.var(ddof=1) / n + self.of_nonmembers.var(ddof=1) / m)


def _share_below(scores: Floats, others: Floats) -> Floats:
    """Share of `others` below each of `scores`; a tie counts half."""
    ranked = np.sort(others)
    below = np.searchsorted(ranked, scores, side="left")
    not_above = np.searchsorted(ranked, scores, side="right")
    return np.asarray((below + not_above) / (2 * others.size), dtype=np.float64)


def _edge_gap(n: int, m: int) -> float:
    """How far inside the edge a separable AUC is taken to lie: half a win of the smaller class."""
    return 1 / (2 * min(n, m))


def _paired_resamples(a: tuple[Floats, Floats], b: tuple[Floats, Floats], rng: np.random.Generator) -> Floats:
    """AUC differences (R,) over resampled records, members and non-members apart, the same for a and b."""
    n, m = a[0].size, a[1].size
    ladders = [_Ladder.of(*scores) for scores in (a, b)]
    draws = np.empty(RESAMPLES)
    for replicate in range(RESAMPLES):
        counts = draw_counts(n, rng), draw_counts(m, rng)
        value_a, value_b = (ladder.auc(*counts) for ladder in ladders)
        draws[replicate] = value_a - value_b
    return draws


@dataclass(frozen=True, slots=True)
class _Ladder:
    """Where each member stands among the sorted non-members, so that a resample needs no sorting."""

    order: Integers
    """(m,), sorts the non-members."""
    below: Integers
    """(n,), non-members below each member."""
    not_above: Integers
    """(n,), non-members below or level with each member."""

    @classmethod
    def of(cls, members: Floats, nonmembers: Floats) -> _Ladder:
        order = np.argsort(nonmembers, kind="stable")
        ranked = nonmembers[order]
        return cls(order, ranked.searchsorted(members, "left"), ranked.searchsorted(members, "right"))

    def auc(self, member_counts: Integers, nonmember_counts: Integers) -> float:
        """AUC of the resample in which each record occurs as often as counted."""
        weight_up_to = np.concatenate([[0], np.cumsum(nonmember_counts[self.order])])
        wins = weight_up_to[self.below] + weight_up_to[self.not_above]
        return float(np.dot(member_counts, wins)) / float(2 * member_counts.sum() * nonmember_counts.sum())
