"""AUC with DeLong's interval, and the difference of two paired AUCs.

Source: DeLong et al. 1988, computed from ranks as in Sun and Xu 2014; Hanley and McNeil 1982 where classes are
separated; `bounds` for those near 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy

from kdaudit.metrics.bootstrap import NULL_LEVEL
from kdaudit.metrics.bounds import auc_bound, edge_weight
from kdaudit.metrics.estimate import Difference, Estimate, lower_bound, upper_bound
from kdaudit.metrics.metric import Case, Family, Figures, Metric, Ranked
from kdaudit.metrics.scores import DO_NOT_VARY, Floats, finite, missing_reason

Z_95 = 1.959963984540054  # where a normal distribution reaches 0.975


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
    return float(_share_below(Ranked.of(members), Ranked.of(nonmembers)).mean())


def auc_estimate(members: Floats, nonmembers: Floats, *, level: float = 0.95) -> Estimate:
    """AUC with DeLong's interval on the logit scale; `value` is None with a reason where the scores do not vary.

    Above 0.9 (below 0.1) the interval widens to what holds near the edge: see `bounds`. At AUC 1 the centre lies at
    1 - 1 / (2 min(n, m)) with Hanley and McNeil's standard error there, and the upper bound is 1; mirrored at AUC 0.
    With a single record in a class, where DeLong's variance is undefined, Hanley and McNeil's is taken.

    Args:
        members: (n,), finite.
        nonmembers: (m,), finite.
        level: chance that the interval covers the true AUC, in (0, 1).

    Raises:
        ValueError: a score is NaN or infinite.
    """
    return _estimate(_Scored.of(members, nonmembers), level)


def _estimate(scored: _Scored, level: float = 0.95) -> Estimate:
    n, m, wins = scored.members.size, scored.nonmembers.size, scored.wins
    if wins is None:
        return Estimate(None, n=n, m=m, level=level, reason=scored.reason)
    centre, se, method = _centre_and_se(wins)
    if se == 0:
        return Estimate(None, n=n, m=m, level=level, reason=DO_NOT_VARY)
    return with_interval(
        Estimate(
            wins.auc,
            n=n,
            m=m,
            level=level,
            method=method,
            logit_value=float(scipy.special.logit(centre)),
            logit_se=se / (centre * (1 - centre)),
            is_separable=wins.is_separable,
        )
    )


def with_interval(estimate: Estimate) -> Estimate:
    """The estimate with the interval that its own bounds at (1 + level) / 2 make."""
    one_sided = (1 + estimate.level) / 2
    return replace(estimate, low=lower_bound(estimate, one_sided), high=upper_bound(estimate, one_sided))


def auc_difference(
    members_a: Floats,
    nonmembers_a: Floats,
    members_b: Floats,
    nonmembers_b: Floats,
    *,
    training_variance_b: float = 0.0,
    level: float = 0.95,
) -> Difference:
    """AUC of a minus AUC of b over the same records, with DeLong's paired covariance on the raw scale.

    Where an AUC lies beyond 0.9 (below 0.1) its standard error grows to the longer arm of its own interval over z,
    which DeLong's correlation then combines: DeLong's alone misses near the edge. Where an AUC is exactly 0 or 1 no
    correlation is known, and none is taken. Equal rankings give 0 in [0, 0] with p-value 1.

    Args:
        members_a: (n,), finite.
        nonmembers_a: (m,), finite.
        members_b: (n,), the same records in the same order.
        nonmembers_b: (m,), the same records in the same order.
        training_variance_b: what training the classifier b on these records adds to the variance of its AUC, as a
            multiple of DeLong's, which knows of no training; independent of a.
        level: chance that the interval covers the true difference, in (0, 1).

    Raises:
        ValueError: the sizes of a and b differ, or a score is NaN or infinite.
    """
    scored_a, scored_b = _Scored.of(members_a, nonmembers_a), _Scored.of(members_b, nonmembers_b)
    return _difference(scored_a, scored_b, training_variance_b, level)


def _difference(
    scored_a: _Scored, scored_b: _Scored, training_variance_b: float = 0.0, level: float = 0.95
) -> Difference:
    n, m = scored_a.members.size, scored_a.nonmembers.size
    if (scored_b.members.size, scored_b.nonmembers.size) != (n, m):
        raise ValueError("paired scores must be of the same records")
    a, b = scored_a.wins, scored_b.wins
    if a is None or b is None:
        return Difference(None, n=n, m=m, level=level, reason=scored_a.reason or scored_b.reason)
    gap = _Wins(a.of_members - b.of_members, a.of_nonmembers - b.of_nonmembers)
    is_same = np.array_equal(scored_a.members, scored_b.members) and np.array_equal(
        scored_a.nonmembers, scored_b.nonmembers
    )
    if training_variance_b == 0 and (is_same or (gap.is_zero and not a.is_separable)):
        return Difference(0.0, 0.0, 0.0, 1.0, n=n, m=m, level=level, method="equal rankings", se=0.0)
    if min(n, m) == 1 or (gap.se() == 0 and not a.is_separable and training_variance_b == 0):
        return Difference(None, n=n, m=m, level=level, reason="too few records for a paired difference")
    value, z = a.auc - b.auc, float(scipy.special.ndtri((1 + level) / 2))
    se = _paired_se(a, b, gap, training_variance_b)
    method = "DeLong, paired" if max(map(edge_weight, (a.auc, b.auc))) == 0 else "DeLong, paired, widened at the edge"
    p_value = float(2 * scipy.special.ndtr(-abs(value) / se))
    return Difference(
        value, max(value - z * se, -1.0), min(value + z * se, 1.0), p_value, n=n, m=m, level=level, method=method, se=se
    )


def _paired_se(a: _Wins, b: _Wins, gap: _Wins, training_variance_b: float) -> float:
    plain_a, plain_b, plain_gap = a.se(), b.se(), gap.se()
    own_a, own_b = _se_at_edge(a), _se_at_edge(b)
    correlation = 0.0
    if min(plain_a, plain_b) > 0:
        correlation = (plain_a**2 + plain_b**2 - plain_gap**2) / (2 * plain_a * plain_b)
    mended = own_a**2 + own_b**2 - 2 * min(max(correlation, -1.0), 1.0) * own_a * own_b
    return math.sqrt(max(mended, plain_gap**2) + training_variance_b * own_b**2)


def _se_at_edge(wins: _Wins) -> float:
    """DeLong's standard error, near 0 and 1 the longer arm of the 95 % interval over z where that is more."""
    centre, se, _ = _centre_and_se(wins)
    weight = edge_weight(wins.auc)
    if weight == 0:
        return se
    value, n, m = wins.auc, wins.of_members.size, wins.of_nonmembers.size
    low, high = (
        auc_bound(value, float(scipy.special.logit(centre)), se / (centre * (1 - centre)), n, m, tail)
        for tail in (0.025, 0.975)
    )
    return (1 - weight) * se + weight * max(se, (value - low) / Z_95, (high - value) / Z_95)


def _centre_and_se(wins: _Wins) -> tuple[float, float, str]:
    """Where the logit interval is centred, its standard error on the raw scale, and their source."""
    n, m = wins.of_members.size, wins.of_nonmembers.size
    if wins.is_separable:
        centre = abs(wins.auc - 1 / (2 * min(n, m)))  # half a win of the smaller class inside the edge
        return centre, hanley_mcneil_se(centre, n, m), "Hanley-McNeil at the edge, logit scale"
    if min(n, m) == 1:
        return wins.auc, hanley_mcneil_se(wins.auc, n, m), "Hanley-McNeil, logit scale"
    return wins.auc, wins.se(), "DeLong, logit scale" + (", Newcombe and gamma bounds" if edge_weight(wins.auc) else "")


def components(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """DeLong's structural components: the share of non-members that each member outscores (n,), and mirrored (m,).

    The covariance of two AUCs over the same records is that of their components over n plus that over m.
    """
    wins = _Wins.of(members, nonmembers)
    return wins.of_members, wins.of_nonmembers


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
        of_members, of_nonmembers = Ranked.of(members), Ranked.of(nonmembers)
        return cls(_share_below(of_members, of_nonmembers), 1 - _share_below(of_nonmembers, of_members))

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


@dataclass(frozen=True, slots=True)
class _Scored:
    """Scores of both classes with their wins, which every comparison of them shares."""

    members: Floats
    nonmembers: Floats
    reason: str
    """Why they say nothing, or an empty string."""
    wins: _Wins | None
    """None where they say nothing."""

    @classmethod
    def of(cls, members: Floats, nonmembers: Floats) -> _Scored:
        """A ValueError where a score is NaN or infinite."""
        members, nonmembers = finite(members), finite(nonmembers)
        reason = missing_reason(members, nonmembers)
        return cls(members, nonmembers, reason, None if reason else _Wins.of(members, nonmembers))


def _share_below(scores: Ranked, others: Ranked) -> Floats:
    """Share of `others` below each of `scores`, in the order before sorting; a tie counts half.

    Looked up in rising order: in any other a large array is read from all over the memory.
    """
    below = others.ranked.searchsorted(scores.ranked, side="left")
    not_above = others.ranked.searchsorted(scores.ranked, side="right")
    found = np.empty(scores.ranked.size)
    found[scores.order] = (below + not_above) / (2 * others.ranked.size)
    return found


def measure(case: Case) -> Figures:
    """The AUC of every model, minus the baseline's, and minus that of what saw neither set."""
    scored = {name: _Scored.of(*pair) for name, pair in {**case.scores, **case.nulls}.items()}
    others = [] if case.baseline is None else [name for name in case.scores if name != case.baseline]
    return Figures(
        {name: {"auc": _estimate(scored[name])} for name in case.scores},
        {name: {"auc": _difference(scored[name], scored[case.baseline])} for name in others if case.baseline},
        {
            name: {
                null: {"auc": _beyond(scored[name], scored[null], case.training_variance.get(null, 0.0))}
                for null in nulls
            }
            for name, nulls in case.held_against.items()
        },
    )


def _beyond(model: _Scored, null: _Scored, training_variance: float) -> Difference:
    return replace(_difference(model, null, training_variance, NULL_LEVEL), quantiles=None)


def auc_wins(members: Floats, nonmembers: Ranked, drawn: Floats) -> Floats:
    """Share of the drawn non-members (m, b) below each member, a tie counting half: (n, b)."""
    up_to = np.zeros((nonmembers.ranked.size + 1, drawn.shape[1]))
    np.cumsum(drawn[nonmembers.order], axis=0, out=up_to[1:])
    won = up_to[nonmembers.ranked.searchsorted(members, "left")]
    won += up_to[nonmembers.ranked.searchsorted(members, "right")]
    return np.asarray(won / (2 * nonmembers.ranked.size), dtype=np.float64)


FAMILY = Family(
    (
        Metric(
            "auc",
            "AUC",
            "AUC",
            chance=0.5,
            note="The chance that a random member is scored above a random non-member.",
            per_member=auc_wins,
        ),
    ),
    measure,
)
