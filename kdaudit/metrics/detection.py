"""How many evaluation records a model detects, on the data and in every bootstrap replicate.

Given the thresholds of a replicate, resampling n records and counting those above is a binomial draw; for two models
it is one over the records that both, one alone, and neither detect. So no record is copied, and the counts are exact
in distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdaudit.metrics.calibration import Thresholds
from kdaudit.metrics.scores import Floats, Integers


@dataclass(frozen=True, slots=True)
class Detections:
    """Records of one class that the baseline and another model detect, each at its own threshold."""

    both: int
    baseline_only: int
    other_only: int
    neither: int


@dataclass(frozen=True, slots=True)
class Judged:
    """Evaluation records of one class under one model, at one kind of threshold."""

    scores: Floats
    """(n,), records in the same order for every model."""
    threshold: float
    """As fitted on the data."""
    replicated: Floats
    """(R,), as fitted in each replicate."""
    detected: Integers
    """(R,), how many of n resampled records lie above the replicate's threshold."""

    @property
    def n(self) -> int:
        """Records."""
        return self.scores.size

    @property
    def k(self) -> int:
        """How many of them lie above the threshold."""
        return int(np.count_nonzero(self.scores > self.threshold))


@dataclass(frozen=True, slots=True)
class Sight:
    """All that one model detects."""

    members: Judged
    """At the threshold of best balanced accuracy."""
    nonmembers: Judged
    """At the same threshold."""
    members_at_fpr: Mapping[str, Judged]
    """At the conformal threshold of each false-positive rate that the sizes allow."""


def look(
    members: Floats,
    nonmembers: Floats,
    fitted: Thresholds,
    replicated: Thresholds,
    *,
    beside: Sight | None,
    rng: np.random.Generator,
) -> Sight:
    """Judge the evaluation scores of one model at its thresholds.

    Args:
        members: (n,), evaluation scores.
        nonmembers: (m,), evaluation scores.
        fitted: thresholds on the data, R = 1.
        replicated: thresholds in R replicates.
        beside: the baseline's sight: the resamples hold the same records as its own.
        rng: draws the detections of the replicates.
    """
    balanced = float(fitted.balanced[0]), replicated.balanced
    return Sight(
        _judge(members, *balanced, beside.members if beside else None, rng),
        _judge(nonmembers, *balanced, beside.nonmembers if beside else None, rng),
        {
            key: _judge(
                members, float(fitted.conformal[key][0]), each, beside.members_at_fpr[key] if beside else None, rng
            )
            for key, each in replicated.conformal.items()
        },
    )


def cross_tabulate(baseline: Judged, other: Judged) -> Detections:
    """Who detects which records, at the thresholds fitted on the data."""
    by_baseline, by_other = baseline.scores > baseline.threshold, other.scores > other.threshold
    both = int(np.count_nonzero(by_baseline & by_other))
    baseline_only, other_only = baseline.k - both, other.k - both
    return Detections(both, baseline_only, other_only, baseline.n - both - baseline_only - other_only)


def _judge(
    scores: Floats, threshold: float, replicated: Floats, beside: Judged | None, rng: np.random.Generator
) -> Judged:
    n, above = scores.size, _count_above(scores, replicated)
    if beside is None:
        return Judged(scores, threshold, replicated, rng.binomial(n, above / n))
    above_base = _count_above(beside.scores, beside.replicated)
    above_both = _count_above_both(scores, replicated, beside.scores, beside.replicated)
    both = rng.binomial(beside.detected, above_both / np.maximum(above_base, 1))
    alone = rng.binomial(n - beside.detected, (above - above_both) / np.maximum(n - above_base, 1))
    return Judged(scores, threshold, replicated, both + alone)


def _count_above(scores: Floats, thresholds: Floats) -> Integers:
    """How many of the scores (n,) lie above each threshold: (R,)."""
    return scores.size - np.sort(scores).searchsorted(thresholds, side="right")


def _count_above_both(scores_a: Floats, thresholds_a: Floats, scores_b: Floats, thresholds_b: Floats) -> Integers:
    """How many records lie above a's and b's threshold at once, for each pair of thresholds: (R,)."""
    steps_a, step_a = np.unique(thresholds_a, return_inverse=True)
    steps_b, step_b = np.unique(thresholds_b, return_inverse=True)
    passed_a, passed_b = steps_a.searchsorted(scores_a), steps_b.searchsorted(scores_b)  # thresholds below each score
    shape = steps_a.size + 1, steps_b.size + 1
    passed = np.bincount(passed_a * shape[1] + passed_b, minlength=shape[0] * shape[1]).reshape(shape)
    at_least = passed[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    return at_least[step_a + 1, step_b + 1]
