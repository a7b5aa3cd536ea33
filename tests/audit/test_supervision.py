"""Mixed supervision, on signals whose mechanism is known."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdaudit.audit.scoring import Scores
from kdaudit.audit.supervision import describe_supervision
from kdaudit.results import AttackResult, PairedDetections, Supervision, TwoByTwo
from kdaudit.signals.likelihoods import Likelihoods, fill, nothing_scored
from kdaudit.signals.tokens import TokenSignals
from tests.commands import fewer_resamples, results

Floats = NDArray[np.float64]
N = 60  # records of each class
KINDS = ("members", "nonmembers")


def facts(mean_logprob: Floats, mean_prob: Floats | None = None) -> Likelihoods:
    prob, one = np.exp(mean_logprob) if mean_prob is None else mean_prob, np.ones(2 * N)
    return Likelihoods(mean_logprob, prob, one / 2, nll=-mean_logprob, n_tokens=one, n_bytes=one)


def plan(*, has_start: bool = True, same_split: bool = True, teacher_start: str | None = None) -> Any:
    """What the description reads of a plan: who is audited, from which start, and who splits texts alike."""

    def model(name: str) -> Any:
        return SimpleNamespace(fingerprint=name)

    subjects = (
        SimpleNamespace(
            name="teacher", checkpoint=model("t"), reference=model(teacher_start) if teacher_start else None
        ),
        SimpleNamespace(name="student", checkpoint=model("s"), reference=model("s0") if has_start else None),
    )
    passages = SimpleNamespace(splits=("a", "a" if same_split else "b"))
    return SimpleNamespace(subjects=subjects, passages=passages, tokenizer_of={"t": 0, "s": 0, "s0": 1})


def described(
    teacher_prob: Floats,
    gain: Floats,
    *,
    start: Floats | None = None,
    other: Floats | None = None,
    results: Any = None,
    **options: Any,
) -> Supervision:
    """The description of a student that is its start plus `gain`; `other` is what the teacher's start made of it."""
    before = np.random.default_rng(1).normal(-3, 0.5, 2 * N) if start is None else start
    by_model = {"t": facts(np.log(teacher_prob), teacher_prob), "s": facts(before + gain), "s0": facts(before)}
    if other is not None:
        by_model["t0"] = facts(other)
    scores = Scores({}, {}, False, by_model)
    with fewer_resamples():
        found = describe_supervision(plan(**options), scores, results or {}, n_members=N, seed=0)
    assert list(found) == ["student"]
    return found["student"]


def aligned(seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(0.05, 0.95, 2 * N)


IS_MEMBER = np.arange(2 * N) < N


def test_a_student_that_gains_where_its_teacher_is_right_correlates_over_members_alone() -> None:
    teacher = aligned()
    found = described(teacher, np.where(IS_MEMBER, teacher, np.random.default_rng(2).random(2 * N)))
    assert found.members.correlation.value is not None
    assert found.members.correlation.value > 0.99
    assert found.nonmembers.correlation.value is not None
    assert abs(found.nonmembers.correlation.value) < 0.3
    assert "partial" in found.members.correlation.method


def test_a_gain_that_follows_the_starts_loss_alone_vanishes_when_that_is_partialled_out() -> None:
    rng = np.random.default_rng(3)
    start = rng.normal(-3, 0.5, 2 * N)
    teacher = 1 / (1 + np.exp(-(start + 3 + rng.normal(0, 0.2, 2 * N))))
    members = described(teacher, start + rng.normal(0, 0.2, 2 * N), start=start).members
    assert members.correlation.value is not None
    assert abs(members.correlation.value) < 0.35


def test_figures_are_means_over_a_class() -> None:
    teacher, gain = aligned(), np.random.default_rng(4).normal(size=2 * N)
    found = described(teacher, gain)
    for one, part in ((found.members, IS_MEMBER), (found.nonmembers, ~IS_MEMBER)):
        assert one.n == N
        assert one.teacher_mean_probability.value == pytest.approx(teacher[part].mean())
        assert one.student_gain.value == pytest.approx(gain[part].mean())
        assert one.student_gain.low is not None
        assert one.student_gain.low < gain[part].mean()


def test_members_that_gain_a_constant_more_have_that_gap_in_every_quarter_and_no_interaction() -> None:
    rng = np.random.default_rng(5)
    teacher = aligned()
    gain = 0.5 * np.log(teacher) + 0.7 * IS_MEMBER + rng.normal(0, 0.1, 2 * N)
    found = described(teacher, gain)
    assert len(found.quarters) == 4
    assert sum(quarter.n_members for quarter in found.quarters) == N
    for quarter in found.quarters:
        assert quarter.gap.value == pytest.approx(0.7, abs=0.4)
    slopes = found.slopes
    assert slopes.members.value == pytest.approx(0.5, abs=0.1)
    assert slopes.interaction.low is not None
    assert slopes.interaction.high is not None
    assert slopes.interaction.low < 0 < slopes.interaction.high


def test_a_student_that_takes_more_from_its_teacher_on_members_shows_in_the_interaction() -> None:
    teacher = aligned()
    gain = (0.3 + 0.4 * IS_MEMBER) * np.log(teacher) + np.random.default_rng(6).normal(0, 0.05, 2 * N)
    interaction = described(teacher, gain).slopes.interaction
    assert interaction.value == pytest.approx(0.4, abs=0.1)
    assert interaction.low is not None
    assert interaction.low > 0.2


def test_the_teachers_own_start_explains_difficulty_too() -> None:
    rng = np.random.default_rng(7)
    other = rng.normal(-3, 0.5, 2 * N)
    teacher = np.exp(other - 0.5 + rng.normal(0, 0.1, 2 * N))
    gain = 0.8 * other * IS_MEMBER + rng.normal(0, 0.05, 2 * N)  # by difficulty alone, not by what the teacher learnt
    alone = described(teacher, gain, other=other).slopes.interaction
    both = described(teacher, gain, other=other, teacher_start="t0").slopes.nonmembers
    assert alone.value == pytest.approx(0.8, abs=0.1)
    assert both.value == pytest.approx(0, abs=0.15)
    same = described(teacher, gain, teacher_start="s0").slopes
    assert same == described(teacher, gain).slopes, "one start for both explains no more"


@pytest.mark.parametrize(
    ("options", "note"),
    [({"has_start": False}, "no reference"), ({"same_split": False}, "another tokenizer")],
)
def test_without_a_comparable_start_the_gain_is_over_nothing_and_says_so(options: dict[str, Any], note: str) -> None:
    teacher, start = aligned(), np.full(2 * N, -3.0)
    found = described(teacher, np.log(teacher), start=start, **options)
    assert found.gain_over == "nothing"
    assert note in found.gain_note
    assert found.members.student_gain.value == pytest.approx((np.log(teacher) - 3)[:N].mean())
    assert found.members.correlation.value == pytest.approx(1)
    assert found.slopes.interaction.value is None
    assert "no comparable start" in found.slopes.interaction.reason
    assert described(teacher, teacher).gain_over == "start"


def test_a_record_without_signals_is_left_out_of_every_figure() -> None:
    teacher, gain = aligned(), aligned(1)
    gain[[0, 5, N]] = np.nan
    found = described(teacher, gain)
    assert (found.members.n, found.nonmembers.n) == (N - 2, N - 1)
    kept = np.setdiff1d(np.arange(N), [0, 5])
    assert found.members.teacher_mean_probability.value == pytest.approx(teacher[kept].mean())
    assert sum(quarter.n_members for quarter in found.quarters) == N - 2
    assert (found.slopes.interaction.n, found.slopes.interaction.m) == (N - 2, N - 1)


def test_the_table_comes_from_the_reference_attack_or_else_from_loss() -> None:
    def attack(both: int) -> AttackResult:
        table = TwoByTwo(both, 1, 2, 3)
        return AttackResult(1, False, {}, {}, {}, {}, {"student": {"members": table, "nonmembers": table}})

    teacher = aligned()
    found = described(teacher, teacher, results={"loss": attack(5), "reference": attack(9)}).two_by_two
    assert found == PairedDetections("reference", TwoByTwo(9, 1, 2, 3), TwoByTwo(9, 1, 2, 3))
    loss = described(teacher, teacher, results={"loss": attack(5)}).two_by_two
    assert loss == PairedDetections("loss", TwoByTwo(5, 1, 2, 3), TwoByTwo(5, 1, 2, 3))
    assert described(teacher, teacher).two_by_two is None


def test_alignment_is_the_mean_probability_and_the_share_of_top_choices() -> None:
    logprob = np.log(np.array([0.5, 0.25, 0.125, 0.5], dtype=np.float32))
    top = np.log(np.array([0.5, 0.5, 0.125, 0.6], dtype=np.float32))
    ends = np.arange(1, 5, dtype=np.int32)
    empty = np.zeros(0, dtype=np.float32)
    spoilt = logprob.copy()
    spoilt[1] = np.nan
    found = nothing_scored(3)
    fill(
        found,
        [2, 0, 1],
        [
            TokenSignals(logprob, logprob, logprob, top, ends, 0),
            TokenSignals(empty, empty, empty, empty, ends[:0], 0),
            TokenSignals(spoilt, spoilt, spoilt, top, ends, 0),
        ],
    )
    assert found.mean_prob[2] == pytest.approx((0.5 + 0.25 + 0.125 + 0.5) / 4)
    assert found.top_share[2] == pytest.approx(2 / 4)
    assert found.mean_logprob[2] == pytest.approx(logprob.mean())
    assert (found.nll[2], found.n_tokens[2], found.n_bytes[2]) == (pytest.approx(np.log(2 * 4 * 8 * 2)), 4, 4)
    assert (found.n_tokens[0], found.n_bytes[0]) == (0, 0)
    assert math.isnan(found.nll[0])
    for values in (found.mean_prob, found.top_share, found.mean_logprob):
        assert math.isnan(values[0]), "nothing scored"
        assert math.isnan(values[1]), "a token without a likelihood"


def test_a_run_describes_every_student(finished: Any) -> None:
    student = results(finished)["mixed_supervision"]["student"]
    assert (student["gain_over"], student["gain_note"]) == ("start", "")
    for kind in KINDS:
        assert student[kind]["n"] == 24
        assert -1 <= student[kind]["correlation"]["value"] <= 1
        assert student[kind]["correlation"]["low"] is None, "so few records give no interval"
    assert len(student["quarters"]) == 4
    assert sum(quarter["n_members"] for quarter in student["quarters"]) == 24
    assert student["slopes"]["interaction"]["reason"] == "fewer than 30 members"
    assert student["two_by_two"]["attack"] == "reference"
    n_evaluation = 24 - round(0.3 * 24)
    for kind in KINDS:
        assert sum(student["two_by_two"][kind].values()) == n_evaluation
