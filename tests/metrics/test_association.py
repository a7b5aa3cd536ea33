"""Rank correlations against scipy, and means."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata, spearmanr, t, ttest_ind

from kdaudit.metrics.association import gaps_by_quarter, mean_difference, mean_estimate, spearman

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
    assert spearman(x, x % 2, given=x, rng=rng).reason == "nothing is left to correlate at equal difficulty"
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


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_difference_of_means_comes_with_welchs_interval(level):
    rng = np.random.default_rng(3)
    members, nonmembers = rng.normal(1, 3, 20), rng.normal(0, 1, 55)
    found = mean_difference(members, nonmembers, level=level)
    expected = ttest_ind(members, nonmembers, equal_var=False).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(members.mean() - nonmembers.mean())
    assert (found.n, found.m) == (20, 55)


def test_a_difference_of_means_without_an_interval_says_why():
    one, two = np.ones(1), np.array([1.0, 2.0])
    assert mean_difference(np.empty(0), two).reason == "no values"
    assert (mean_difference(one, two).value, mean_difference(one, two).low) == (-0.5, None)
    assert mean_difference(one, two).reason == "no interval from a single record"
    assert mean_difference(np.ones(3), np.zeros(4)).low == 1
    with pytest.raises(ValueError, match="finite"):
        mean_difference(two, np.array([math.nan]))


def test_quarters_are_those_of_the_non_members_and_hold_each_record_once():
    rng = np.random.default_rng(4)
    figure = rng.random(300) + 0.2, rng.random(200)
    gain = 2 * figure[0] + 1, 2 * figure[1] + rng.normal(0, 0.1, 200)
    found = gaps_by_quarter(figure, gain)
    edges = np.quantile(figure[1], [0.25, 0.5, 0.75])
    assert [quarter.low for quarter in found] == [None, *edges]
    assert [quarter.high for quarter in found] == [*edges, None]
    assert [quarter.n_nonmembers for quarter in found] == [50, 50, 50, 50]
    assert sum(quarter.n_members for quarter in found) == 300
    inside = [(values > edges[0]) & (values <= edges[1]) for values in figure]
    assert found[1].gap == mean_difference(gain[0][inside[0]], gain[1][inside[1]])
    assert found[1].n_members == inside[0].sum()


def test_a_quarter_with_hardly_a_member_has_no_gap():
    figure = np.linspace(0, 0.2, 40), np.linspace(0, 1, 40)
    lowest, *_, highest = gaps_by_quarter(figure, figure)
    assert lowest.gap.value is not None
    assert (highest.n_members, highest.gap.value, highest.gap.reason) == (0, None, "fewer than 5 members")
    assert [quarter.gap.reason for quarter in gaps_by_quarter(figure, figure)[1:3]] == ["fewer than 5 members"] * 2


def test_quarters_of_nothing_are_one_without_a_gap():
    nothing, some = np.empty(0), np.ones(9)
    (only,) = gaps_by_quarter((some, nothing), (some, nothing))
    assert (only.low, only.high, only.gap.reason) == (None, None, "fewer than 5 non-members")
    with pytest.raises(ValueError, match="same records"):
        gaps_by_quarter((some, nothing), (some, some))


@pytest.mark.slow
def test_welchs_interval_in_a_quarter_covers_although_its_edges_were_estimated():
    # The gap of a quarter is over 0 by the edges' own chance alone: both classes have one law, no gap in the truth.
    missed = 0
    for seed in range(1000):
        rng = np.random.default_rng([41, seed])
        figure = rng.random(200), rng.random(200)
        gain: Any = tuple(rng.standard_t(4, 200) * (1 + one) for one in figure)
        gaps: Any = [quarter.gap for quarter in gaps_by_quarter(figure, gain)]
        missed += sum(not gap.low <= 0 <= gap.high for gap in gaps)
    assert 0.93 <= 1 - missed / 4000 <= 0.97


def test_with_many_records_the_interval_of_a_correlation_is_normal_and_lies_where_the_quantiles_do() -> None:
    rng = np.random.default_rng(0)
    x, y, given = rng.normal(size=(3, 500))
    for third in (None, given):
        few, many = (spearman(x, x + y, rng=np.random.default_rng(1), given=third, many=limit) for limit in (499, 500))
        assert (few.value, few.n) == (many.value, many.n)
        assert ("normal" in few.method, "normal" in many.method) == (True, False)
        assert few.low == pytest.approx(many.low, abs=0.01)  # a third of a standard error
        assert few.high == pytest.approx(many.high, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_the_normal_interval_of_a_correlation_covers(rho: float) -> None:
    truth = 6 / np.pi * np.arcsin(rho / 2)  # of a bivariate normal distribution
    missed = 0
    for seed in range(1000):
        rng = np.random.default_rng([43, seed])
        x, y = rng.normal(size=(2, 1000))
        found: Any = spearman(x, rho * x + np.sqrt(1 - rho**2) * y, rng=rng, many=500)
        missed += not found.low <= truth <= found.high
    assert 0.93 <= 1 - missed / 1000 <= 0.97
