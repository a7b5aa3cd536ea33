"""Excesses and their slopes against scikit-learn, by hand, and by simulation."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from kdaudit.metrics.excess import excess_slopes, supervision_effect
from kdaudit.metrics.replicates import seed_weights

N, M = 70, 90
IS_MEMBER = np.arange(N + M) < N


def records(rng: np.random.Generator, n: int = N, m: int = M, *, word: float = 0.0) -> tuple[Any, Any, Any, Any]:
    """Student, teacher, difficulty and membership: `word` is what the student takes more on members."""
    n_tokens = rng.integers(8, 120, n + m)
    easy, noise = rng.normal(0, 0.6, n + m), 1 / np.sqrt(n_tokens)
    is_member = np.arange(n + m) < n
    starts = [easy - 4 + rng.normal(0, 0.4, n + m) * noise for _ in range(2)]
    knows = rng.standard_t(5, n + m) * noise + 0.3 * is_member * rng.random(n + m)
    teacher = -3 + 0.8 * easy + 0.6 * is_member + knows
    student = -3.5 + 0.7 * easy + 0.4 * is_member + (0.5 + word * is_member) * knows + rng.standard_t(4, n + m) * noise
    return student, teacher, np.column_stack([*starts, np.log(n_tokens)]), is_member


def by_scikit_learn(student: Any, teacher: Any, difficulty: Any, is_member: Any) -> tuple[float, float, float]:
    """Slopes of members and of non-members, and the coefficient of the product in the model with both."""
    excess = []
    for values in (student, teacher):
        fit = LinearRegression().fit(difficulty[~is_member], values[~is_member])
        excess.append(values - fit.predict(difficulty))
    own, other = excess
    slopes = [LinearRegression().fit(other[part, None], own[part]).coef_[0] for part in (is_member, ~is_member)]
    both = np.column_stack([other, is_member, other * is_member])
    return slopes[0], slopes[1], LinearRegression().fit(both, own).coef_[2]


@pytest.mark.parametrize("seed", range(5))
def test_slopes_and_interaction_agree_with_scikit_learn(seed: int) -> None:
    given = records(np.random.default_rng(seed))
    found = excess_slopes(*given, rng=np.random.default_rng(0), resamples=20)
    assert (found.members.value, found.nonmembers.value, found.interaction.value) == pytest.approx(
        by_scikit_learn(*given), abs=1e-9
    )
    assert (found.interaction.n, found.interaction.m) == (N, M)


def test_the_interval_agrees_with_a_bootstrap_that_fits_everything_again() -> None:
    student, teacher, difficulty, is_member = records(np.random.default_rng(1))
    found = excess_slopes(student, teacher, difficulty, is_member, rng=np.random.default_rng(2))
    rng, draws = np.random.default_rng(3), []
    for _ in range(600):
        rows = np.concatenate([rng.integers(0, N, N), rng.integers(N, N + M, M)])
        draws.append(by_scikit_learn(student[rows], teacher[rows], difficulty[rows], is_member[rows])[2])
    bounds: Any = [found.interaction.low, found.interaction.high]
    assert bounds == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.06)


def test_a_student_that_takes_more_on_members_has_a_positive_interaction() -> None:
    found: Any = excess_slopes(*records(np.random.default_rng(4), 500, 500, word=0.4), rng=np.random.default_rng(0))
    assert found.interaction.low > 0.1
    assert found.members.value > found.nonmembers.value


def test_units_and_shifts_do_not_move_an_interaction() -> None:
    student, teacher, difficulty, is_member = records(np.random.default_rng(5))
    scaled = (1000 + 3 * student, 2 * teacher - 1e4, 1e6 * difficulty + 7, is_member)
    first, second = (
        excess_slopes(*given, rng=np.random.default_rng(0), resamples=50)
        for given in ((student, teacher, difficulty, is_member), scaled)
    )
    for one in ("value", "low", "high"):
        assert getattr(second.interaction, one) == pytest.approx(1.5 * getattr(first.interaction, one), abs=1e-6)


def test_a_start_given_twice_or_a_length_that_never_varies_changes_nothing() -> None:
    student, teacher, difficulty, is_member = records(np.random.default_rng(6))
    once = excess_slopes(student, teacher, difficulty, is_member, rng=np.random.default_rng(0), resamples=50)
    wider = np.column_stack([difficulty, difficulty[:, 0], np.full(N + M, 25.0)])
    twice = excess_slopes(student, teacher, wider, is_member, rng=np.random.default_rng(0), resamples=50)
    assert twice.interaction.value == pytest.approx(once.interaction.value)
    assert twice.interaction.low == pytest.approx(once.interaction.low)


def test_what_has_no_slope_says_why() -> None:
    student, teacher, difficulty, is_member = records(np.random.default_rng(7), 29, 60)
    rng = np.random.default_rng(0)
    few = excess_slopes(student, teacher, difficulty, is_member, rng=rng)
    assert (few.interaction.value, few.interaction.reason) == (None, "fewer than 30 members")
    assert (
        excess_slopes(student, teacher, difficulty, ~is_member, rng=rng).members.reason == "fewer than 30 non-members"
    )
    student, teacher, difficulty, is_member = records(np.random.default_rng(7))
    told = excess_slopes(student, difficulty @ [1, 2, 3] - 1, difficulty, is_member, rng=rng)
    assert told.interaction.reason == "the teacher's excess does not vary"


def test_bad_input_is_refused() -> None:
    student, teacher, difficulty, is_member = records(np.random.default_rng(8))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="finite"):
        excess_slopes(np.where(is_member, math.nan, student), teacher, difficulty, is_member, rng=rng)
    with pytest.raises(ValueError, match="same records"):
        excess_slopes(student, teacher, difficulty, is_member[1:], rng=rng)
    with pytest.raises(ValueError, match="row for each record"):
        excess_slopes(student, teacher, difficulty[1:], is_member, rng=rng)
    with pytest.raises(ValueError, match="same seeds"):
        supervision_effect([student], [], difficulty, is_member, is_member, rng=rng)
    with pytest.raises(ValueError, match="must be a member"):
        supervision_effect([student], [student], difficulty, is_member, ~is_member, rng=rng)


def students(rng: np.random.Generator, effect: float, n: int = 200, m: int = 200, n_seeds: int = 3) -> tuple[Any, ...]:
    """Mixed and hard students of some seeds, difficulty, members and the vulnerable ones; seeds differ too."""
    easy, is_member = rng.normal(0, 0.6, n + m), np.arange(n + m) < n
    is_vulnerable = is_member & (rng.random(n + m) + 0.2 * easy > 0.6)
    start = easy - 4 + rng.normal(0, 0.1, n + m)
    luck, own = rng.normal(0, 0.3, n + m), 0.4 * is_vulnerable

    def trained(told: float) -> list[Any]:
        return [
            -3 + 0.7 * easy + 0.5 * is_member + own + (told + rng.normal(0, 0.03)) * is_vulnerable + luck
            + rng.normal(0, 0.2, n + m)
            for _ in range(n_seeds)
        ]  # fmt: skip

    return trained(effect), trained(0), start[:, None], is_member, is_vulnerable


def test_the_effect_is_a_difference_of_differences_of_excesses() -> None:
    mixed, hard, difficulty, is_member, is_vulnerable = students(np.random.default_rng(9), 0.2)
    found = supervision_effect(mixed, hard, difficulty, is_member, is_vulnerable, rng=np.random.default_rng(0))

    def apart(values: Any) -> float:
        fit = LinearRegression().fit(difficulty[~is_member], values[~is_member])
        excess = values - fit.predict(difficulty)
        return float(excess[is_vulnerable].mean() - excess[is_member & ~is_vulnerable].mean())

    expected = [float(np.mean([apart(values) for values in of])) for of in (mixed, hard)]
    assert [found.mixed.value, found.hard.value] == pytest.approx(expected)
    assert found.effect.value == pytest.approx(expected[0] - expected[1])
    assert found.effect.low < 0.2 < found.effect.high  # type: ignore[operator]  # it has an interval
    assert (found.effect.n, found.effect.m, found.effect.reason) == (200, 200, "")


def test_one_seed_says_that_its_interval_is_of_the_records_alone() -> None:
    mixed, hard, *others = students(np.random.default_rng(9), 0.2, n_seeds=1)
    found = supervision_effect(mixed, hard, *others, rng=np.random.default_rng(0), resamples=50)
    assert found.effect.reason == "one seed: the interval is of the records alone"
    assert found.effect.low is not None


def test_equal_students_have_no_effect_and_few_vulnerable_members_no_figure() -> None:
    mixed, _, difficulty, is_member, is_vulnerable = students(np.random.default_rng(9), 0.2)
    rng = np.random.default_rng(0)
    same = supervision_effect(mixed, mixed, difficulty, is_member, is_vulnerable, rng=rng, resamples=50)
    assert (same.effect.value, same.effect.low, same.effect.high) == (0, 0, 0)
    few = is_vulnerable & (np.cumsum(is_vulnerable) <= 29)
    none = supervision_effect(mixed, mixed, difficulty, is_member, few, rng=rng)
    assert (none.effect.value, none.effect.reason) == (None, "fewer than 30 vulnerable members")


def test_seed_weights_move_a_mean_by_students_t() -> None:
    values = np.array([0.1, 0.4, 0.9])
    draws = seed_weights(3, 40000, np.random.default_rng(0)) @ values
    reach = 4.302653 * values.std(ddof=1) / math.sqrt(3)
    assert draws[0] == pytest.approx(values.mean())
    assert np.quantile(draws[1:], [0.025, 0.975]) == pytest.approx(values.mean() + np.array([-reach, reach]), rel=0.1)


def test_with_many_records_intervals_are_normal_and_lie_where_the_quantiles_do() -> None:
    table = records(np.random.default_rng(5), 400, 400)
    few, many = (excess_slopes(*table, rng=np.random.default_rng(6), many=limit) for limit in (399, 10**6))
    assert few.interaction.value == many.interaction.value
    for one, other in ((few.members, many.members), (few.interaction, many.interaction)):
        assert one.low is not None
        assert one.high is not None
        assert other.low is not None
        assert other.high is not None
        se = (other.high - other.low) / 3.92
        assert one.low == pytest.approx(other.low, abs=0.3 * se)
        assert one.high == pytest.approx(other.high, abs=0.3 * se)


@pytest.mark.slow
@pytest.mark.parametrize("many", [10**6, 50])
@pytest.mark.parametrize(("n", "m"), [(200, 200), (100, 400)])
def test_without_an_interaction_95_percent_of_the_intervals_hold_0(n: int, m: int, many: int) -> None:
    below = above = 0
    n_runs = 1000
    for seed in range(n_runs):
        rng = np.random.default_rng([31, seed])
        found: Any = excess_slopes(*records(rng, n, m), rng=rng, resamples=400, many=many)
        below, above = below + (found.interaction.high < 0), above + (found.interaction.low > 0)
    covered = 1 - (below + above) / n_runs
    assert 0.93 <= covered <= 0.97, (below / n_runs, above / n_runs)


@pytest.mark.slow
@pytest.mark.parametrize(("n_seeds", "effect"), [(3, 0.0), (3, 0.2), (5, 0.0)])
def test_at_least_95_percent_of_the_intervals_hold_the_effect(n_seeds: int, effect: float) -> None:
    missed = 0
    n_runs = 1000
    for seed in range(n_runs):
        rng = np.random.default_rng([37, seed])
        found: Any = supervision_effect(*students(rng, effect, n_seeds=n_seeds), rng=rng, resamples=400)
        missed += not found.effect.low <= effect <= found.effect.high
    assert missed / n_runs <= 0.07, "records and seeds both vary in every replicate, so it may cover more"
