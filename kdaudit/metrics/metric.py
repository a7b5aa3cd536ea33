"""What a metric is, what it is measured on, and what a measurement gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from kdaudit.draws import generator
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.scores import Floats, Parts

Pair: TypeAlias = tuple[Floats, Floats]
"""Scores of members (n,) and of non-members (m,), finite."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of one attack on one model: everything that any other part of the project knows of it."""

    name: str
    """As a gate writes it: auc, tpr@0.01."""
    title: str
    """In a heading, for a reader: true positive rate at 1 % false positive rate."""
    short: str
    """On an axis and in a narrow column: TPR at 1 % FPR."""
    lowest: float = 0.0
    highest: float = 1.0
    """The range; infinite where there is no end."""
    chance: float | None = None
    """What guessing gives, where that is one number."""
    place: tuple[str, ...] = ()
    """Keys under which it stands in the results file; without them its name."""
    has_difference: bool = True
    """Whether a student minus the teacher is measured."""
    not_gated: str = ""
    """Why no gate may name it: a hint. Empty where one may."""
    null_metric: str = ""
    """The metric in which an attack must beat what saw neither set before it fails a gate; without it its own."""
    beats_start_alone: bool = False
    """The start alone must be beaten, where there is one: a blind classifier says little of few members."""
    least_nonmembers: int = 1
    """With fewer it is not measured."""
    group: str = ""
    """Where a short text has room for one metric of a group, it shows the first one that was measured."""
    is_headline: bool = True
    """Whether a short text shows it."""
    note: str = ""
    """How to read it: a sentence or two below its table."""
    beside: str = ""
    """The metric that it is always printed together with, as one pair."""
    per_member: Callable[[Floats, Ranked, Floats], Floats] | None = None
    """(members (n,), non-members, drawn (m, b)) to what every member adds in each replicate (n, b); the metric over a
    group is the mean of it. A comparison of mitigations places its arms by the metrics that have it."""

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest value."""
        return self.lowest, self.highest

    @property
    def difference_range(self) -> tuple[float, float]:
        """The least and the largest difference of two values."""
        width = self.highest - self.lowest
        return -width, width

    @property
    def keys(self) -> tuple[str, ...]:
        """Where it stands in the results file."""
        return self.place or (self.name,)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Non-members sorted once, so that a replicate is a pass over counts."""

    order: np.ndarray[tuple[int], np.dtype[np.intp]]
    ranked: Floats
    """(m,), rising."""

    @classmethod
    def of(cls, nonmembers: Floats) -> Ranked:
        """Sort the scores (m,)."""
        order = np.argsort(nonmembers, kind="stable")
        return cls(order, nonmembers[order])


@dataclass(frozen=True, slots=True)
class Case:
    """One attack on all models of a run: all that a metric may know."""

    scores: Mapping[str, Pair]
    """By model; the same records in the same order for all. Larger means more likely a member."""
    parts: Parts
    """Indices into the members and the non-members."""
    seed: int
    name: str
    """The name of the attack: with the seed it decides every random draw."""
    baseline: str | None = None
    """The model that the others are compared with."""
    nulls: Mapping[str, Pair] = field(default_factory=dict)
    """Scores of the same records by what saw neither set; these get no figures of their own."""
    held_against: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By model the nulls that it is compared with."""
    training_variance: Mapping[str, float] = field(default_factory=dict)
    """By null that was trained on these records: what that adds to its AUC's variance, as a multiple of DeLong's."""

    def rng(self, metric: str = "") -> np.random.Generator:
        """The random numbers of one metric: adding another metric does not move them."""
        return generator(self.seed, f"{self.name} {metric}".rstrip())


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured, by the names of metrics; `value` is None with a reason where a figure cannot be had."""

    models: Mapping[str, Mapping[str, Estimate]]
    """By model, then metric."""
    differences: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    """By model, without the baseline, then metric: the model minus the baseline."""
    beyond_nulls: Mapping[str, Mapping[str, Mapping[str, Difference]]] = field(default_factory=dict)
    """By model, null, then metric: the model minus the null, with an interval whose ends are one-sided 95 % bounds."""


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics that are measured together."""

    metrics: tuple[Metric, ...]
    measure: Callable[[Case], Figures]
