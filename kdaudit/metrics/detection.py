"""How many records a model detects, on the data and in every bootstrap replicate.

Given the thresholds of a replicate, resampling n records and counting those above is a binomial draw; for two models
it is one over the records that one alone detects. So no record is copied, and the counts are exact in distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    """Records of one class under one model, at one kind of threshold."""

    scores: Floats
    """(n,), records in the same order for every model."""
    threshold: float
    """As fitted on the data."""
    replicated: Floats
    """(R,), as fitted in each replicate."""

    @property
    def n(self) -> int:
        """Records."""
        return self.scores.size

    @property
    def k(self) -> int:
        """How many of them lie above the threshold."""
        return int(np.count_nonzero(self.scores > self.threshold))

    def is_same(self, other: Judged) -> bool:
        """Whether the two cannot differ, whatever the sample."""
        return np.array_equal(self.scores, other.scores) and np.array_equal(self.replicated, other.replicated)


@dataclass(frozen=True, slots=True)
class Sight:
    """What one model detects of the evaluation part at the threshold of best balanced accuracy."""

    members: Judged
    nonmembers: Judged


def cross_tabulate(baseline: Judged, other: Judged) -> Detections:
    """Who detects which records, at the thresholds fitted on the data."""
    by_baseline, by_other = baseline.scores > baseline.threshold, other.scores > other.threshold
    both = int(np.count_nonzero(by_baseline & by_other))
    baseline_only, other_only = baseline.k - both, other.k - both
    return Detections(both, baseline_only, other_only, baseline.n - both - baseline_only - other_only)


def resampled_detections(judged: Judged, rng: np.random.Generator) -> Integers:
    """How many of n resampled records lie above the threshold of each replicate: (R,)."""
    return rng.binomial(judged.n, _count_above(judged) / judged.n)


def resampled_gaps(judged: Judged, baseline: Judged, rng: np.random.Generator) -> Integers:
    """By how many of n resampled records the model detects more than the baseline in each replicate: (R,)."""
    n, above_both = judged.n, _count_above_both(judged, baseline)
    judged_only, baseline_only = _count_above(judged) - above_both, _count_above(baseline) - above_both
    more = rng.binomial(n, judged_only / n)
    return more - rng.binomial(n - more, baseline_only / np.maximum(n - judged_only, 1))


def _count_above(judged: Judged) -> Integers:
    """How many of the scores lie above each replicate's threshold: (R,)."""
    return judged.n - np.sort(judged.scores).searchsorted(judged.replicated, side="right")


def _count_above_both(a: Judged, b: Judged) -> Integers:
    """How many records lie above a's and b's threshold at once, in each replicate: (R,)."""
    steps_a, step_a = np.unique(a.replicated, return_inverse=True)
    steps_b, step_b = np.unique(b.replicated, return_inverse=True)
    passed_a, passed_b = steps_a.searchsorted(a.scores), steps_b.searchsorted(b.scores)  # thresholds below each score
    shape = steps_a.size + 1, steps_b.size + 1
    passed = np.bincount(passed_a * shape[1] + passed_b, minlength=shape[0] * shape[1]).reshape(shape)
    at_least = passed[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    return at_least[step_a + 1, step_b + 1]
