"""Simulated audits whose truth is known: intervals cover it, and equal leaks are not called different.

Teacher and student scores are normal with correlation RHO, members shifted, so that every figure has a closed form.
With AUDITS audits an observed share is uncertain by about 0.8 points (one standard error); the limits on coverage stay
at 93 to 98 % and the one on false alarms at 5 % plus two standard errors.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from kdaudit.metrics.auc import auc_difference, auc_estimate
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.scores import split_parts
from kdaudit.metrics.thresholds import threshold_metrics

AUDITS = 600
RHO = 0.7
RESAMPLES = 1000

Figures = dict[str, Any]  # estimates or differences, all of them measured at these sizes


def truth(shift: float) -> dict[str, float]:
    return {
        "auc": float(ndtr(shift / math.sqrt(2))),
        "tpr at 0.01": float(ndtr(shift - ndtri(0.99))),
        "tpr at 0.1": float(ndtr(shift - ndtri(0.9))),
        "balanced accuracy": float(ndtr(shift / 2)),
        "member success": float(ndtr(shift / 2)),
    }


def named(auc: Estimate | Difference, metrics: Mapping[str, Estimate] | Mapping[str, Difference]) -> Figures:
    return {
        "auc": auc,
        "tpr at 0.01": metrics["tpr@0.01"],
        "tpr at 0.1": metrics["tpr@0.1"],
        "balanced accuracy": metrics["balanced_accuracy"],
        "member success": metrics["member_success"],
    }


def audits(n: int, shifts: tuple[float, float], seed: int) -> Iterator[tuple[Figures, Figures, Figures]]:
    """Figures of the teacher, of the student, and their difference, for each simulated audit."""
    for audit in range(AUDITS):
        rng = np.random.default_rng([seed, audit])
        shared = math.sqrt(RHO) * rng.normal(size=2 * n)
        own = math.sqrt(1 - RHO) * rng.normal(size=(2, 2 * n))
        teacher, student = (
            (shared[:n] + each[:n] + s, shared[n:] + each[n:]) for each, s in zip(own, shifts, strict=True)
        )
        parts = split_parts(n, n, share=0.3, rng=rng)
        scores = {"teacher": teacher, "student": student}
        found = threshold_metrics(scores, parts, rng=rng, baseline="teacher", resamples=RESAMPLES)
        yield (
            named(auc_estimate(*teacher), found.models["teacher"]),
            named(auc_estimate(*student), found.models["student"]),
            named(auc_difference(*student, *teacher), found.differences["student"]),
        )


def shares_covered(n: int, shifts: tuple[float, float], seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Share of the intervals that hold the truth, and of the differences with p at or below 0.05."""
    of_teacher, of_student = truth(shifts[0]), truth(shifts[1])
    is_covered, is_called = defaultdict(list), defaultdict(list)
    for teacher, student, difference in audits(n, shifts, seed):
        for name in of_teacher:
            for figures, true in ((teacher, of_teacher), (student, of_student)):
                is_covered[name].append(figures[name].low <= true[name] <= figures[name].high)
            gap = of_student[name] - of_teacher[name]
            is_covered[f"{name}, difference"].append(difference[name].low <= gap <= difference[name].high)
            is_called[name].append(difference[name].p_value <= 0.05)
    return {k: float(np.mean(v)) for k, v in is_covered.items()}, {k: float(np.mean(v)) for k, v in is_called.items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_intervals_cover_the_truth_as_often_as_they_say():
    covered, _ = shares_covered(2000, (1.5, 2.0), seed=1)
    # Two smoothed thresholds still move more in a resample than in a new sample: wide, never narrow. It shows most
    # in this difference, and for weaker leaks (98 to 99 %) in all differences at a threshold but the TPR at 0.1.
    assert covered.pop("balanced accuracy, difference") >= 0.93
    assert min(covered.pop(f"tpr at {rate}") for rate in ("0.01", "0.1")) >= 0.95  # exact: over-covers by design
    assert {name: share for name, share in covered.items() if not 0.93 <= share <= 0.98} == {}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_equally_leaky_models_are_seldom_called_different_and_small_sets_keep_their_coverage():
    covered, called = shares_covered(1000, (1.0, 1.0), seed=3)
    assert {name: share for name, share in covered.items() if share < 0.93} == {}
    limit = 0.05 + 2 * math.sqrt(0.05 * 0.95 / AUDITS)
    assert {name: share for name, share in called.items() if share > limit} == {}
