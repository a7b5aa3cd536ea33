"""The strongest of several attacks on one model, and what the sizes of a run could have told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from kdaudit.metrics.auc import components, hanley_mcneil_se
from kdaudit.metrics.estimate import Estimate, lower_bound, upper_bound
from kdaudit.metrics.scores import Floats

DRAWS = 100_000  # the critical value is uncertain by 0.006


@dataclass(frozen=True, slots=True)
class Strongest:
    """The largest of the AUCs of several attacks on one model."""

    attack: str
    """The attack with the largest AUC found."""
    value: float
    low: float
    high: float
    """The interval holds the largest of the true AUCs, whichever attack has it, with chance `level`."""
    level: float
    critical_value: float
    """Standard errors on the logit scale on either side of every AUC; 1.96 where there is one attack."""
    attacks: tuple[str, ...]
    """Those that were measured."""


def strongest_attack(
    aucs: Mapping[str, Estimate | None],
    scores: Mapping[str, tuple[Floats, Floats]],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Strongest | None:
    """Simultaneous intervals for all AUCs, and from them the one for the largest; None where none was measured.

    With chance `level` every true AUC lies within its bounds at the two-sided level of the critical value c, the
    quantile of the largest |Z| under DeLong's correlation of the AUCs. So the largest true AUC lies between the
    largest of the lower bounds and the largest of the upper ones. The bounds are those of `lower_bound`, edge included.

    Args:
        aucs: by attack; None or without a value where it was not measured.
        scores: by attack members' (n,) and non-members' (m,) scores, NaN where there is none; every attack over the
            same records in the same order. Correlations come from the records that all of them score.
        rng: draws the critical value.
        level: of the interval, in (0, 1).

    Source: Hothorn, Bretz and Westfall 2008, Biometrical Journal 50:346-363, single-step max-type intervals.
    """
    found = {name: auc for name, auc in aucs.items() if auc is not None and auc.value is not None}
    if not found:
        return None
    critical = critical_value(auc_correlation([scores[name] for name in found]), rng=rng, level=level)
    one_sided = float(scipy.special.ndtr(critical))
    attack = max(found, key=lambda name: found[name].value or 0.0)
    return Strongest(
        attack,
        found[attack].value or 0.0,
        max(lower_bound(auc, one_sided) or 0.0 for auc in found.values()),
        max(upper_bound(auc, one_sided) or 0.0 for auc in found.values()),
        level,
        critical,
        tuple(found),
    )


def auc_correlation(scores: list[tuple[Floats, Floats]]) -> NDArray[np.float64]:
    """(k, k), DeLong's correlation of k AUCs over the records that all attacks score.

    An AUC without variance (0 or 1, or too few records in common) is taken as independent of the others, which can
    only widen the intervals.
    """
    members, nonmembers = (np.array([pair[side] for pair in scores]) for side in (0, 1))
    members, nonmembers = (each[:, np.isfinite(each).all(axis=0)] for each in (members, nonmembers))
    n, m = members.shape[1], nonmembers.shape[1]
    if min(n, m) < 2:
        return np.eye(len(scores))
    parts = [components(*pair) for pair in zip(members, nonmembers, strict=True)]
    covariance = sum(
        np.atleast_2d(np.cov(np.array([part[side] for part in parts]))) / size for side, size in ((0, n), (1, m))
    )
    se = np.sqrt(np.diag(covariance))
    is_known = se > 0
    scale = np.where(is_known, se, 1.0)
    correlation = np.where(np.outer(is_known, is_known), covariance / np.outer(scale, scale), 0.0)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation.clip(-1, 1))


def critical_value(correlation: NDArray[np.float64], *, rng: np.random.Generator, level: float = 0.95) -> float:
    """The `level` quantile of the largest |Z| of k normal variables, never below that of one alone.

    Args:
        correlation: (k, k), may be singular.
        rng: draws Z.
        level: in (0, 1).
    """
    alone = float(scipy.special.ndtri((1 + level) / 2))
    if len(correlation) == 1:
        return alone
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(values.clip(0))
    largest = np.abs(rng.standard_normal((DRAWS, len(correlation))) @ root.T).max(axis=1)
    return max(alone, float(np.quantile(largest, level)))


CHANCE = 0.5


def smallest_detectable_auc(
    n: int, m: int, *, cells: int = 1, null_variance: float = 1.0, level: float = 0.95, power: float = 0.8
) -> float:
    """The smallest AUC of one attack that a gate `auc <= 0.5` would fail on with chance `power`; 1 where none is.

    The gate fails where the lower bound at level 1 - (1 - level) / cells lies above 0.5 and the lower bound at `level`
    of the difference to the null (an AUC of 0.5 that knows nothing of the model) lies above 0. The null is taken as
    independent of the attack, which is the worst case, and the chances to miss either condition are added.

    Args:
        n: members, at least 1.
        m: non-members, at least 1.
        cells: scored cells that share the chance of a false failure, at least 1.
        null_variance: of the null's AUC, as a multiple of that of fixed scores; 0 where nothing must be beaten.
        level: of the one-sided tests, in (0.5, 1).
        power: chance of detection, in [0.5, 1).

    Raises:
        ValueError: an argument is out of its range.

    Source: sample-size formula of Hanley and McNeil 1982, solved for the AUC.
    """
    if min(n, m, cells) < 1 or null_variance < 0 or not 0.5 < level < 1 or not 0.5 <= power < 1:
        raise ValueError("needs a record of each class, a cell, a level in (0.5, 1) and a power in [0.5, 1)")
    at_chance = hanley_mcneil_se(CHANCE, n, m)
    z_cell, z_null = float(-scipy.special.ndtri((1 - level) / cells)), float(scipy.special.ndtri(level))

    def is_detected(area: float) -> bool:
        se = hanley_mcneil_se(area, n, m)
        missed = _missed(area - CHANCE, z_cell, at_chance, se)
        if null_variance > 0:
            null = math.sqrt(null_variance) * at_chance
            missed += _missed(area - CHANCE, z_null, math.hypot(at_chance, null), math.hypot(se, null))
        return missed <= 1 - power

    low, high = CHANCE, 1.0
    for _ in range(60):  # bisection down to rounding error
        middle = (low + high) / 2
        low, high = (low, middle) if is_detected(middle) else (middle, high)
    return high


def _missed(excess: float, z: float, se_of_test: float, se: float) -> float:
    """Chance that a normal estimate with mean `excess` does not lie z test errors above 0."""
    distance = excess - z * se_of_test
    return float(scipy.special.ndtr(-distance / se)) if se > 0 else float(distance < 0)
