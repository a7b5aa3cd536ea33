"""The figures of students, on scores whose AUC can be counted by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kdaudit.audit.assess import Judging
from kdaudit.errors import ModelError
from kdaudit.metrics.scores import split_parts
from kdaudit.mitigate.figures import Roster, leaks, subset_aucs, utility

N = 30  # of either class, one member more that one student cannot be scored on
PLAIN, ARM = Path("plain"), Path("arm")


def scored(**changes: Any) -> Any:
    """Plain run and arm: member i scores i + 5.5 and i + 10.5, non-member j scores j; the first member has no score."""
    ranks = np.arange(N, dtype=np.float64)
    by_student = {
        "student": np.concatenate([[math.nan], ranks + 5.5, ranks]),
        "student-2": np.concatenate([[99.0], ranks + 10.5, ranks]),
    }
    found = {
        PLAIN: SimpleNamespace(
            nll=np.concatenate([np.full(N + 1, 7.0), np.arange(1, N + 1)]),
            n_tokens=np.full(2 * N + 1, 5.0), n_bytes=np.full(2 * N + 1, 20.0),
        )
    }  # fmt: skip
    parts = SimpleNamespace(
        attacks=("loss",), subject_of={PLAIN: "student", ARM: "student-2"},
        scores=SimpleNamespace(by_attack={"loss": by_student}), data=SimpleNamespace(members=range(N + 1)),
        likelihoods=found.__getitem__,
    )  # fmt: skip
    return SimpleNamespace(**{**vars(parts), **changes})


def judging() -> Judging:
    parts = split_parts(N + 1, N, share=0.3, rng=np.random.default_rng(0))
    blind: Any = None  # no figure here asks it
    return Judging(N + 1, parts, blind, 0)


AUC_PLAIN = (sum(i + 6 for i in range(24)) + 6 * N) / N**2  # member i lies above min(30, i + 6) non-members
AUC_ARM = (sum(i + 11 for i in range(19)) + 11 * N) / N**2


def test_a_leak_is_over_the_records_that_every_student_has_a_score_of_and_its_change_is_paired() -> None:
    roster = Roster(({1.0: PLAIN},), {}, {"arm": (ARM,)}, None)
    found = leaks(scored(), roster, judging())
    plain, arm = found[PLAIN]["loss"], found[ARM]["loss"]
    assert plain.figures["auc"].value == pytest.approx(AUC_PLAIN)
    assert arm.figures["auc"].value == pytest.approx(AUC_ARM)
    assert (arm.figures["auc"].n, arm.figures["auc"].m) == (N, N)
    assert not plain.changes
    change = arm.changes["auc"]
    assert change.value == pytest.approx(AUC_ARM - AUC_PLAIN)
    assert (change.n, change.m) == (N, N)


def test_the_aucs_of_some_members_are_against_all_held_out_records() -> None:
    chosen = np.array([0, 1, 2, 30])  # the first one without a score
    own, other, change = subset_aucs(scored(), ARM, PLAIN, chosen, judging())["loss"]
    assert own.value == pytest.approx((11 + 12 + 30) / (3 * N))
    assert other.value == pytest.approx((6 + 7 + 30) / (3 * N))
    assert change.value == pytest.approx(10 / (3 * N))
    assert (own.n, own.m) == (3, N)


def test_utility_is_the_held_out_loss_per_token_and_in_bits_per_byte() -> None:
    nll, bits = utility(scored(), PLAIN, seed=0)
    total = N * (N + 1) / 2  # 1 + 2 + ... + 30 nats
    assert nll.value == pytest.approx(total / (5 * N))
    assert bits.value == pytest.approx(total / math.log(2) / (20 * N))
    assert nll.n == N


def test_a_held_out_loss_that_is_not_finite_is_counted_and_refused() -> None:
    broken = scored()
    likelihoods = broken.likelihoods(PLAIN)
    likelihoods.nll[-3:] = [math.inf, math.nan, math.nan]
    likelihoods.n_tokens[-1] = 0  # nothing to score is no damage
    with pytest.raises(ModelError, match="the loss of 2 held-out records is not finite"):
        utility(broken, PLAIN, seed=0)


def test_a_roster_knows_the_finished_students_the_whole_epochs_and_every_folder_once() -> None:
    plain = tuple({moment: Path(f"{seed}/{moment}") for moment in (0.5, 1.0, 1.5, 2.0)} for seed in (0, 1))
    roster = Roster(plain, {1: (Path("f0"), Path("f1"))}, {"arm": (Path("a0"), Path("a1"))}, Path("start"))
    assert roster.n_epochs == 2
    assert roster.finished == (Path("0/2.0"), Path("1/2.0"))
    assert roster.whole_epochs == ((Path("0/1.0"), Path("0/2.0")), (Path("1/1.0"), Path("1/2.0")))
    assert roster.folders[:2] == roster.finished
    assert len(set(roster.folders)) == len(roster.folders) == 8 + 2 + 2 + 1
