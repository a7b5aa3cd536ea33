"""Bounds at any level from what the results file keeps."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from kdaudit.metrics.estimate import QUANTILE_GRID, Difference, Estimate, lower_bound, upper_bound


def normal(centre: float, spread: float) -> tuple[float, ...]:
    """Quantiles of a bootstrap that is exactly normal."""
    return tuple((centre + spread * np.asarray(norm.ppf(QUANTILE_GRID))).tolist())


def test_the_grid_reaches_from_0_0005_to_0_9995():
    assert (QUANTILE_GRID[0], QUANTILE_GRID[-1]) == (0.0005, 0.9995)
    assert list(QUANTILE_GRID) == sorted(set(QUANTILE_GRID))
    assert {0.025, 0.05} - set(QUANTILE_GRID) == {0.025}  # interpolated


def test_two_one_sided_bounds_at_97_5_percent_are_the_95_percent_interval():
    estimate = Estimate(0.7, logit_value=0.85, logit_se=0.2)
    assert lower_bound(estimate, 0.975) == pytest.approx(expit(0.85 - norm.ppf(0.975) * 0.2))
    assert upper_bound(estimate, 0.975) == pytest.approx(expit(0.85 + norm.ppf(0.975) * 0.2))
    difference = Difference(0.1, se=0.02)
    assert lower_bound(difference, 0.975) == pytest.approx(0.1 - norm.ppf(0.975) * 0.02)


def test_a_normal_bound_is_cut_to_the_range():
    assert upper_bound(Difference(0.9, se=0.5), 0.99) == 1
    assert lower_bound(Difference(-0.9, se=0.5), 0.99) == -1


def test_quantiles_are_interpolated_on_the_grid():
    estimate = Estimate(0.5, quantiles=QUANTILE_GRID)  # the quantile at q is q
    for level in (0.9, 0.975, 0.95, 0.995, 1 - 0.05 / 6):
        assert lower_bound(estimate, level) == pytest.approx(1 - level)
        assert upper_bound(estimate, level) == pytest.approx(level)


@pytest.mark.parametrize("level", [0.996, 0.9995, 1 - 0.05 / 60, 1 - 0.05 / 200, 1 - 1e-6])
def test_far_out_the_bounds_of_a_normal_bootstrap_are_the_normal_ones(level):
    estimate = Estimate(0.5, quantiles=normal(0.5, 0.02))
    assert lower_bound(estimate, level) == pytest.approx(0.5 - 0.02 * norm.ppf(level))
    assert upper_bound(estimate, level) == pytest.approx(0.5 + 0.02 * norm.ppf(level))


@pytest.mark.parametrize("is_skewed", [False, True])
def test_the_bounds_never_jump_or_turn_round_where_the_tail_begins(is_skewed):
    draws = np.random.default_rng(0).beta(3, 900 if is_skewed else 3, 2000)
    estimate = Estimate(0.5, quantiles=tuple(np.quantile(draws, QUANTILE_GRID)))
    levels = 1 - np.geomspace(1e-6, 0.4, 400)
    for bound, direction in ((lower_bound, -1), (upper_bound, 1)):
        found = np.array([bound(estimate, level) for level in levels[::-1]])
        assert (direction * np.diff(found) >= 0).all()
        assert np.abs(np.diff(found)).max() < 0.1 * np.ptp(draws)


def test_a_tail_is_cut_to_the_range():
    near = tuple(np.clip(normal(0.001, 0.01), 0, 1))
    assert lower_bound(Estimate(0.001, quantiles=near), 1 - 1e-6) == 0
    wide = normal(0.5, 0.2)
    assert (
        lower_bound(Estimate(0.5, quantiles=wide), 1 - 1e-6),
        upper_bound(Estimate(0.5, quantiles=wide), 1 - 1e-6),
    ) == (0, 1)
    assert lower_bound(Difference(0.5, quantiles=normal(0.5, 0.4)), 1 - 1e-6) == -1


def test_an_interval_alone_bounds_at_the_level_of_its_ends_and_nowhere_else():
    beyond = Difference(0.1, 0.02, 0.2, level=0.9)
    assert (lower_bound(beyond, 0.95), upper_bound(beyond, 0.95)) == (0.02, 0.2)
    assert (lower_bound(beyond, 0.96), upper_bound(beyond, 0.94)) == (-1, 1)
    assert (lower_bound(Estimate(0.5), 0.95), upper_bound(Estimate(0.5), 0.95)) == (0, 1)


def test_nothing_measured_has_no_bound():
    assert lower_bound(Estimate(None, reason="why"), 0.95) is None
    assert upper_bound(Difference(None, reason="why"), 0.95) is None


@pytest.mark.parametrize("level", [0, 1, 1.5, np.nan])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        lower_bound(Estimate(0.5), level)
