"""Simulated audits whose truth is known: how often intervals cover it, and how often gates fail or pass falsely.

A row of the table is one metric under one distribution of scores. A gate fails falsely where the true value is its
limit and the lower bound at 1 - 0.05 / K lies above; over K independent cells that is 1 - (1 - r)^K for a rate r of one
cell. It passes falsely where the true value lies just above the limit and the 95 % upper bound does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binom, norm, t

from kdaudit.metrics.auc import auc_difference, auc_estimate
from kdaudit.metrics.calibration import balanced_threshold
from kdaudit.metrics.estimate import Difference, Estimate, lower_bound, upper_bound
from kdaudit.metrics.scores import Floats, Parts, split_parts
from kdaudit.metrics.strongest import strongest_attack
from kdaudit.metrics.thresholds import threshold_metrics
from kdaudit.metrics.tpr import conformal_threshold, tpr_estimate
from tests.metrics.coverage import HEAVY, SPREADS, draw, shift_of

CELLS = (1, 6, 60, 200)
RHO = 0.7
"""Share of the variance that teacher and student have in common."""
FAR = 8.0
"""How far above the others a fully exposed member scores."""

Pair = tuple[Floats, Floats]
Figure = Estimate | Difference


@dataclass(frozen=True)
class Setting:
    """Scores of a teacher and a student, in this order in every pair."""

    name: str
    n: int = 1000
    m: int = 1000
    shifts: tuple[float, float] = (0.5, 1.0)
    exposed: tuple[float, float] = (0.0, 0.0)
    """Share of the members that score FAR higher; the student's include the teacher's."""
    df: float = math.inf
    """Degrees of freedom of Student's t; infinite: normal."""
    spread: float = 1.0
    """Standard deviation of the members' scores over that of the non-members'."""

    def draw(self, seed: int) -> tuple[Pair, Pair]:
        """One audit."""
        rng = np.random.default_rng([seed + 1000, self.n, self.m])
        size = self.n + self.m
        shared, own = rng.normal(size=size), rng.normal(size=(2, size))
        scores = math.sqrt(RHO) * shared + math.sqrt(1 - RHO) * own
        if math.isfinite(self.df):
            scores /= np.sqrt(rng.chisquare(self.df, size) / self.df)
        luck = rng.random(self.n)
        scores[:, : self.n] *= self.spread
        for each, shift, share in zip(scores, self.shifts, self.exposed, strict=True):
            each[: self.n] += shift + FAR * (luck < share)
        teacher, student = ((each[: self.n], each[self.n :]) for each in scores)
        return teacher, student

    def truth(self, metric: str, model: int = 1) -> float:
        """The true value for the student, or for the teacher (0).

        A balanced accuracy is what a threshold attains that is fitted to a calibration part of this size: the mean over
        200 of them. The best threshold of all attains up to 0.005 more.
        """
        law = t(self.df) if math.isfinite(self.df) else norm()
        shift, share = self.shifts[model], self.exposed[model]

        def detected(threshold: Floats | float) -> Floats:
            above = (np.asarray(threshold) - shift) / self.spread, (np.asarray(threshold) - shift - FAR) / self.spread
            return np.asarray((1 - share) * law.sf(above[0]) + share * law.sf(above[1]))

        grid = law.isf((np.arange(200_000) + 0.5) / 200_000)
        if metric == "auc":
            return float(detected(grid).mean())
        if metric == "balanced accuracy":
            thresholds = np.array([calibrated(self.draw(seed)[model], parts_of(self, seed)) for seed in range(-200, 0)])
            return float(((detected(thresholds) + law.cdf(thresholds)) / 2).mean())
        return float(detected(law.isf(float(metric.removeprefix("tpr@")))))

    def gap(self, metric: str) -> float:
        """Student minus teacher."""
        return self.truth(metric) - self.truth(metric, 0)


@dataclass
class Row:
    """What was counted for one metric under one setting."""

    metric: str
    setting: str
    note: str = ""
    n_intervals: int = 0
    n_covered: int = 0
    n_passed: int | None = 0
    """None where no gate passes on its upper bound."""
    n_tried: dict[int, int] = field(default_factory=dict)
    """By K: bounds at 1 - 0.05 / K that were looked at."""
    n_failed: dict[int, int] = field(default_factory=dict)

    def see(self, figure: Figure, truth: float, cells: Sequence[int] = (1,), *, is_interval: bool = True) -> None:
        """Count one figure."""
        assert figure.value is not None, figure.reason
        for k in cells:
            bound = lower_bound(figure, 1 - 0.05 / k)
            assert bound is not None
            self.n_tried[k] = self.n_tried.get(k, 0) + 1
            self.n_failed[k] = self.n_failed.get(k, 0) + (bound > truth)
        if is_interval:
            upper = upper_bound(figure, 0.95)
            assert upper is not None
            assert figure.low is not None
            assert figure.high is not None
            self.n_intervals += 1
            self.n_covered += figure.low <= truth <= figure.high
            self.n_passed = (self.n_passed or 0) + (upper < truth)

    def far_out(self, k: int, n_tried: int, n_failed: int) -> None:
        """Counts of bounds at 1 - 0.05 / k, most of which need no bootstrap to be settled."""
        self.n_tried[k], self.n_failed[k] = n_tried, n_failed

    @property
    def problems(self) -> list[str]:
        """What the counts refute at 99 %, if anything."""
        found = []
        if self.n_covered < binom.ppf(0.01, self.n_intervals, 0.95):
            found.append(f"covers in {self.n_covered} of {self.n_intervals}")
        if self.n_passed is not None and self.n_passed > binom.ppf(0.99, self.n_intervals, 0.05):
            found.append(f"passes falsely in {self.n_passed} of {self.n_intervals}")
        return found + [
            f"fails falsely in {self.n_failed[k]} of {n} single cells at K = {k}"
            for k, n in self.n_tried.items()
            if self.n_failed[k] > binom.ppf(0.99, n, 0.05 / k)
        ]

    def columns(self) -> list[str]:
        """One line of the table."""
        coverage = self.n_covered / self.n_intervals
        fails = [
            f"{100 * (1 - (1 - self.n_failed[k] / self.n_tried[k]) ** k):.1f}" if k in self.n_tried else "-"
            for k in CELLS
        ]
        note = self.note or ("over-covers" if coverage > 0.97 else "")
        n_far = f"{max(self.n_tried.values())}" if self.n_tried else "-"
        passes = "-" if self.n_passed is None else f"{100 * self.n_passed / self.n_intervals:.1f}"
        return [
            self.metric, self.setting, f"{self.n_intervals}", n_far, f"{100 * coverage:.1f}", *fails, passes, note,
        ]  # fmt: skip


HEAD = ["metric", "setting", "audits", "bounds", "cover %", *(f"fail % K={k}" for k in CELLS), "pass %", "note"]


def table(rows: Sequence[Row]) -> str:
    """All rows, aligned."""
    lines = [HEAD, *(row.columns() for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def near_one(student: float, teacher: float, kind: str = "normal", n: int = 1000, m: int = 1000) -> Setting:
    """A setting of these AUCs; the kinds are those of `shift_of`."""
    df, spread = (2.0, 1.0) if kind == HEAVY else (math.inf, SPREADS[kind])
    name = f"AUC {student} and {teacher}, {kind}, {n} : {m}"
    return Setting(name, n, m, (shift_of(kind, teacher), shift_of(kind, student)), df=df, spread=spread)


def exact_rate(setting: Setting, key: str, *, audits: int) -> Row:
    """The TPR at a false positive rate of the student alone."""
    row, truth = Row(f"tpr@{key}", setting.name, "exact: over-covers by design"), setting.truth(f"tpr@{key}")
    for seed in range(audits):
        _, student = setting.draw(seed)
        row.see(tpr_estimate(*student, key), truth, CELLS)
    return row


def area(setting: Setting, *, audits: int, note: str = "") -> list[Row]:
    """The student's AUC, and its difference to the teacher's."""
    rows = [Row("auc", setting.name, note), Row("auc difference", setting.name, note)]
    truths = setting.truth("auc"), setting.gap("auc")
    for seed in range(audits):
        teacher, student = setting.draw(seed)
        figures: list[Figure] = [auc_estimate(*student), auc_difference(*student, *teacher)]
        for row, figure, truth in zip(rows, figures, truths, strict=True):
            row.see(figure, truth, CELLS)
    return rows


def largest(setting: str, area: float, correlation: float, n: int, *, audits: int) -> Row:
    """The simultaneous interval of the largest of ten equally strong attacks, n records of each class."""
    row, rng = Row("largest of ten AUCs", setting, n_passed=None), np.random.default_rng(3)
    for _ in range(audits):
        members, nonmembers = draw("normal", [area] * 10, correlation, n, n, rng)
        scores = {f"attack {k}": (members[k], nonmembers[k]) for k in range(10)}
        found = strongest_attack({name: auc_estimate(*pair) for name, pair in scores.items()}, scores, rng=rng)
        assert found is not None
        row.n_intervals += 1
        row.n_covered += found.low <= area <= found.high
    return row


@dataclass(frozen=True)
class Bootstrapped:
    """A metric whose bounds are bootstrap quantiles."""

    name: str
    truth: Callable[[Setting], float]
    point: Callable[[Setting, int], float]
    """Its value in one audit, without a bootstrap."""
    pick: Callable[[Estimate | None, dict[str, Difference]], Figure | None]


def parts_of(setting: Setting, seed: int) -> Parts:
    return split_parts(setting.n, setting.m, share=0.3, rng=np.random.default_rng([seed + 1000, 1]))


def calibrated(pair: Pair, parts: Parts) -> float:
    """The threshold of best balanced accuracy in the calibration part."""
    return balanced_threshold(pair[0][parts.calibration_members], pair[1][parts.calibration_nonmembers])


def accuracy(pair: Pair, parts: Parts) -> float:
    """Balanced accuracy of the evaluation part at that threshold."""
    threshold = calibrated(pair, parts)
    found = pair[0][parts.evaluation_members] > threshold
    return float(found.mean() + (pair[1][parts.evaluation_nonmembers] <= threshold).mean()) / 2


def accuracy_point(setting: Setting, seed: int) -> float:
    return accuracy(setting.draw(seed)[1], parts_of(setting, seed))


def accuracy_gap(setting: Setting, seed: int) -> float:
    teacher, student = (accuracy(pair, parts_of(setting, seed)) for pair in setting.draw(seed))
    return student - teacher


def rate_gap(key: str) -> Callable[[Setting, int], float]:
    def point(setting: Setting, seed: int) -> float:
        rates = [np.mean(pair[0] > conformal_threshold(pair[1], key)) for pair in setting.draw(seed)]
        return float(rates[1] - rates[0])

    return point


def rate_metric(key: str) -> Bootstrapped:
    return Bootstrapped(
        f"tpr@{key} difference",
        lambda setting: setting.gap(f"tpr@{key}"),
        rate_gap(key),
        lambda _, differences: differences[f"tpr@{key}"],
    )


ACCURACY = Bootstrapped(
    "balanced accuracy", lambda setting: setting.truth("balanced accuracy"), accuracy_point, lambda own, _: own
)
ACCURACY_GAP = Bootstrapped(
    "balanced accuracy difference",
    lambda setting: setting.gap("balanced accuracy"),
    accuracy_gap,
    lambda _, differences: differences["balanced accuracy"],
)


def judged(setting: Setting, seed: int, resamples: int, *, is_compared: bool) -> tuple[Estimate, dict[str, Difference]]:
    """The student's balanced accuracy and its differences to the teacher, as an audit measures them."""
    teacher, student = setting.draw(seed)
    scores = {"teacher": teacher, "student": student} if is_compared else {"student": student}
    found = threshold_metrics(
        scores,
        parts_of(setting, seed),
        rng=np.random.default_rng([seed, 2]),
        baseline="teacher" if is_compared else None,
        resamples=resamples,
    )
    differences: dict[str, Difference] = {}
    if is_compared:
        of_student = found.differences["student"]
        differences = {name: each for name, each in of_student.items() if name.startswith("tpr@")}
        differences["balanced accuracy"] = of_student["balanced_accuracy"]
    return found.models["student"]["balanced_accuracy"], differences


def bootstrapped(
    setting: Setting, metrics: Sequence[Bootstrapped], *, audits: int, resamples: int, far_audits: int = 0
) -> list[Row]:
    """One row per metric; `far_audits` more audits are looked at for the bounds at 6, 60 and 200 cells."""
    rows = [Row(metric.name, setting.name) for metric in metrics]
    is_compared = any(metric is not ACCURACY for metric in metrics)
    truths = [metric.truth(setting) for metric in metrics]
    for seed in range(audits):
        own, differences = judged(setting, seed, resamples, is_compared=is_compared)
        for row, metric, truth in zip(rows, metrics, truths, strict=True):
            figure = metric.pick(own, differences)
            assert figure is not None
            row.see(figure, truth)
    for row, metric, truth in zip(rows, metrics, truths, strict=True):
        if far_audits:
            _see_far_out(row, setting, metric, truth, far_audits)
    return rows


def _see_far_out(row: Row, setting: Setting, metric: Bootstrapped, truth: float, audits: int) -> None:
    """Only a value two standard deviations above the truth can have a bound for six or more cells above it."""
    values = np.array([metric.point(setting, seed) for seed in range(10**6, 10**6 + audits)])
    limit = truth + 2 * values.std()
    failed = dict.fromkeys(CELLS[1:], 0)
    for seed in (10**6 + np.flatnonzero(values > limit)).tolist():
        own, differences = judged(setting, seed, 2000, is_compared=metric is not ACCURACY)
        figure = metric.pick(own, differences)
        assert figure is not None
        for k in failed:
            bound = lower_bound(figure, 1 - 0.05 / k)
            assert bound is not None
            failed[k] += bound > truth
    for k, count in failed.items():
        row.far_out(k, audits, count)
