"""Replicates give what the plain metric gives on the records as often as they were drawn."""

from collections.abc import Callable

import numpy as np
import pytest

from kdaudit.metrics.auc import auc
from kdaudit.metrics.replicates import Counts, group_leaks, mean_replicates

N, M = 130, 1300


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Counts]:
    """Members and non-members with ties, two groups of members that overlap, and how often each is drawn."""
    rng = np.random.default_rng(seed)
    members, nonmembers = rng.normal(1, 1, N).round(1), rng.normal(0, 1, M).round(1)
    groups = np.zeros((2, N))
    groups[0], groups[1, : N // 3] = 1, 1
    return members, nonmembers, groups, Counts.draw(N, M, resamples=6, rng=rng)


def whole(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Replicate by replicate."""
    return counts.members.T.astype(int), counts.nonmembers.T.astype(int)


def test_the_first_column_is_the_data_and_every_class_keeps_its_size() -> None:
    *_, counts = drawn(0)
    assert counts.members.shape == (N, 7)
    assert (counts.members[:, 0] == 1).all()
    assert (counts.nonmembers[:, 0] == 1).all()
    for found, size in ((counts.members, N), (counts.nonmembers, M)):
        assert (found.sum(axis=0) == size).all()
        assert len({tuple(row) for row in found.T}) == 7


def of_groups(statistic: Callable[[np.ndarray, np.ndarray], float], seed: int) -> np.ndarray:
    """The statistic of the drawn members of each group, replicate by replicate."""
    members, nonmembers, groups, counts = drawn(seed)
    return np.array(
        [
            [
                statistic(np.repeat(members, (of_members * group).astype(int)), np.repeat(nonmembers, of_nonmembers))
                for of_members, of_nonmembers in zip(*whole(counts), strict=True)
            ]
            for group in groups
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_an_auc_is_that_of_the_resampled_records(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    members, nonmembers, groups, counts = drawn(seed)
    expected = of_groups(auc, seed)
    assert group_leaks("auc", members, nonmembers, counts, groups) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr("kdaudit.metrics.replicates.BLOCK", 3)
    assert group_leaks("auc", members, nonmembers, counts, groups) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_tpr_is_that_of_the_resampled_records_at_their_own_threshold(seed: int) -> None:
    members, nonmembers, groups, counts = drawn(seed)

    def tpr(found: np.ndarray, others: np.ndarray) -> float:
        return float((found > np.sort(others)[-13]).mean())  # floor(0.01 * 1301)

    expected = of_groups(tpr, seed)
    assert group_leaks("tpr@0.01", members, nonmembers, counts, groups) == pytest.approx(expected, abs=1e-12)
    assert len({*expected[0]}) > 1


def test_a_mean_is_per_token_and_not_per_record() -> None:
    counts = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    nll, tokens = np.array([10.0, 4.0, 6.0]), np.array([5.0, 1.0, 4.0])
    assert mean_replicates(nll, tokens, counts).tolist() == [20 / 10, 16 / 9]
