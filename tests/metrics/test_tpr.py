"""The TPR at a false positive rate: against the definition written out with scipy, and laws."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import beta, binom
from sklearn.metrics import roc_curve

from kdaudit.metrics.estimate import lower_bound, upper_bound
from kdaudit.metrics.scores import Floats, split_parts
from kdaudit.metrics.thresholds import threshold_metrics
from kdaudit.metrics.tpr import conformal_threshold, tpr_estimate

KEYS = ("0.001", "0.01", "0.1")


def drawn(n: int, m: int, *, shift: float = 1.0, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng([seed, n, m])
    return rng.normal(shift, 1, n), rng.normal(size=m)


def bounds_by_definition(members: Floats, nonmembers: Floats, fpr: float, error: float) -> tuple[float, float]:
    """Both one-sided bounds, rank by rank, from scipy.stats."""
    n, m, falling = members.size, nonmembers.size, np.sort(nonmembers)[::-1]
    ranks = np.arange(1, m + 1)
    low, high = 0.0, 1.0
    above = [int((members > y).sum()) for y in falling]
    if (below := ranks[binom.cdf(ranks - 1, m, fpr) <= error / 2]).size:
        k = above[below[-1] - 1]
        low = float(beta.ppf(error / 2, k, n - k + 1)) if k else 0.0
    if (beyond := ranks[binom.sf(ranks - 1, m, fpr) <= error / 2]).size:
        k = above[beyond[0] - 1]
        high = float(beta.ppf(1 - error / 2, k + 1, n - k)) if k < n else 1.0
    return low, high


@pytest.mark.parametrize("cells", [1, 6, 200])
@pytest.mark.parametrize("sizes", [(200, 200), (700, 1300), (1500, 1000)])
@pytest.mark.parametrize("key", KEYS)
def test_the_bounds_are_those_of_the_definition(key: str, sizes: tuple[int, int], cells: int) -> None:
    members, nonmembers = drawn(*sizes)
    estimate = tpr_estimate(members, nonmembers, key)
    if (sizes[1] + 1) * float(key) < 1:
        assert estimate.value is None
        return
    error = 0.05 / cells
    found = lower_bound(estimate, 1 - error), upper_bound(estimate, 1 - error)
    assert found == pytest.approx(bounds_by_definition(members, nonmembers, float(key), error), abs=1e-9)
    at_ends = bounds_by_definition(members, nonmembers, float(key), 0.025)
    assert (estimate.low, estimate.high) == pytest.approx(at_ends, abs=1e-9)


@pytest.mark.parametrize("error", [0.5, 0.05, 1e-3, 1e-7])
def test_the_counts_that_are_left_out_of_a_large_run_only_widen_a_bound_and_hardly(error: float) -> None:
    members, nonmembers = drawn(20_000, 60_000)
    estimate = tpr_estimate(members, nonmembers, "0.1")
    assert estimate.exact is not None
    assert estimate.exact.step > 1
    assert len(estimate.exact.detected) <= 200
    low, high = bounds_by_definition_fast(members, nonmembers, 0.1, error)
    found_low, found_high = lower_bound(estimate, 1 - error), upper_bound(estimate, 1 - error)
    assert found_low is not None
    assert found_high is not None
    assert found_low <= low + 1e-12
    assert found_high >= high - 1e-12
    assert (found_low, found_high) == pytest.approx((low, high), abs=2e-3)


def bounds_by_definition_fast(members: Floats, nonmembers: Floats, fpr: float, error: float) -> tuple[float, float]:
    n, m, falling = members.size, nonmembers.size, np.sort(nonmembers)[::-1]
    below = int(binom.ppf(error / 2, m, fpr))  # the largest j whose cdf(j - 1) is at most error / 2
    beyond = int(binom.isf(error / 2, m, fpr)) + 1
    low, high = (int((members > falling[rank - 1]).sum()) for rank in (below, beyond))
    return float(beta.ppf(error / 2, low, n - low + 1)), float(beta.ppf(1 - error / 2, high + 1, n - high))


@pytest.mark.parametrize("key", KEYS)
def test_the_value_is_that_of_scikit_learns_roc_curve(key: str) -> None:
    members, nonmembers = drawn(900, 1999)
    fpr, tpr, thresholds = roc_curve(
        [1] * 900 + [0] * 1999, np.concatenate([members, nonmembers]), drop_intermediate=False
    )
    estimate = tpr_estimate(members, nonmembers, key)
    assert estimate.realised_fpr is not None
    place = int(np.flatnonzero(fpr <= estimate.realised_fpr + 1e-12)[-1])
    assert estimate.value == pytest.approx(tpr[place])
    assert fpr[place] <= float(key) < fpr[place] + 2 / 1999
    assert estimate.threshold is not None
    assert thresholds[place] > estimate.threshold


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.integers(-3, 3).map(float)),
    arrays(np.float64, st.integers(9, 60), elements=st.integers(-3, 3).map(float)),
)
@settings(max_examples=200)
def test_the_value_lies_in_its_interval_however_many_ties(members: Floats, nonmembers: Floats) -> None:
    estimate: Any = tpr_estimate(members, nonmembers, "0.1")
    if estimate.value is None:
        return
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.value == np.mean(members > conformal_threshold(nonmembers, "0.1"))
    assert estimate.realised_fpr <= 0.1
    for level in (0.9, 0.95, 0.999, 1 - 1e-7):
        assert lower_bound(estimate, level) <= estimate.value <= upper_bound(estimate, level)


def test_too_few_nonmembers_say_how_many_are_needed() -> None:
    members, nonmembers = drawn(300, 98)
    missing = tpr_estimate(members, nonmembers, "0.01")
    assert (missing.value, missing.reason) == (None, "needs 99 non-members, there are 98")
    assert (missing.n, missing.m) == (300, 98)
    one_more = tpr_estimate(members, np.append(nonmembers, 9.0), "0.01")
    assert (one_more.value, one_more.threshold) == (0, 9)
    assert (one_more.low, one_more.reason) == (0, "")


def test_a_class_of_no_records_gives_a_reason() -> None:
    assert tpr_estimate(np.ones(0), np.ones(5), "0.1").reason == "no scored members"
    with pytest.raises(ValueError, match="finite"):
        tpr_estimate(np.array([math.nan]), np.ones(5), "0.1")


def test_full_exposure_and_none_keep_one_bound_open_to_doubt() -> None:
    nonmembers = np.random.default_rng(0).normal(size=1000)
    exposed: Any = tpr_estimate(nonmembers[:400] + 100, nonmembers, "0.01")
    assert (exposed.value, exposed.high) == (1, 1)
    assert exposed.low == pytest.approx(0.0125 ** (1 / 400))  # Clopper-Pearson of 400 in 400 at half of 0.025
    hidden: Any = tpr_estimate(nonmembers[:400] - 100, nonmembers, "0.01")
    assert (hidden.value, hidden.low) == (0, 0)
    assert hidden.high == pytest.approx(1 - 0.0125 ** (1 / 400))


def test_the_difference_of_two_rates_is_that_of_their_values() -> None:
    teacher, student = drawn(800, 1100, shift=0.8), drawn(800, 1100, shift=1.2, seed=1)
    parts = split_parts(800, 1100, share=0.3, rng=np.random.default_rng(0))
    found: Any = threshold_metrics(
        {"teacher": teacher, "student": student}, parts, rng=np.random.default_rng(0), baseline="teacher", resamples=50
    )
    for key in ("0.01", "0.1"):
        gap = found.models["student"][f"tpr@{key}"].value - found.models["teacher"][f"tpr@{key}"].value
        assert found.differences["student"][f"tpr@{key}"].value == pytest.approx(gap)
