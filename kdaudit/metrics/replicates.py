"""Leak and utility of many models under the same resamples of records, replicate by replicate.

Column 0 of every array of replicates is the data itself, each record once; the R columns after it are resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kdaudit.metrics.bootstrap import draw_counts
from kdaudit.metrics.calibration import conformal_rank
from kdaudit.metrics.parts import Parts
from kdaudit.metrics.scores import Floats, Integers

Metric = Literal["auc", "tpr@0.01"]

BLOCK = 128
"""Replicates that are worked on at one time: their sums stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each record is in each replicate; calibration and evaluation part are resampled apart."""

    members: Floats
    """(n, R + 1), float64: whole numbers."""
    nonmembers: Floats
    """(m, R + 1)."""

    @classmethod
    def draw(cls, parts: Parts, *, resamples: int, rng: np.random.Generator) -> Counts:
        """R resamples of the records of all four parts."""
        return cls(
            _draw_class(parts.calibration_members, parts.evaluation_members, resamples, rng),
            _draw_class(parts.calibration_nonmembers, parts.evaluation_nonmembers, resamples, rng),
        )


def leak_replicates(metric: Metric, members: Floats, nonmembers: Floats, counts: Counts) -> Floats:
    """The metric of one attack on one model in every replicate: (R + 1,).

    Args:
        metric: the AUC, or the TPR at the conformal threshold that the replicate's non-members give for 1 % FPR.
        members: (n,), finite.
        nonmembers: (m,), finite.
        counts: of the same records.
    """
    if metric == "auc":
        return _auc(members, nonmembers, counts)
    return _tpr(members, nonmembers, counts, "0.01")


def mean_replicates(sums: Floats, sizes: Floats, counts: Floats) -> Floats:
    """The sum over records of `sums` (m,) over that of `sizes` (m,), in every replicate of `counts` (m, R + 1)."""
    return np.asarray((sums @ counts) / (sizes @ counts), dtype=np.float64)


def _auc(members: Floats, nonmembers: Floats, counts: Counts) -> Floats:
    order = np.argsort(nonmembers, kind="stable")
    ranked = nonmembers[order]
    below, not_above = ranked.searchsorted(members, "left"), ranked.searchsorted(members, "right")
    values = np.empty(counts.members.shape[1])
    for start in range(0, values.size, BLOCK):
        block = slice(start, start + BLOCK)
        of_members = counts.members[:, block]
        up_to = np.zeros((nonmembers.size + 1, of_members.shape[1]))
        np.cumsum(counts.nonmembers[order, block], axis=0, out=up_to[1:])
        wins = up_to[below]
        wins += up_to[not_above]
        values[block] = np.einsum("nr,nr->r", of_members, wins)
    return values / (2 * members.size * nonmembers.size)


def _tpr(members: Floats, nonmembers: Floats, counts: Counts, key: str) -> Floats:
    falling = np.argsort(-nonmembers, kind="stable")
    reached = np.cumsum(counts.nonmembers[falling], axis=0)
    thresholds = nonmembers[falling][(reached >= conformal_rank(key, nonmembers.size)).argmax(axis=0)]
    detected = members[:, None] > thresholds
    return np.asarray(np.einsum("nr,nr->r", counts.members, detected) / members.size, dtype=np.float64)


def _draw_class(calibration: Integers, evaluation: Integers, resamples: int, rng: np.random.Generator) -> Floats:
    counts = np.ones((calibration.size + evaluation.size, resamples + 1))
    for replicate in range(1, resamples + 1):
        for part in (calibration, evaluation):
            counts[part, replicate] = draw_counts(part.size, rng)
    return counts
