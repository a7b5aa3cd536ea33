"""AUC, DeLong's intervals and paired differences against independent sources and laws."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit
from scipy.stats import gamma, mannwhitneyu
from sklearn.metrics import roc_auc_score

from kdaudit.metrics.auc import auc, auc_difference, auc_estimate, hanley_mcneil_se
from kdaudit.metrics.bounds import newcombe_bound
from kdaudit.metrics.estimate import lower_bound, upper_bound
from kdaudit.metrics.scores import Floats

# Few distinct values, so ties, which break naive AUC code, come up in most examples.
scores = arrays(np.float64, st.integers(1, 40), elements=st.integers(-3, 3).map(float))


def delong_covariance(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    """Covariance of two AUCs over the same records, from the O(n m) matrix of wins."""
    wins = [(x[:, None] > y) + 0.5 * (x[:, None] == y) for x, y in (a, b)]
    rows, columns = [w.mean(axis=1) for w in wins], [w.mean(axis=0) for w in wins]
    n, m = wins[0].shape
    return float(np.cov(rows)[0, 1] / n + np.cov(columns)[0, 1] / m)


@given(scores, scores)
def test_auc_agrees_with_scikit_learn_and_with_mann_whitney(members, nonmembers):
    labels = [1] * members.size + [0] * nonmembers.size
    assert auc(members, nonmembers) == pytest.approx(roc_auc_score(labels, np.concatenate([members, nonmembers])))
    u = mannwhitneyu(members, nonmembers, method="asymptotic").statistic if np.ptp(np.r_[members, nonmembers]) else None
    if u is not None:
        assert auc(members, nonmembers) == pytest.approx(u / (members.size * nonmembers.size))


@given(scores, scores)
def test_swapping_the_classes_mirrors_the_estimate(members, nonmembers):
    there: Any = auc_estimate(members, nonmembers)
    back: Any = auc_estimate(nonmembers, members)
    assert there.reason == back.reason
    if there.value is not None and back.value is not None:
        assert there.value == pytest.approx(1 - back.value)
        assert there.low == pytest.approx(1 - back.high)
        low, high = lower_bound(there, 0.99), upper_bound(back, 0.99)
        assert low is not None
        assert high == pytest.approx(1 - low)


@given(scores, scores)
def test_a_rising_transform_changes_nothing(members, nonmembers):
    assert auc_estimate(np.exp(members), np.exp(nonmembers)) == auc_estimate(members, nonmembers)


@given(scores, scores)
def test_the_interval_holds_the_value_and_lies_in_the_unit_interval(members, nonmembers):
    estimate: Any = auc_estimate(members, nonmembers)
    if estimate.value is None:
        assert estimate.reason
    else:
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.high > estimate.low


def test_the_variance_is_delongs():
    rng = np.random.default_rng(0)
    members, nonmembers = rng.normal(0.7, 1, 60).round(1), rng.normal(0, 1, 45).round(1)
    estimate: Any = auc_estimate(members, nonmembers)
    se = estimate.logit_se * estimate.value * (1 - estimate.value)
    assert se**2 == pytest.approx(delong_covariance((members, nonmembers), (members, nonmembers)))


def test_the_paired_variance_is_delongs():
    rng = np.random.default_rng(1)
    base = rng.normal(size=130)
    a, b = base + rng.normal(size=130), base + 0.5 * rng.normal(size=130)
    a[:70] += 0.8
    pair_a, pair_b = (a[:70], a[70:]), (b[:70], b[70:])
    difference: Any = auc_difference(*pair_a, *pair_b)
    variance = (
        delong_covariance(pair_a, pair_a) + delong_covariance(pair_b, pair_b) - 2 * delong_covariance(pair_a, pair_b)
    )
    assert difference.value == pytest.approx(auc(*pair_a) - auc(*pair_b))
    assert difference.se**2 == pytest.approx(variance)
    assert difference.p_value == pytest.approx(math.erfc(abs(difference.value) / difference.se / math.sqrt(2)))
    reverse: Any = auc_difference(*pair_b, *pair_a)
    assert (reverse.value, reverse.low) == (pytest.approx(-difference.value), pytest.approx(-difference.high))


def test_equal_models_differ_by_exactly_nothing():
    rng = np.random.default_rng(2)
    members, nonmembers = rng.normal(1, 1, 50), rng.normal(size=50)
    for other in ((members, nonmembers), (np.exp(members), np.exp(nonmembers))):
        difference: Any = auc_difference(members, nonmembers, *other)
        assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize(("value", "shift"), [(1.0, 9.0), (0.0, -9.0)])
def test_separable_scores_give_the_edge_with_an_open_side(value, shift):
    grid = np.linspace(0, 1, 40)
    estimate: Any = auc_estimate(grid + shift, grid[:30])
    lost = 1 / 60
    se = hanley_mcneil_se(1 - lost, *((40, 30) if value else (30, 40)))  # the mirrored case swaps the classes
    delong = 1 - expit(logit(lost) + 1.959964 * se / (lost * (1 - lost)))
    shape, scale = (lost + 1 / 40) ** 2 / (se**2 + 1 / 40**2), (se**2 + 1 / 40**2) / (lost + 1 / 40)
    closed = min(delong, newcombe_bound(1.0, 40, 30, 0.025), 1 - gamma.ppf(0.975, shape, scale=scale))
    closed = closed if value else 1 - closed
    assert sorted([estimate.low, estimate.high]) == pytest.approx(sorted([value, closed]), abs=1e-6)
    far = lower_bound(estimate, 0.999999) if value else upper_bound(estimate, 0.999999)
    assert abs(value - far) > abs(value - closed)
    assert (upper_bound(estimate, 0.6) if value else lower_bound(estimate, 0.6)) == value


def test_scores_that_do_not_vary_give_no_auc():
    for members, nonmembers in ((np.ones(50), np.ones(50)), (np.zeros(3), np.zeros(1))):
        estimate: Any = auc_estimate(members, nonmembers)
        assert (estimate.value, estimate.reason) == (None, "scores do not vary")
        varying = np.arange(members.size + nonmembers.size, dtype=float)
        pair = varying[: members.size], varying[members.size :]
        difference: Any = auc_difference(members, nonmembers, *pair)
        assert (difference.value, difference.reason) == (None, "scores do not vary")
    half = np.array([1.0] * 50 + [2.0] * 50)
    assert auc_estimate(half, half).value == 0.5


def test_an_empty_class_gives_a_reason_and_one_record_an_interval():
    assert auc_estimate(np.empty(0), np.ones(3)).reason == "no scored members"
    assert auc_estimate(np.ones(3), np.empty(0)).reason == "no scored non-members"
    single: Any = auc_estimate(np.array([1.5]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert single.value == 0.25
    assert single.high - single.low > 0.5


def test_a_separable_side_is_as_uncertain_as_its_own_interval():
    rng = np.random.default_rng(3)
    members, nonmembers = rng.normal(1, 1, 80), rng.normal(0, 1, 90)
    difference: Any = auc_difference(members + 99, nonmembers, members, nonmembers)
    assert difference.value == pytest.approx(1 - auc(members, nonmembers))
    separable: Any = auc_estimate(members + 99, nonmembers)
    own = (1 - separable.low) / 1.959964
    other = delong_covariance((members, nonmembers), (members, nonmembers))
    assert difference.se == pytest.approx(math.sqrt(own**2 + other), rel=1e-5)
    assert difference.p_value < 0.01


def test_two_separable_sides_still_leave_some_doubt():
    rng = np.random.default_rng(4)
    members, nonmembers = rng.normal(99, 1, 80), rng.normal(0, 1, 90)
    difference: Any = auc_difference(members, nonmembers, members[::-1], nonmembers)
    assert (difference.value, difference.p_value) == (0, 1)
    assert difference.low < 0 < difference.high


def test_training_adds_its_variance_to_the_second_auc():
    rng = np.random.default_rng(5)
    a, b = (rng.normal(0.5, 1, 90), rng.normal(0, 1, 70)), (rng.normal(0, 1, 90), rng.normal(0, 1, 70))
    plain: Any = auc_difference(*a, *b)
    trained: Any = auc_difference(*a, *b, training_variance_b=1.25)
    assert trained.value == plain.value
    assert trained.se**2 == pytest.approx(plain.se**2 + 1.25 * delong_covariance(b, b))
    same: Any = auc_difference(*b, *b, training_variance_b=1.25)
    assert same.low < same.value == 0 < same.high


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    good = np.arange(4.0)
    for members, nonmembers in ((np.array([1, bad]), good), (good, np.array([1, bad]))):
        with pytest.raises(ValueError, match="finite"):
            auc(members, nonmembers)
        with pytest.raises(ValueError, match="finite"):
            auc_estimate(members, nonmembers)


def test_pairs_of_different_records_are_refused():
    with pytest.raises(ValueError, match="same records"):
        auc_difference(np.ones(3), np.ones(3), np.ones(4), np.ones(3))
