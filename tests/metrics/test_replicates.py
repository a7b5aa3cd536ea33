"""Replicates give what the plain metric gives on the records as often as they were drawn."""

import numpy as np
import pytest

from kdaudit.metrics.exact_tpr import conformal_threshold
from kdaudit.metrics.parts import Parts, split_parts
from kdaudit.metrics.replicates import Counts, leak_replicates, mean_replicates
from kdaudit.metrics.roc import auc

N, M = 130, 1300


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, Parts, Counts]:
    rng = np.random.default_rng(seed)
    members, nonmembers = rng.normal(1, 1, N).round(1), rng.normal(0, 1, M).round(1)  # with ties
    parts = split_parts(N, M, share=0.3, rng=rng)
    return members, nonmembers, parts, Counts.draw(parts, resamples=6, rng=rng)


def whole(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Replicate by replicate."""
    return counts.members.T.astype(int), counts.nonmembers.T.astype(int)


def test_the_first_column_is_the_data_and_every_part_keeps_its_size() -> None:
    *_, parts, counts = drawn(0)
    assert counts.members.shape == (N, 7)
    assert (counts.members[:, 0] == 1).all()
    assert (counts.nonmembers[:, 0] == 1).all()
    for found, calibration, evaluation in (
        (counts.members, parts.calibration_members, parts.evaluation_members),
        (counts.nonmembers, parts.calibration_nonmembers, parts.evaluation_nonmembers),
    ):
        assert (found[calibration].sum(axis=0) == calibration.size).all()
        assert (found[evaluation].sum(axis=0) == evaluation.size).all()
        assert len({tuple(row) for row in found.T}) == 7


@pytest.mark.parametrize("seed", range(3))
def test_an_auc_is_that_of_the_resampled_records(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    members, nonmembers, _, counts = drawn(seed)
    expected = [
        auc(np.repeat(members, of_members), np.repeat(nonmembers, of_nonmembers))
        for of_members, of_nonmembers in zip(*whole(counts), strict=True)
    ]
    assert leak_replicates("auc", members, nonmembers, counts) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr("kdaudit.metrics.replicates.BLOCK", 3)
    assert leak_replicates("auc", members, nonmembers, counts) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_tpr_is_that_of_the_resampled_records_at_their_own_threshold(seed: int) -> None:
    members, nonmembers, _, counts = drawn(seed)
    expected = []
    for of_members, of_nonmembers in zip(*whole(counts), strict=True):
        threshold = conformal_threshold(np.repeat(nonmembers, of_nonmembers), "0.01")
        expected.append(float((np.repeat(members, of_members) > threshold).mean()))
    assert leak_replicates("tpr@0.01", members, nonmembers, counts) == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 1


def test_a_mean_is_per_token_and_not_per_record() -> None:
    counts = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    nll, tokens = np.array([10.0, 4.0, 6.0]), np.array([5.0, 1.0, 4.0])
    assert mean_replicates(nll, tokens, counts).tolist() == [20 / 10, 16 / 9]
