"""ROC curve and histogram."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn.metrics import roc_curve as sklearn_roc_curve

from kdaudit.metrics.distributions import histogram, roc_curve

scores = arrays(np.float64, st.integers(1, 60), elements=st.integers(-9, 9).map(float))
floats = arrays(np.float64, st.integers(0, 80), elements=st.floats(-1e6, 1e6))


@given(scores, scores)
def test_a_short_curve_has_exactly_the_points_of_scikit_learn(members, nonmembers):
    fpr, tpr, low, high = roc_curve(members, nonmembers)
    labels = [1] * members.size + [0] * nonmembers.size
    expected_fpr, expected_tpr, _ = sklearn_roc_curve(
        labels, np.concatenate([members, nonmembers]), drop_intermediate=False
    )
    # At the lowest score everyone counts as a member: the curve ends there once, not twice.
    points = sorted({*zip(fpr.round(12), tpr.round(12), strict=True)})
    assert points == sorted({*zip(expected_fpr.round(12), expected_tpr.round(12), strict=True)})
    assert np.all((low <= tpr) & (tpr <= high))


def test_a_long_curve_is_thinned_to_its_own_points_and_keeps_the_low_end():
    rng = np.random.default_rng(0)
    members, nonmembers = rng.normal(1, 1, 30_000), rng.normal(0, 1, 20_000)
    fpr, tpr, _, _ = roc_curve(members, nonmembers)
    assert fpr.size <= 200
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(fpr) >= 0)
    assert np.all(np.diff(tpr) >= 0)
    assert np.count_nonzero(fpr < 0.01) >= 40
    assert np.trapezoid(tpr, fpr) == pytest.approx(np.mean(members[:2000, None] > nonmembers), abs=0.01)
    ranked = np.sort(nonmembers)[::-1]
    for f, t in zip(fpr[1:-1], tpr[1:-1], strict=True):  # each is the TPR at a threshold with exactly this FPR
        false_positives = round(f * nonmembers.size)
        fewest = np.mean(members >= ranked[false_positives - 1]) if false_positives else 0
        assert fewest <= t + 1e-12
        assert t <= np.mean(members > ranked[false_positives]) + 1e-12


def test_the_band_is_exact_for_the_tpr_at_each_threshold():
    fpr, tpr, low, high = roc_curve(np.arange(20.0), np.arange(-10.0, 10.0))
    for t, bottom, top in zip(tpr, low, high, strict=True):
        expected = binomtest(round(t * 20), 20).proportion_ci(method="exact")
        assert (bottom, top) == pytest.approx((expected.low, expected.high))
    assert fpr.size == 31


def test_a_curve_needs_both_classes():
    with pytest.raises(ValueError, match="each class"):
        roc_curve(np.empty(0), np.ones(3))


@given(floats, floats)
def test_no_bin_holds_fewer_than_five_records_and_none_is_lost(members, nonmembers):
    edges, of_members, of_nonmembers = histogram(members, nonmembers)
    if members.size + nonmembers.size < 5:
        assert edges.size == of_members.size == of_nonmembers.size == 0
        return
    assert edges.size == of_members.size + 1 == of_nonmembers.size + 1 <= 61
    assert np.all(np.diff(edges) > 0)
    assert (of_members.sum(), of_nonmembers.sum()) == (members.size, nonmembers.size)
    assert (of_members + of_nonmembers).min() >= 5


def test_an_outlier_does_not_squeeze_the_rest_into_one_bin():
    rng = np.random.default_rng(0)
    members = np.append(rng.normal(size=1000), 1e6)
    edges, _, _ = histogram(members, rng.normal(size=1000))
    assert edges.size > 30
    assert edges[-1] == 1e6
