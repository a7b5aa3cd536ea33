"""The largest of several AUCs: critical values against closed forms, and coverage by simulation."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.metrics import roc_auc_score

from kdaudit.metrics.auc import auc_estimate
from kdaudit.metrics.estimate import Estimate, lower_bound, upper_bound
from kdaudit.metrics.scores import Floats
from kdaudit.metrics.strongest import Strongest, auc_correlation, critical_value, strongest_attack
from tests.metrics.coverage import draw

TEN = tuple(f"attack {k}" for k in range(10))


def measured(scores: dict[str, tuple[Floats, Floats]], *, seed: int = 0) -> Strongest | None:
    aucs = {name: auc_estimate(*pair) for name, pair in scores.items()}
    return strongest_attack(aucs, scores, rng=np.random.default_rng(seed))


def some(areas: list[float], correlation: float, n: int = 200, seed: int = 1) -> dict[str, tuple[Floats, Floats]]:
    members, nonmembers = draw("normal", areas, correlation, n, n, np.random.default_rng(seed))
    return {f"attack {k}": (members[k], nonmembers[k]) for k in range(len(areas))}


def test_independent_attacks_have_sidaks_critical_value_and_equal_ones_that_of_one() -> None:
    rng = np.random.default_rng(0)
    for k in (2, 10):
        sidak = norm.ppf((1 + 0.95 ** (1 / k)) / 2)
        assert critical_value(np.eye(k), rng=rng) == pytest.approx(sidak, abs=0.025)
    one = norm.ppf(0.975)
    assert critical_value(np.ones((10, 10)), rng=rng) == pytest.approx(one, abs=0.025)
    assert critical_value(np.ones((1, 1)), rng=rng) == pytest.approx(one)


def test_correlated_attacks_have_the_critical_value_of_the_normal_distribution() -> None:
    correlation = np.full((3, 3), 0.7) + 0.3 * np.eye(3)
    found = critical_value(correlation, rng=np.random.default_rng(1))
    inside = multivariate_normal(cov=correlation, seed=2).cdf([found] * 3, lower_limit=[-found] * 3)
    assert inside == pytest.approx(0.95, abs=0.003)


def test_the_correlation_is_delongs() -> None:
    scores = some([0.7, 0.6, 0.8], 0.6, n=60)
    wins = [(members[:, None] > nonmembers).astype(float) for members, nonmembers in scores.values()]
    rows, columns = np.cov([w.mean(axis=1) for w in wins]) / 60, np.cov([w.mean(axis=0) for w in wins]) / 60
    covariance = rows + columns
    expected = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert auc_correlation(list(scores.values())) == pytest.approx(expected)


def test_it_names_the_largest_auc_and_holds_its_value() -> None:
    scores = some([0.6, 0.8, 0.7], 0.5)
    found: Any = measured(scores)
    assert (found.attack, found.attacks) == ("attack 1", tuple(scores))
    members, nonmembers = scores["attack 1"]
    assert found.value == pytest.approx(roc_auc_score([1] * 200 + [0] * 200, np.concatenate([members, nonmembers])))
    assert found.low < found.value < found.high
    naive: Any = auc_estimate(members, nonmembers)
    assert found.low < naive.low
    assert found.high > naive.high
    assert found == measured(scores)  # one seed, one result


def test_a_single_attack_has_its_own_interval() -> None:
    scores = some([0.7], 0.0)
    found: Any = measured(scores)
    own: Any = auc_estimate(*scores["attack 0"])
    assert (found.low, found.high) == pytest.approx((own.low, own.high))


def test_attacks_that_say_the_same_widen_nothing() -> None:
    members, nonmembers = some([0.7], 0.0)["attack 0"]
    found: Any = measured(dict.fromkeys(TEN, (members, nonmembers)))
    own: Any = auc_estimate(members, nonmembers)
    assert (found.low, found.high) == pytest.approx((own.low, own.high), abs=0.002)


def test_an_attack_that_separates_the_sets_has_the_edges_bounds() -> None:
    scores = some([0.7, 0.6], 0.5)
    scores["separates"] = (np.linspace(2, 3, 200), np.linspace(0, 1, 200))
    found: Any = measured(scores)
    assert (found.attack, found.value, found.high) == ("separates", 1.0, 1.0)
    assert found.low == lower_bound(auc_estimate(*scores["separates"]), norm.cdf(found.critical_value))
    assert found.low < 0.995


def test_what_was_not_measured_or_does_not_vary_is_not_among_the_attacks() -> None:
    scores = some([0.7, 0.6], 0.5)
    scores["constant"] = (np.ones(200), np.ones(200))
    assert measured(scores) == measured({name: scores[name] for name in ("attack 0", "attack 1")})
    nothing: dict[str, Estimate | None] = {"constant": auc_estimate(*scores["constant"]), "absent": None}
    assert strongest_attack(nothing, scores, rng=np.random.default_rng(0)) is None


def test_records_without_a_score_leave_the_aucs_as_they_are() -> None:
    scores = some([0.7, 0.6], 0.5)
    aucs: dict[str, Estimate | None] = {name: auc_estimate(*pair) for name, pair in scores.items()}
    holed = {name: (members.copy(), nonmembers.copy()) for name, (members, nonmembers) in scores.items()}
    holed["attack 0"][0][:50] = np.nan
    whole, found = (strongest_attack(aucs, one, rng=np.random.default_rng(0)) for one in (scores, holed))
    assert whole is not None
    assert found is not None
    assert found == replace(whole, low=found.low, high=found.high, critical_value=found.critical_value)
    assert found.critical_value == pytest.approx(whole.critical_value, abs=0.02)
    holed["attack 0"][0][:] = np.nan  # nothing in common: as if independent
    apart = strongest_attack(aucs, holed, rng=np.random.default_rng(0))
    assert apart is not None
    assert apart.critical_value == pytest.approx(norm.ppf((1 + math.sqrt(0.95)) / 2), abs=0.025)
    assert upper_bound(auc_estimate(*scores["attack 0"]), norm.cdf(apart.critical_value)) == apart.high


def strongest_coverage(area: float, correlation: float, n: int, *, replicates: int, seed: int) -> tuple[float, float]:
    """Shares of runs in which the interval of the strongest of ten equally strong attacks, and its own, cover."""
    rng = np.random.default_rng(seed)
    covered = np.zeros(2)
    for _ in range(replicates):
        members, nonmembers = draw("normal", [area] * len(TEN), correlation, n, n, rng)
        scores = {name: (members[k], nonmembers[k]) for k, name in enumerate(TEN)}
        aucs: dict[str, Any] = {name: auc_estimate(*pair) for name, pair in scores.items()}
        found: Any = strongest_attack(aucs, scores, rng=rng)
        naive = aucs[found.attack]
        covered += [found.low <= area <= found.high, naive.low <= area <= naive.high]
    simultaneous, own = covered / replicates
    return float(simultaneous), float(own)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("area", "correlation", "n"),
    [(0.5, 0.5, 400), (0.6, 0.5, 400), (0.6, 0.9, 400), (0.8, 0.5, 1000), (0.99, 0.7, 400)],
)
def test_the_interval_of_the_strongest_of_ten_covers_the_largest_true_auc(
    area: float, correlation: float, n: int
) -> None:
    simultaneous, own = strongest_coverage(area, correlation, n, replicates=1000, seed=3)
    print(  # noqa: T201 - the figure for the record
        f"strongest of ten, AUC {area}, correlation {correlation}, {n} + {n}: coverage {simultaneous:.3f} "
        f"(nominal 0.95), its own interval {own:.3f}, 1000 replicates"
    )
    assert simultaneous >= 0.94
    if area < 0.9:
        assert own < simultaneous
