"""Leak and utility of many models under the same resamples of records and seeds, replicate by replicate.

Column 0 of every array of replicates is the data itself, each record once; the R columns after it are resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdaudit.metrics import METRICS
from kdaudit.metrics.bootstrap import draw_counts
from kdaudit.metrics.metric import Ranked
from kdaudit.metrics.scores import Floats

PLACED_BY: tuple[str, ...] = tuple(name for name, metric in METRICS.items() if metric.per_member)
"""The metrics by which a comparison of mitigations places its arms; findings rest on the first one."""

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


def group_leaks(metric: str, members: Floats, nonmembers: Floats, counts: Counts, groups: Floats) -> Floats:
    """The metric of one attack on one model over groups of members in every replicate: (g, R + 1).

    Args:
        metric: one of PLACED_BY.
        members: (n,), finite.
        nonmembers: (m,), finite.
        counts: of the same records.
        groups: (g, n), 1 where a member belongs to a group, else 0. NaN comes out where a replicate holds none of them.

    Raises:
        ValueError: the metric is not the mean over members of what each of them adds.
    """
    per_member = METRICS[metric].per_member
    if per_member is None:
        raise ValueError(f"{metric} is not the mean of what every member adds")
    values = np.empty((groups.shape[0], counts.members.shape[1]))
    of_nonmembers = Ranked.of(nonmembers)
    for start in range(0, values.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        drawn = counts.members[:, block]
        won = drawn * per_member(members, of_nonmembers, counts.nonmembers[:, block])
        for row, group in enumerate(groups):  # one by one: a sum does not depend on which other groups there are
            with np.errstate(invalid="ignore"):
                values[row, block] = (group @ won) / (group @ drawn)
    return values


def mean_replicates(sums: Floats, sizes: Floats, counts: Floats) -> Floats:
    """The sum over records of `sums` (m,) over that of `sizes` (m,), in every replicate of `counts` (m, R + 1)."""
    return np.asarray((sums @ counts) / (sizes @ counts), dtype=np.float64)


def _draw(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    counts = np.ones((n, resamples + 1))
    for replicate in range(1, resamples + 1):
        counts[:, replicate] = draw_counts(n, rng)
    return counts


def seed_weights(n_seeds: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Weights of the seeds in every replicate, (R + 1, S), each row of sum 1, the first row 1/S each.

    A mean under them lies t standard errors from the mean, t of Student's distribution with S - 1 degrees of freedom:
    its quantiles are the usual confidence bounds of a mean of S normal values.
    """
    weights = np.full((resamples + 1, n_seeds), 1 / n_seeds)
    if n_seeds > 1:
        normal = rng.normal(size=(resamples, n_seeds))
        centred = normal - normal.mean(axis=1, keepdims=True)
        heavy = np.sqrt((n_seeds - 1) / rng.chisquare(n_seeds - 1, size=(resamples, 1)))
        weights[1:] += centred * heavy / np.sqrt(n_seeds * (n_seeds - 1))
    return weights
