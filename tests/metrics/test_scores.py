"""A value that most records share is no missing figure: it may be the strongest leak of all."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from kdaudit.metrics.auc import auc_difference, auc_estimate
from kdaudit.metrics.calibration import FALSE_POSITIVE_RATES
from kdaudit.metrics.scores import Floats, missing_reason, split_parts
from kdaudit.metrics.thresholds import threshold_metrics

N = 1000


def recited() -> tuple[Floats, Floats]:
    """Nearly every member has the highest score there is, and with them a few non-members."""
    rng = np.random.default_rng(0)
    members, nonmembers = np.zeros(N), -rng.exponential(size=N)
    members[:3] = -0.5
    nonmembers[:5] = 0
    return members, nonmembers


def test_members_that_all_score_alike_have_the_auc_of_scikit_learn() -> None:
    members, nonmembers = recited()
    expected = roc_auc_score([1] * N + [0] * N, np.concatenate([members, nonmembers]))
    assert expected == pytest.approx(0.9964, abs=5e-4)
    estimate: Any = auc_estimate(members, nonmembers)
    assert estimate.value == pytest.approx(expected)
    assert estimate.low < expected < estimate.high
    rng = np.random.default_rng(1)
    difference: Any = auc_difference(members, nonmembers, rng.normal(size=N), rng.normal(size=N))
    assert difference.value == pytest.approx(expected - 0.5, abs=0.05)
    assert difference.low > 0.4


def test_members_that_all_score_alike_have_rates_and_a_balanced_accuracy() -> None:
    members, nonmembers = recited()
    parts = split_parts(N, N, share=0.3, rng=np.random.default_rng(2))
    found: Any = threshold_metrics(
        {"student": (members, nonmembers)}, parts, rng=np.random.default_rng(3), resamples=200
    ).models["student"]
    fpr, tpr, _ = roc_curve([1] * N + [0] * N, np.concatenate([members, nonmembers]), drop_intermediate=False)
    for key in FALSE_POSITIVE_RATES:
        estimate = found[f"tpr@{key}"]
        assert estimate.value == pytest.approx(tpr[fpr <= float(key)][-1])
        assert estimate.low <= estimate.value <= estimate.high
    assert found["balanced_accuracy"].value > 0.9
    assert found["member_success"].value == pytest.approx(0.997, abs=0.004)


@pytest.mark.parametrize("n_other", [1, 400])
def test_scores_of_which_one_value_is_the_most_frequent_are_measured(n_other: int) -> None:
    members, nonmembers = np.ones(N), np.ones(N)
    members[:n_other] = 2
    estimate: Any = auc_estimate(members, nonmembers)
    assert estimate.value == pytest.approx(0.5 + n_other / N / 2)
    assert 0 < estimate.low <= estimate.value <= estimate.high < 1


def test_only_scores_that_are_all_the_same_say_nothing() -> None:
    assert missing_reason(np.ones(5), np.ones(9)) == "scores do not vary"
    assert missing_reason(np.ones(5), np.append(np.ones(9), 2.0)) == ""
    assert missing_reason(np.ones(5), np.zeros(9)) == ""
    assert missing_reason(np.ones(0), np.zeros(9)) == "no scored members"
