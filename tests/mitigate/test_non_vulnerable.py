"""Members that the teacher gives away are left out, by a threshold that none of them took part in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.errors import ConfigError, ExitCode, InsufficientDataError
from kdaudit.mitigate.base import Selection
from kdaudit.mitigate.non_vulnerable import select

RNG = np.random.default_rng(0)
MEMBERS, NONMEMBERS = RNG.normal(1, 1, 900), RNG.normal(0, 1, 700)


def selected(members=MEMBERS, nonmembers=NONMEMBERS, *, seed: int = 0) -> Selection:
    return select(members, nonmembers, np.random.default_rng(seed))


def test_the_detected_are_left_out_and_the_control_is_of_the_same_size() -> None:
    found = selected()
    dropped = np.setdiff1d(np.arange(MEMBERS.size), found.kept)
    # P(N(1, 1) > the 90 % point of N(0, 1)) = 0.389
    assert dropped.size == pytest.approx(0.389 * MEMBERS.size, rel=0.15)
    assert MEMBERS[dropped].min() > MEMBERS[found.kept].mean()
    assert found.control.size == found.kept.size == np.unique(found.control).size
    assert abs(MEMBERS[found.control].mean() - MEMBERS.mean()) < 4 * MEMBERS.std() / np.sqrt(found.control.size)
    assert np.array_equal(found.kept, selected().kept)
    assert not np.array_equal(found.control, selected(seed=1).control)


def test_each_half_is_judged_by_the_other_halfs_third_highest_of_29() -> None:
    nonmembers = np.arange(58.0)
    members = np.full(40, 100.0)
    members[:20] = np.arange(45.5, 65.5)
    found = selected(members, nonmembers)
    # Whatever the halves, the third highest of 29 of 0..57 lies between 26 and 55 and is no member's score.
    assert not set(range(10, 40)) & set(found.kept.tolist())
    halves = [np.array([n for n in nonmembers if n in half]) for half in _halves(40, 58, seed=0)]
    thresholds = sorted(np.sort(half)[-3] for half in halves)
    kept = members[found.kept]
    assert kept.max() < thresholds[1]
    assert all(members[i] < thresholds[1] for i in found.kept)
    assert all(i in found.kept for i in range(20) if members[i] < thresholds[0])


def _halves(n: int, m: int, *, seed: int) -> list[set[int]]:
    rng = np.random.default_rng(seed)
    rng.permutation(n)
    drawn = rng.permutation(m)
    return [set(drawn[: m // 2].tolist()), set(drawn[m // 2 :].tolist())]


@given(seed=st.integers(0, 50), shift=st.floats(-1, 2))
def test_no_members_score_moves_the_fate_of_another(seed: int, shift: float) -> None:
    moved = MEMBERS.copy()
    moved[::2] += shift
    kept, also_kept = (set(selected(each, seed=seed).kept.tolist()) for each in (MEMBERS, moved))
    assert {i for i in kept if i % 2} == {i for i in also_kept if i % 2}


def test_an_attack_that_knows_nothing_flags_a_tenth() -> None:
    shares = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = select(rng.normal(size=500), rng.normal(size=500), rng)
        shares.append(1 - found.kept.size / 500)
    assert np.mean(shares) == pytest.approx(0.1, abs=3 * np.std(shares) / np.sqrt(60))
    assert np.mean(shares) < 0.105


def test_a_member_that_cannot_be_scored_is_kept_and_counted() -> None:
    members = MEMBERS.copy()
    members[:7] = np.nan
    nonmembers = np.append(NONMEMBERS, [np.nan] * 3)
    found = selected(members, nonmembers)
    assert found.n_unscored == 7
    assert set(range(7)) <= set(found.kept.tolist())


@pytest.mark.parametrize(("shift", "message"), [(-100.0, "detects none of 900"), (100.0, "detects all 900")])
def test_none_or_all_detected_is_refused(shift: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        selected(MEMBERS + shift)
    assert "--vulnerability-attack" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_too_few_nonmembers_for_a_threshold_are_refused() -> None:
    selected(nonmembers=NONMEMBERS[:58])
    with pytest.raises(InsufficientDataError, match="57 scored non-members are too few"):
        selected(nonmembers=np.append(NONMEMBERS[:57], np.nan))
