"""Exact intervals and p-values against scipy and hand-computed cases."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from kdaudit.metrics.bounds import clopper_pearson, holm, mcnemar


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_clopper_pearson_agrees_with_scipy(counts, level):
    k, n = counts
    expected = binomtest(k, n).proportion_ci(confidence_level=level, method="exact")
    assert clopper_pearson(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_trials_say_nothing_about_a_proportion():
    assert clopper_pearson(0, 0, 0.95) == (0, 1)


@pytest.mark.parametrize(("k", "n", "level"), [(4, 3, 0.95), (-1, 3, 0.95), (1, 3, 1.0)])
def test_impossible_counts_and_levels_are_refused(k, n, level):
    with pytest.raises(ValueError, match="must lie in"):
        clopper_pearson(k, n, level)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_agrees_with_the_binomial_test(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1
    assert mcnemar(only_a, only_b) == pytest.approx(expected)


def test_holm_agrees_with_the_hand_computed_case_and_skips_what_is_missing():
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])
    assert holm([None]) == [None]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_value_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = [p for p in holm(p_values) if p is not None]
    assert len(adjusted) == len(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1, p * len(p_values)) + 1e-12
    assert [p for _, p in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, bad])
