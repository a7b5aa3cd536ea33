"""Leak and utility of many models under the same resamples of records, replicate by replicate.

Column 0 of every array of replicates is the data itself, each record once; the R columns after it are resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kdaudit.metrics.bootstrap import draw_counts
from kdaudit.metrics.calibration import conformal_rank
from kdaudit.metrics.scores import Floats

Metric = Literal["auc", "tpr@0.01"]

BLOCK = 128
"""Replicates that are worked on at one time: their sums stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each record is in each replicate; members and non-members are resampled apart."""

    members: Floats
    """(n, R + 1), float64: whole numbers."""
    nonmembers: Floats
    """(m, R + 1)."""

    @classmethod
    def draw(cls, n: int, m: int, *, resamples: int, rng: np.random.Generator) -> Counts:
        """R resamples of n members and m non-members."""
        return cls(_draw(n, resamples, rng), _draw(m, resamples, rng))


def group_leaks(metric: Metric, members: Floats, nonmembers: Floats, counts: Counts, groups: Floats) -> Floats:
    """The metric of one attack on one model over groups of members in every replicate: (g, R + 1).

    Args:
        metric: the AUC of a group's members against all non-members, or the share of them above the conformal
            threshold that the replicate's non-members give for 1 % FPR.
        members: (n,), finite.
        nonmembers: (m,), finite.
        counts: of the same records.
        groups: (g, n), 1 where a member belongs to a group, else 0. NaN comes out where a replicate holds none of them.
    """
    wins = _auc_wins if metric == "auc" else _tpr_wins
    values = np.empty((groups.shape[0], counts.members.shape[1]))
    of_nonmembers = _Ladder.of(nonmembers)
    for start in range(0, values.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        drawn = counts.members[:, block]
        won = drawn * wins(members, of_nonmembers, counts.nonmembers[:, block])
        for row, group in enumerate(groups):  # one by one: a sum does not depend on which other groups there are
            with np.errstate(invalid="ignore"):
                values[row, block] = (group @ won) / (group @ drawn)
    return values


def mean_replicates(sums: Floats, sizes: Floats, counts: Floats) -> Floats:
    """The sum over records of `sums` (m,) over that of `sizes` (m,), in every replicate of `counts` (m, R + 1)."""
    return np.asarray((sums @ counts) / (sizes @ counts), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Ladder:
    """Non-members sorted once, so that a replicate is a pass over counts."""

    order: np.ndarray[tuple[int], np.dtype[np.intp]]
    ranked: Floats
    """(m,), rising."""

    @classmethod
    def of(cls, nonmembers: Floats) -> _Ladder:
        order = np.argsort(nonmembers, kind="stable")
        return cls(order, nonmembers[order])


def _auc_wins(members: Floats, ladder: _Ladder, drawn: Floats) -> Floats:
    """Share of the drawn non-members (m, b) below each member, a tie counting half: (n, b)."""
    up_to = np.zeros((ladder.ranked.size + 1, drawn.shape[1]))
    np.cumsum(drawn[ladder.order], axis=0, out=up_to[1:])
    won = up_to[ladder.ranked.searchsorted(members, "left")]
    won += up_to[ladder.ranked.searchsorted(members, "right")]
    return np.asarray(won / (2 * ladder.ranked.size), dtype=np.float64)


def _tpr_wins(members: Floats, ladder: _Ladder, drawn: Floats) -> Floats:
    """1 where a member lies above the drawn non-members' (m, b) conformal threshold, else 0: (n, b)."""
    reached = np.cumsum(drawn[ladder.order[::-1]], axis=0)
    place = (reached >= conformal_rank("0.01", ladder.ranked.size)).argmax(axis=0)
    return np.asarray(members[:, None] > ladder.ranked[::-1][place], dtype=np.float64)


def _draw(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    counts = np.ones((n, resamples + 1))
    for replicate in range(1, resamples + 1):
        counts[:, replicate] = draw_counts(n, rng)
    return counts
