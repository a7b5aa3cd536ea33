"""The strongest of several attacks on one model, with an interval that allows for having looked at all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from kdaudit.metrics.estimate import Estimate, lower_bound, upper_bound
from kdaudit.metrics.roc import components
from kdaudit.metrics.scores import Floats

DRAWS = 100_000  # the critical value is uncertain by 0.006


@dataclass(frozen=True, slots=True)
class Strongest:
    """The largest of the AUCs of several attacks on one model."""

    attack: str
    """Of the largest AUC found."""
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
    one_sided = float(ndtr(critical))
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
    alone = float(ndtri((1 + level) / 2))
    if len(correlation) == 1:
        return alone
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(values.clip(0))
    largest = np.abs(rng.standard_normal((DRAWS, len(correlation))) @ root.T).max(axis=1)
    return max(alone, float(np.quantile(largest, level)))
