"""Bounds of AUCs near 0 and 1: against the published formulas, without a jump, and by simulation."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, ndtri
from scipy.stats import chi2, norm

from kdaudit.metrics.auc import auc_difference, auc_estimate
from kdaudit.metrics.bounds import auc_bound, edge_weight, newcombe_bound, normal_quantile
from kdaudit.metrics.estimate import lower_bound, upper_bound
from tests.metrics.coverage import KINDS, auc_coverage, difference_coverage

levels = st.floats(0.5005, 0.99999)
sizes = st.integers(2, 3000)


@given(st.floats(1e-12, 1 - 1e-12))
def test_the_normal_quantile_is_scipys(tail: float) -> None:
    assert normal_quantile(tail) == pytest.approx(float(ndtri(tail)), rel=1e-12, abs=1e-15)


@given(st.floats(0.5, 0.9), st.floats(0.001, 30), levels)
def test_in_the_middle_a_bound_is_delongs_on_the_logit_scale(value: float, logit_se: float, level: float) -> None:
    centre = float(logit(value))
    for tail in (level, 1 - level):
        expected = float(expit(centre + norm.ppf(tail) * logit_se))
        assert auc_bound(value, centre, logit_se, 50, 60, tail) == pytest.approx(expected, abs=1e-14)


def newcombe_by_polynomial(value: float, n: int, m: int, level: float) -> list[float]:
    """Both bounds as the roots of a quartic: how the R package auRoc solves Newcombe's method 5."""
    z2, size = norm.ppf((1 + level) / 2) ** 2, (n + m) / 2 - 1
    a, b, c = -1 - 2 * size, 1 + 2 * size, 2 + size
    powers = [
        -n * m + z2 * a,
        n * m * (1 + 2 * value) - z2 * (a - b),
        n * m * (2 - 2 * value - value**2) - z2 * (b - c),
        n * m * (value**2 - 4 * value) - z2 * c,
        n * m * 2 * value**2,
    ]
    roots = np.roots(powers)
    real = roots[np.abs(roots.imag) < 1e-9].real
    return sorted(real[(real > 0) & (real < 1)])


@pytest.mark.parametrize(("value", "n", "m"), [(0.85, 30, 20), (0.95, 200, 2000), (0.99, 400, 400), (0.6, 50, 50)])
def test_newcombes_bounds_are_the_roots_of_his_equation(value: float, n: int, m: int) -> None:
    low, high = newcombe_by_polynomial(value, n, m, 0.95)
    assert newcombe_bound(value, n, m, 0.025) == pytest.approx(low)
    assert 1 - newcombe_bound(1 - value, n, m, 0.025) == pytest.approx(high)


def test_the_upper_bound_is_fay_and_feuers_where_few_pairs_are_lost() -> None:
    lost, se = 0.002, 0.0015
    logit_se = se / (lost * (1 - lost))
    scale = se**2 / lost  # (v / 2y) chi2 with 2 y^2 / v degrees of freedom
    exact = 1 - scale / 2 * chi2.ppf(0.025, 2 * lost**2 / se**2)
    assert exact > expit(logit(1 - lost) + norm.ppf(0.975) * logit_se)
    assert auc_bound(1 - lost, float(logit(1 - lost)), logit_se, 500, 500, 0.975) == pytest.approx(exact)


@given(st.floats(0.001, 0.999), st.floats(0.01, 1.5), sizes, sizes, levels)
def test_the_edge_only_widens_and_mirrors(value: float, logit_se: float, n: int, m: int, level: float) -> None:
    centre = float(logit(value))
    low, high = (auc_bound(value, centre, logit_se, n, m, tail) for tail in (1 - level, level))
    plain = [expit(centre + sign * norm.ppf(level) * logit_se) for sign in (-1, 1)]
    assert 0 <= low <= plain[0] + 1e-12
    assert plain[1] - 1e-12 <= high <= 1
    assert auc_bound(1 - value, -centre, logit_se, n, m, level) == pytest.approx(1 - low)
    if edge_weight(value) == 0:
        assert [low, high] == pytest.approx(plain)


@given(st.floats(0.85, 0.999), st.floats(0.01, 1.5), sizes, sizes, levels, levels)
def test_a_surer_bound_is_never_tighter(
    value: float, logit_se: float, n: int, m: int, one: float, other: float
) -> None:
    sure, surer = sorted([one, other])
    bounds = [
        auc_bound(value, float(logit(value)), logit_se, n, m, tail) for tail in (1 - surer, 1 - sure, sure, surer)
    ]
    assert all(left <= right + 1e-12 for left, right in pairwise(bounds))


@pytest.mark.parametrize("tail", [0.0005, 0.025, 0.975, 0.9995])
def test_no_bound_jumps_as_the_auc_grows(tail: float) -> None:
    areas = np.linspace(0.88, 0.97, 901)
    bounds = [auc_bound(area, float(logit(area)), 0.2, 200, 2000, tail) for area in areas]
    assert np.abs(np.diff(bounds)).max() < 0.0015  # the AUCs lie 0.0001 apart


@pytest.mark.parametrize(("n", "m"), [(40, 30), (400, 400), (200, 2000)])
def test_separated_classes_give_no_higher_bound_than_newcombes(n: int, m: int) -> None:
    estimate: Any = auc_estimate(np.linspace(2, 3, n), np.linspace(0, 1, m))
    for level in (0.95, 0.975, 0.9999):
        bound = lower_bound(estimate, level)
        assert bound is not None
        assert bound <= newcombe_bound(1.0, n, m, 1 - level)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 3.0, 4.0, 9.0, -3.5])
def test_the_stored_interval_is_the_one_of_the_bounds(shift: float) -> None:
    rng = np.random.default_rng(7)
    members, nonmembers = rng.normal(shift, 1, 150), rng.normal(0, 1, 90)
    for level in (0.9, 0.95, 0.999):
        estimate: Any = auc_estimate(members, nonmembers, level=level)
        assert estimate.low == lower_bound(estimate, (1 + level) / 2)
        assert estimate.high == upper_bound(estimate, (1 + level) / 2)
        assert estimate.low <= estimate.value <= estimate.high


@pytest.mark.parametrize("shift", [2.0, 2.6, 3.0, 4.0, 9.0])
def test_a_difference_is_called_one_exactly_where_its_interval_leaves_out_0(shift: float) -> None:
    rng = np.random.default_rng(8)
    called = set()
    for gain in np.linspace(0, 2, 25):
        members, nonmembers = rng.normal(size=(2, 120)), rng.normal(size=(2, 120))
        a, b = members + np.array([[shift + gain], [shift]])
        found: Any = auc_difference(a, nonmembers[0], b, nonmembers[1])
        if found.value is not None:
            assert (found.p_value < 0.05) is not (found.low <= 0 <= found.high)
            assert found.low <= found.value <= found.high
            called.add(found.p_value < 0.05)
    assert called == ({True, False} if shift < 3 else {False} if shift == 9 else called)


SETTINGS = [
    (kind, area, n, m)
    for kind in KINDS
    for n, m in ((200, 200), (600, 600), (2000, 2000), (2000, 200), (200, 2000))
    for area in (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "area", "n", "m"), SETTINGS)
def test_an_interval_near_1_covers_the_auc(kind: str, area: float, n: int, m: int) -> None:
    found = auc_coverage(kind, area, n, m, replicates=1000, seed=1)
    print(f"AUC {area}, {kind}, {n} + {m}: {found}")  # noqa: T201 - the figure for the record
    assert found.covered >= 0.93
    assert found.false_passes <= 0.05 + 0.02  # 2.9 standard errors


PAIRS = [
    (kind, areas, correlation, n)
    for kind in KINDS
    for areas in ((0.995, 0.985), (0.999, 0.99), (0.995, 0.995), (0.99, 0.93))
    for correlation in (0.0, 0.6, 0.95)
    for n in (200, 600, 2000)
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "areas", "correlation", "n"), PAIRS)
def test_an_interval_near_1_covers_the_difference(
    kind: str, areas: tuple[float, float], correlation: float, n: int
) -> None:
    found = difference_coverage(kind, areas, correlation, n, replicates=1000, seed=2)
    print(f"AUC {areas[0]} - {areas[1]}, {kind}, correlation {correlation}, {n} + {n}: {found}")  # noqa: T201
    assert found.covered >= 0.93
