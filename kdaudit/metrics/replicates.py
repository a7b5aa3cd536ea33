"""Leak and utility of many models under the same resamples of records, replicate by replicate.

Row 0 of every array of replicates is the data itself, each record once; the R rows after it are resamples.
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

BLOCK = 2**22
"""Elements of replicates x records that exist at one time."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each record is in each replicate; calibration and evaluation part are resampled apart."""

    members: Integers
    """(R + 1, n)."""
    nonmembers: Integers
    """(R + 1, m)."""

    @classmethod
    def draw(cls, parts: Parts, *, resamples: int, rng: np.random.Generator) -> Counts:
        """R resamples of the records of all four parts."""
        return cls(
            _draw_class(parts.calibration_members, parts.evaluation_members, resamples, rng),
            _draw_class(parts.calibration_nonmembers, parts.evaluation_nonmembers, resamples, rng),
        )


def leak_replicates(metric: Metric, members: Floats, nonmembers: Floats, counts: Counts, parts: Parts) -> Floats:
    """The metric of one attack on one model in every replicate: (R + 1,).

    Args:
        metric: the AUC of all records, or the TPR of the evaluation part at the conformal threshold that the
            replicate's calibration part gives for 1 % FPR.
        members: (n,), finite.
        nonmembers: (m,), finite.
        counts: of the same records.
        parts: of the same records.
    """
    if metric == "auc":
        return _auc(members, nonmembers, counts)
    return _tpr(members, nonmembers, counts, parts, "0.01")


def mean_replicates(sums: Floats, sizes: Floats, counts: Integers) -> Floats:
    """The sum over records of `sums` (m,) over that of `sizes` (m,), in every replicate of `counts` (R + 1, m)."""
    return np.asarray((counts @ sums) / (counts @ sizes), dtype=np.float64)


def _auc(members: Floats, nonmembers: Floats, counts: Counts) -> Floats:
    order = np.argsort(nonmembers, kind="stable")
    ranked = nonmembers[order]
    below, not_above = ranked.searchsorted(members, "left"), ranked.searchsorted(members, "right")
    values = np.empty(len(counts.members))
    rows = max(1, BLOCK // (members.size + nonmembers.size))
    for start in range(0, len(values), rows):
        block = slice(start, start + rows)
        of_members, of_nonmembers = counts.members[block], counts.nonmembers[block]
        up_to = np.zeros((len(of_members), nonmembers.size + 1))
        np.cumsum(of_nonmembers[:, order], axis=1, out=up_to[:, 1:])
        wins = up_to[:, below] + up_to[:, not_above]
        values[block] = np.vecdot(of_members, wins) / (2 * members.size * nonmembers.size)
    return values


def _tpr(members: Floats, nonmembers: Floats, counts: Counts, parts: Parts, key: str) -> Floats:
    calibration = parts.calibration_nonmembers
    falling = calibration[np.argsort(-nonmembers[calibration], kind="stable")]
    reached = np.cumsum(counts.nonmembers[:, falling], axis=1)
    places = (reached >= conformal_rank(key, calibration.size)).argmax(axis=1)
    thresholds = nonmembers[falling][places]
    judged = parts.evaluation_members
    detected = members[judged] > thresholds[:, None]
    return np.asarray(np.vecdot(counts.members[:, judged], detected) / judged.size, dtype=np.float64)


def _draw_class(calibration: Integers, evaluation: Integers, resamples: int, rng: np.random.Generator) -> Integers:
    counts = np.ones((resamples + 1, calibration.size + evaluation.size), dtype=np.intp)
    for row in range(1, resamples + 1):
        for part in (calibration, evaluation):
            counts[row, part] = draw_counts(part.size, rng)
    return counts
