import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.metrics.association import ratio_estimate


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_ratio_of_totals_is_no_mean_of_ratios() -> None:
    found = ratio_estimate(np.array([1.0, 90.0]), np.array([1.0, 10.0]), rng=rng())
    assert found.value == pytest.approx(91 / 11)
    assert found.n == 2


@given(st.floats(0.1, 9), st.lists(st.integers(1, 50), min_size=2, max_size=20))
def test_records_that_agree_leave_no_doubt(ratio: float, below: list[int]) -> None:
    sizes = np.array(below, dtype=float)
    found = ratio_estimate(ratio * sizes, sizes, rng=rng(), resamples=50)
    assert found.low == pytest.approx(found.value) == pytest.approx(found.high)


def test_the_interval_is_as_wide_as_the_delta_method_says() -> None:
    draws = rng(1)
    sizes = draws.integers(20, 120, size=800).astype(float)
    above = sizes * (3 + draws.normal(0, 0.5, size=800)) + draws.normal(0, 4, size=800)
    found = ratio_estimate(above, sizes, rng=rng())
    residuals = above - above.sum() / sizes.sum() * sizes
    se = np.sqrt(residuals.var(ddof=1) * 800) / sizes.sum()  # Cochran 1977, equation 6.4
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * se, rel=0.06)


def test_intervals_cover_the_true_ratio() -> None:
    covered = 0
    for seed in range(200):
        draws = rng(seed)
        sizes = draws.integers(10, 100, size=100).astype(float)
        found = ratio_estimate(draws.poisson(2.5 * sizes).astype(float), sizes, rng=rng(seed), resamples=400)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 2.5 <= found.high
    assert 178 <= covered <= 199  # 95 % of 200, four standard errors below


def test_what_cannot_be_divided_says_so() -> None:
    assert ratio_estimate(np.zeros(0), np.zeros(0), rng=rng()).reason == "nothing to divide by"
    single = ratio_estimate(np.array([6.0]), np.array([2.0]), rng=rng())
    assert (single.value, single.low, single.reason) == (3.0, None, "no interval from a single record")
    with pytest.raises(ValueError, match="finite"):
        ratio_estimate(np.array([np.nan]), np.ones(1), rng=rng())
    with pytest.raises(ValueError, match="same records"):
        ratio_estimate(np.ones(2), np.ones(1), rng=rng())
