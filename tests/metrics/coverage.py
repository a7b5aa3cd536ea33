"""Simulated coverage of the intervals of AUCs and of their differences: plain functions for slow tests and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm
from scipy.stats import t as student_t

from kdaudit.metrics.auc import auc_difference, auc_estimate
from kdaudit.metrics.estimate import upper_bound
from kdaudit.metrics.scores import Floats

SPREADS = {"normal": 1.0, "sd ratio 2": 2.0}
HEAVY = "t2"
KINDS = (*SPREADS, HEAVY)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of simulated runs."""

    covered: float
    """The two-sided 95 % interval holds the truth."""
    below: float
    """Its lower end lies above the truth: nominal 0.025."""
    above: float
    """Its upper end lies below the truth."""
    false_passes: float
    """The one-sided 95 % upper bound, which a gate passes on, lies below the truth: nominal 0.05."""
    replicates: int

    def __str__(self) -> str:
        """One line of a table."""
        return (
            f"coverage {self.covered:.3f} (nominal 0.95), too high {self.below:.3f}, too low {self.above:.3f}, "
            f"false passes {self.false_passes:.3f}, {self.replicates} replicates"
        )


@cache
def shift_of(kind: str, area: float) -> float:
    """How far the members' scores lie above the non-members' for a true AUC of `area`."""
    if kind in SPREADS:
        return float(np.hypot(SPREADS[kind], 1) * norm.ppf(area))
    middles = student_t.ppf((np.arange(200_000) + 0.5) / 200_000, 2)
    return float(brentq(lambda shift: student_t.cdf(middles + shift, 2).mean() - area, -500, 500))


def draw(kind: str, areas: Sequence[float], correlation: float, n: int, m: int, rng: np.random.Generator) -> Any:
    """Members' (k, n) and non-members' (k, m) scores of k attacks, a Gaussian copula between each two."""

    def correlated(size: int) -> Floats:
        shared, own = rng.normal(size=size), rng.normal(size=(len(areas), size))
        mixed: Floats = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        return np.asarray(student_t.ppf(ndtr(mixed), 2)) if kind == HEAVY else mixed

    shifts = np.array([shift_of(kind, area) for area in areas])
    return SPREADS.get(kind, 1.0) * correlated(n) + shifts[:, None], correlated(m)


def auc_coverage(kind: str, area: float, n: int, m: int, *, replicates: int, seed: int) -> Coverage:
    """Coverage of the interval of an AUC."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(replicates):
        members, nonmembers = draw(kind, [area], 0.0, n, m, rng)
        found.append(auc_estimate(members[0], nonmembers[0]))
    return _coverage(found, area)


def difference_coverage(
    kind: str, areas: tuple[float, float], correlation: float, n: int, *, replicates: int, seed: int
) -> Coverage:
    """Coverage of the interval of the first AUC minus the second, n records of each class, paired."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(replicates):
        (a, b), (others_a, others_b) = draw(kind, areas, correlation, n, n, rng)
        found.append(auc_difference(a, others_a, b, others_b))
    return _coverage(found, areas[0] - areas[1])


def _coverage(found: Sequence[Any], truth: float) -> Coverage:
    low, high = np.array([[one.low, one.high] for one in found]).T
    bounds = np.array([upper_bound(one, 0.95) for one in found])
    below, above = (low > truth).mean(), (high < truth).mean()
    return Coverage(1 - below - above, float(below), float(above), float((bounds < truth).mean()), len(found))
