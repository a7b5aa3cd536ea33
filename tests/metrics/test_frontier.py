"""An arm helps only where it leaks less than the plain run did when that was as useful."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from kdaudit.metrics.frontier import Frontier, Trained, _seed_weights, leak_at, place
from kdaudit.metrics.parts import split_parts
from kdaudit.metrics.replicates import Metric

EPOCHS = [(3.6, 0.60), (3.4, 0.68), (3.3, 0.75), (3.25, 0.80), (3.35, 0.88)]  # loss and AUC; the last one overfits
AT, FAIR = 3.35, 0.715  # on the frontier, between the second and the third


class Lab:
    """Models of a known leak and loss, all scored on the same records."""

    def __init__(self, n: int, seed: int, *, noise: float = 0.0, rho: float = 0.8) -> None:
        self.rng = np.random.default_rng(seed)
        self.n, self.noise, self.rho = n, noise, rho
        self.shared = self.rng.normal(size=(2, n))
        self.tokens = self.rng.integers(20, 90, n).astype(float)
        self.hardness = self.rng.normal(0, 0.6, n)
        self.parts = split_parts(n, n, share=0.3, rng=self.rng)

    def model(self, nll: float, auc: float) -> Trained:
        shift = math.sqrt(2) * ndtri(auc) + self.rng.normal(0, self.noise) if self.noise else math.sqrt(2) * ndtri(auc)
        own = math.sqrt(1 - self.rho) * self.rng.normal(size=(2, self.n))
        scores = math.sqrt(self.rho) * self.shared + own
        return Trained(scores[0] + shift, scores[1], self.tokens * (nll + self.hardness), self.tokens)

    def plain(self, n_seeds: int = 3) -> list[list[Trained]]:
        return [[self.model(*epoch) for epoch in EPOCHS] for _ in range(n_seeds)]

    def place(self, arms: dict[str, list[Trained]], plain: Sequence[Sequence[Trained]], **options: Any) -> Frontier:
        settings: dict[str, Any] = {"metric": "auc", "resamples": 300}
        return place(plain, arms, self.parts, rng=np.random.default_rng(0), **(settings | options))


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab(1000, 0)


@pytest.fixture(scope="module")
def placed(lab: Lab) -> Frontier:
    arms = {
        "fair": [lab.model(AT, FAIR) for _ in range(3)],
        "better": [lab.model(AT, 0.62) for _ in range(3)],
        "worse": [lab.model(AT, 0.80) for _ in range(3)],
        "useless": [lab.model(3.7, 0.50) for _ in range(3)],
        "useful": [lab.model(3.1, 0.60) for _ in range(3)],
    }
    return lab.place(arms, lab.plain())


def test_what_leaks_less_at_the_same_loss_helps(placed: Frontier) -> None:
    better = placed.arms["better"]
    assert (better.finding, better.reason) == ("helps", "")
    assert better.distance.high is not None
    assert better.distance.high < 0
    assert better.distance.value == pytest.approx(0.62 - FAIR, abs=0.03)
    assert better.frontier == pytest.approx(FAIR, abs=0.03)


def test_what_lies_above_is_undertrained_whatever_it_leaks_less_than_the_plain_student(placed: Frontier) -> None:
    assert placed.arms["worse"].finding == "undertrained"
    assert placed.arms["worse"].point is not None
    assert placed.arms["worse"].point.leak < placed.epochs[-1].leak


def test_what_may_lie_on_the_frontier_does_not_help(placed: Frontier) -> None:
    fair = placed.arms["fair"]
    assert fair.finding in {"undertrained", "no evidence"}
    assert fair.distance.low is not None
    assert fair.distance.high is not None
    assert fair.distance.low < 0 < fair.distance.high


@pytest.mark.parametrize(("name", "side"), [("useless", "above"), ("useful", "below")])
def test_outside_of_the_plain_runs_losses_there_is_no_evidence(placed: Frontier, name: str, side: str) -> None:
    arm = placed.arms[name]
    assert (arm.finding, arm.frontier, arm.distance.value) == ("no evidence", None, None)
    assert arm.reason == f"its held-out loss is {side} that of every epoch of the plain run"


def test_epochs_are_means_over_seeds_by_the_plain_formulas(lab: Lab, placed: Frontier) -> None:
    again = Lab(1000, 0)
    for name in ("fair", "better", "worse", "useless", "useful"):
        losses, leaks = [], []
        for _ in range(3):
            nll, auc = {
                "fair": (AT, FAIR), "better": (AT, 0.62), "worse": (AT, 0.80), "useless": (3.7, 0.5),
                "useful": (3.1, 0.6),
            }[name]  # fmt: skip
            model = again.model(nll, auc)
            losses.append(model.nll.sum() / model.tokens.sum())
            leaks.append((model.members[:, None] > model.nonmembers).mean())
        point = placed.arms[name].point
        assert point is not None
        assert (point.nll, point.leak) == pytest.approx((np.mean(losses), np.mean(leaks)), abs=1e-12)
    assert [point.nll for point in placed.epochs] == pytest.approx(
        [nll + lab.tokens @ lab.hardness / lab.tokens.sum() for nll, _ in EPOCHS]
    )


def test_one_seed_never_helps(lab: Lab) -> None:
    arm = lab.place({"better": [lab.model(AT, 0.55)]}, lab.plain(1)).arms["better"]
    assert (arm.finding, arm.reason) == ("no evidence", "one seed cannot tell luck from help")
    assert arm.distance.high is not None
    assert arm.distance.high < 0


def test_the_p_values_of_many_arms_are_adjusted(lab: Lab) -> None:
    plain, arms = lab.plain(), {f"arm {i}": [lab.model(AT, 0.62) for _ in range(3)] for i in range(3)}
    alone = lab.place({"arm 0": arms["arm 0"]}, plain).arms["arm 0"]
    together = lab.place(arms, plain)
    assert alone.distance.p_value == alone.distance.p_value_holm
    assert alone.distance.p_value == together.arms["arm 0"].distance.p_value
    smallest = min(arm.distance.p_value or 1 for arm in together.arms.values())
    assert min(arm.distance.p_value_holm or 1 for arm in together.arms.values()) == pytest.approx(3 * smallest)


def test_a_low_interval_is_no_help_where_the_adjusted_p_value_is_not_low_enough(lab: Lab) -> None:
    plain = lab.plain()
    arms = {"first": [lab.model(AT, 0.62) for _ in range(3)]}
    assert lab.place(arms, plain, resamples=200).arms["first"].finding == "helps"
    many = {**arms, **{f"arm {i}": [lab.model(AT, FAIR) for _ in range(3)] for i in range(30)}}
    first = lab.place(many, plain, resamples=200).arms["first"]  # its p-value is at least 2 / 201
    assert first.distance.high is not None
    assert first.distance.high < 0
    assert (first.finding, first.reason) == ("no evidence", "it may lie on the frontier")


def test_an_arm_that_is_the_plain_run_at_some_epoch_lies_on_the_frontier_exactly(lab: Lab) -> None:
    plain = lab.plain()
    arms = {str(epoch): [run[epoch] for run in plain] for epoch in range(5)}
    found = lab.place(arms, plain)
    for epoch in (0, 1, 2, 3):
        distance = found.arms[str(epoch)].distance
        assert distance.value == pytest.approx(0, abs=1e-12)
        assert found.arms[str(epoch)].finding in {"undertrained", "no evidence"}
    assert found.arms["4"].finding == "undertrained"  # it overfitted: an epoch before was as useful and leaked less


def test_a_tpr_has_its_frontier_too_and_needs_enough_nonmembers(lab: Lab) -> None:
    arms = {"better": [lab.model(AT, 0.55) for _ in range(3)]}
    found = lab.place(arms, lab.plain(), metric="tpr@0.01").arms["better"]
    assert found.distance.value is not None
    assert found.distance.value < 0
    small = Lab(298, 0)
    missing = small.place({"x": [small.model(AT, 0.6)] * 3}, small.plain(), metric="tpr@0.01")
    assert missing.epochs == ()
    assert missing.arms["x"].finding == "no evidence"
    assert missing.arms["x"].reason.startswith("needs 299 non-members")


def test_an_arm_is_held_against_its_control_at_equal_loss_over_the_same_records(lab: Lab) -> None:
    plain = lab.plain()
    arms = {
        "chosen": [lab.model(AT, 0.60) for _ in range(3)],
        "random": [lab.model(3.36, 0.66) for _ in range(3)],
        "twin": [lab.model(AT, 0.62) for _ in range(3)],
    }
    found = lab.place({**arms, "same": arms["twin"]}, plain, controls={"chosen": "random", "same": "twin"}).arms
    apart = found["chosen"].vs_control
    assert apart is not None
    assert apart.low is not None
    assert apart.high is not None
    assert apart.value == pytest.approx((found["chosen"].distance.value or 0) - (found["random"].distance.value or 0))
    assert apart.low < (apart.value or 0) < apart.high < 0
    same = found["same"].vs_control
    assert same is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert found["random"].vs_control is None
    alone = lab.place(arms, plain).arms["chosen"]
    assert alone == replace(found["chosen"], vs_control=None, distance=alone.distance)


def test_an_arm_outside_of_the_frontier_is_not_held_against_its_control(lab: Lab) -> None:
    arms = {"chosen": [lab.model(AT, 0.60) for _ in range(3)], "random": [lab.model(3.7, 0.5) for _ in range(3)]}
    for name, control in (("chosen", "random"), ("random", "chosen")):
        apart = lab.place(arms, lab.plain(), controls={name: control}).arms[name].vs_control
        assert apart is not None
        assert (apart.value, apart.reason[:35]) == (None, "random: its held-out loss is above ")


def test_with_one_seed_the_difference_to_a_control_says_so(lab: Lab) -> None:
    arms = {"chosen": [lab.model(AT, 0.60)], "random": [lab.model(AT, 0.66)]}
    apart = lab.place(arms, lab.plain(1), controls={"chosen": "random"}).arms["chosen"].vs_control
    assert apart is not None
    assert apart.reason == "one seed: the interval is of the records alone"


def test_scores_that_do_not_vary_are_no_evidence(lab: Lab) -> None:
    flat = replace(lab.model(AT, 0.6), members=np.zeros(1000), nonmembers=np.zeros(1000))
    assert lab.place({"x": [flat] * 3}, lab.plain()).arms["x"].reason == "scores do not vary"


def test_models_of_other_records_epochs_or_seeds_are_refused(lab: Lab) -> None:
    plain, arm = lab.plain(), lab.model(AT, 0.6)
    with pytest.raises(ValueError, match="one model for each seed"):
        lab.place({"x": [arm] * 2}, plain)
    with pytest.raises(ValueError, match="the same epochs, two at least"):
        lab.place({"x": [arm] * 3}, [run[:1] for run in plain])
    with pytest.raises(ValueError, match="the same epochs"):
        lab.place({"x": [arm] * 3}, [plain[0], plain[1], plain[2][:3]])
    with pytest.raises(ValueError, match="on the same records"):
        lab.place({"x": [arm, arm, replace(arm, members=arm.members[1:])]}, plain)
    with pytest.raises(ValueError, match="must be finite"):
        lab.place({"x": [arm, arm, replace(arm, members=np.append(arm.members[1:], np.nan))]}, plain)
    with pytest.raises(ValueError, match="at least one token"):
        lab.place({"x": [arm, arm, replace(arm, tokens=arm.tokens * 0)]}, plain)


def one(value: float) -> np.ndarray:
    return np.array([value])


@pytest.mark.parametrize(
    ("nll", "expected"),
    [(4.0, 0.5), (3.5, 0.6), (3.0, 0.7), (2.5, 0.8), (2.0, 0.9), (2.2, 0.86), (5.0, 0.5), (1.0, 0.9)],
)
def test_the_frontier_is_linear_between_epochs_and_flat_beyond_them(nll: float, expected: float) -> None:
    path_nll, path_leak = np.array([[4.0], [3.0], [2.0]]), np.array([[0.5], [0.7], [0.9]])
    assert leak_at(one(nll), path_nll, path_leak)[0] == pytest.approx(expected)


def test_where_a_loss_was_passed_twice_the_lower_leak_counts() -> None:
    path_nll, path_leak = np.array([[4.0], [2.0], [3.0]]), np.array([[0.5], [0.7], [0.9]])
    assert leak_at(one(3.0), path_nll, path_leak)[0] == pytest.approx(0.6)
    assert leak_at(one(2.0), path_nll, path_leak)[0] == pytest.approx(0.7)


def test_epochs_of_equal_loss_give_the_lower_leak() -> None:
    path_nll, path_leak = np.array([[3.0], [3.0]]), np.array([[0.8], [0.7]])
    assert leak_at(one(3.0), path_nll, path_leak)[0] == pytest.approx(0.7)


@given(st.lists(st.tuples(st.floats(1, 5), st.floats(0.4, 1)), min_size=2, max_size=6), st.floats(0, 1))
def test_the_frontier_is_never_above_the_run_at_any_moment(corners: list[tuple[float, float]], share: float) -> None:
    path_nll, path_leak = (np.array([[corner[axis]] for corner in corners]) for axis in (0, 1))
    for before in range(len(corners) - 1):
        nll, leak = (
            (1 - share) * path[before] + share * path[before + 1] for path in (path_nll, path_leak)
        )  # a moment between two epochs
        found = leak_at(nll.clip(path_nll.min(), path_nll.max()), path_nll, path_leak)
        steep = np.ptp(path_leak) / max(np.abs(np.diff(path_nll, axis=0)).min(), 1e-300)
        assert found[0] <= leak[0] + 1e-9 + min(steep * 1e-14, 1)
        assert path_leak.min() - 1e-12 <= found[0] <= path_leak.max() + 1e-12


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_means_over_seeds_move_by_students_t_standard_errors(n_seeds: int) -> None:
    weights = _seed_weights(n_seeds, 100_000, np.random.default_rng(0))
    assert weights[0] == pytest.approx(np.full(n_seeds, 1 / n_seeds))
    assert weights.sum(axis=1) == pytest.approx(np.ones(100_001))
    values = np.random.default_rng(1).normal(5, 2, n_seeds)
    error = values.std(ddof=1) / math.sqrt(n_seeds)
    low, high = np.quantile(weights[1:] @ values, [0.025, 0.975])
    reach = float(student.ppf(0.975, n_seeds - 1)) * error
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.03 * reach)


def test_one_seed_has_all_the_weight() -> None:
    assert (_seed_weights(1, 5, np.random.default_rng(0)) == 1).all()


def coverage(*, noise: float, n_seeds: int, gap: float, metric: Metric = "auc", runs: int = 200) -> tuple[float, float]:
    """Share of the intervals that hold the true distance, and of the arms that are said to help."""
    is_covered, is_helped = [], []
    for seed in range(runs):
        lab = Lab(500, 1000 + seed, noise=noise)
        arm = [lab.model(AT, FAIR + gap) for _ in range(n_seeds)]
        found = lab.place({"arm": arm}, lab.plain(n_seeds), metric=metric, resamples=400).arms["arm"]
        assert found.distance.low is not None
        assert found.distance.high is not None
        is_covered.append(found.distance.low <= gap <= found.distance.high)
        is_helped.append(found.finding == "helps")
    return float(np.mean(is_covered)), float(np.mean(is_helped))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("noise", "n_seeds"), [(0.0, 3), (0.05, 3), (0.3, 3), (0.3, 2), (0.1, 5)])
def test_an_arm_on_the_frontier_seldom_helps_and_intervals_cover(noise: float, n_seeds: int) -> None:
    covered, helped = coverage(noise=noise, n_seeds=n_seeds, gap=0.0)
    # Noise of single records counts twice, within seeds and between them: intervals are wide, never narrow.
    assert covered >= 0.95 - 2 * math.sqrt(0.05 * 0.95 / 200)
    assert helped <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 200)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("noise", "n_seeds"), [(0.0, 3), (0.1, 3), (0.3, 2)])
def test_intervals_of_the_difference_to_a_control_cover(noise: float, n_seeds: int) -> None:
    is_covered, is_apart = [], []
    for seed in range(200):
        lab = Lab(500, 5000 + seed, noise=noise)
        arms = {name: [lab.model(AT, 0.62) for _ in range(n_seeds)] for name in ("chosen", "random")}
        arms["better"] = [lab.model(AT, 0.57) for _ in range(n_seeds)]
        controls = {"chosen": "random", "better": "random"}
        found = lab.place(arms, lab.plain(n_seeds), controls=controls, resamples=400).arms
        for name, gap in (("chosen", 0.0), ("better", -0.05)):
            apart = found[name].vs_control
            assert apart is not None
            assert apart.low is not None
            assert apart.high is not None
            is_covered.append(apart.low <= gap <= apart.high)
            if not gap:
                is_apart.append(apart.high < 0 or apart.low > 0)
    assert np.mean(is_covered) >= 0.95 - 2 * math.sqrt(0.05 * 0.95 / 400)
    assert np.mean(is_apart) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_arm_far_below_the_frontier_mostly_helps() -> None:
    covered, helped = coverage(noise=0.05, n_seeds=3, gap=-0.12, runs=100)
    assert covered >= 0.9
    assert helped >= 0.9


def test_the_auc_of_the_lab_is_the_one_asked_for() -> None:
    lab = Lab(4000, 3)
    model = lab.model(3.0, 0.7)
    found = (model.members[:, None] > model.nonmembers).mean()
    assert found == pytest.approx(float(ndtr(ndtri(0.7))), abs=0.03)
