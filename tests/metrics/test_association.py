"""Rank correlations against scipy, and means."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata, spearmanr, t

from kdaudit.metrics.association import mean_estimate, spearman

columns = arrays(np.float64, (3, 25), elements=st.integers(-4, 4).map(float))


@given(columns)
def test_the_value_agrees_with_scipy(table):
    x, y, _ = table
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    found = spearman(x, y, rng=np.random.default_rng(0), resamples=20)
    assert found.value == pytest.approx(spearmanr(x, y).statistic)


@given(columns)
def test_the_partial_value_is_the_correlation_of_rank_residuals(table):
    x, y, z = table
    assume(all(np.ptp(column) > 0 for column in table))
    ranks = [rankdata(column) for column in table]
    residuals = [r - np.polyval(np.polyfit(ranks[2], r, 1), ranks[2]) for r in ranks[:2]]
    assume(min(np.abs(r).max() for r in residuals) > 1e-6)
    found = spearman(x, y, given=z, rng=np.random.default_rng(0), resamples=20)
    assert found.value == pytest.approx(np.corrcoef(residuals)[0, 1], abs=1e-9)


def test_the_interval_agrees_with_a_bootstrap_that_ranks_again():
    rng = np.random.default_rng(1)
    x = rng.normal(size=80).round(1)
    y = (x + rng.normal(size=80)).round(1)
    found = spearman(x, y, rng=rng)
    draws = []
    for _ in range(1500):
        rows = rng.integers(0, 80, 80)
        draws.append(spearmanr(x[rows], y[rows]).statistic)
    assert [found.low, found.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.03)
    assert found.n == 80


def test_what_is_explained_by_a_third_figure_is_partialled_out():
    rng = np.random.default_rng(2)
    z = rng.normal(size=2000)
    x, y = z + 0.5 * rng.normal(size=2000), z + 0.5 * rng.normal(size=2000)
    plain: Any = spearman(x, y, rng=rng, resamples=50)
    assert plain.value > 0.7
    partial: Any = spearman(x, y, given=z, rng=rng, resamples=200)
    assert partial.low < 0 < partial.high


def test_one_seed_gives_one_interval():
    x, y = np.arange(30.0), np.arange(30.0) ** 2 % 7
    first, again = (spearman(x, y, rng=np.random.default_rng(5), resamples=50) for _ in range(2))
    assert first == again


def test_what_has_no_correlation_says_why():
    rng = np.random.default_rng(0)
    x = np.arange(9.0)
    assert spearman(x, np.ones(9), rng=rng).reason == "a figure does not vary"
    assert spearman(x[:3], x[:3], rng=rng).reason == "fewer than 4 records"
    assert spearman(x, x % 2, given=x, rng=rng).reason == "what is partialled out says it all"
    assert spearman(x, x % 2, given=x, rng=rng).value is None


def test_bad_input_is_refused():
    x = np.arange(9.0)
    with pytest.raises(ValueError, match="finite"):
        spearman(x, np.where(x == 3, math.nan, x), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="same records"):
        spearman(x, x[1:], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="finite"):
        mean_estimate(np.array([1, math.inf]))


def test_the_mean_comes_with_students_interval():
    values = np.array([0.2, 0.4, 0.9, 0.3])
    found = mean_estimate(values, level=0.9)
    expected = t.interval(0.9, 3, values.mean(), values.std(ddof=1) / 2)
    assert (found.low, found.high) == pytest.approx(expected)
    assert mean_estimate(np.empty(0)).reason == "no values"
    assert (mean_estimate(np.ones(1)).value, mean_estimate(np.ones(1)).low) == (1, None)
