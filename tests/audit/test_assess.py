"""From scores to figures: what is left out, how many comparisons there are, and what is never a number."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from kdaudit.attacks import ATTACKS
from kdaudit.audit.assess import Judging, adjust_for_many, assess_attack, assess_attacks
from kdaudit.audit.plan import AttackPlan
from kdaudit.audit.scoring import Scores
from kdaudit.errors import ExitCode
from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.scores import split_parts
from kdaudit.metrics.validity import BlindBaseline
from kdaudit.results import AttackResult, Comparison, Overlap, Validity
from kdaudit.verdict import exit_code, judge, parse_gate

Floats = NDArray[np.float64]
N = 300  # records of each class
CHANCE = Estimate(0.5, 0.45, 0.55, N, N, logit_value=0.0, logit_se=0.1)
VALID = Validity("ok", CHANCE, "tfidf", {}, {}, Overlap(13), ())


def judging(*, n: int = N) -> Judging:
    rng = np.random.default_rng(5)
    blind = BlindBaseline("tfidf", CHANCE, {}, rng.random(n), rng.random(n))
    return Judging(n, split_parts(n, n, share=0.3, rng=rng), blind, seed=0)


def scores_of(by_model: Mapping[str, Floats], *, with_paper: bool = False, paper: Floats | None = None) -> Scores:
    papers = {"min-k": dict.fromkeys(by_model, paper)} if paper is not None else {}
    return Scores({"min-k": by_model}, papers, with_paper, {})


def plan(*models: str, obstacles: Mapping[str, str] | None = None, is_requested: bool = False) -> AttackPlan:
    return AttackPlan(ATTACKS["min-k"], is_requested, {**dict.fromkeys(models, ""), **(obstacles or {})})


def leaking(shift: float, *, seed: int) -> Floats:
    """Normal scores of members, `shift` higher, then of non-members."""
    drawn = np.random.default_rng(seed).normal(size=2 * N)
    drawn[:N] += shift
    return drawn


def test_a_record_without_a_score_on_one_model_is_left_out_for_all_and_counted() -> None:
    teacher, student = leaking(0.5, seed=1), leaking(1.0, seed=2)
    teacher[[3, N + 4]] = np.nan
    student[[3, 7, N + 9]] = np.nan, np.inf, -np.inf
    result = assess_attack(plan("teacher", "student"), scores_of({"teacher": teacher, "student": student}), judging())
    kept = np.ones(2 * N, dtype=bool)
    kept[[3, 7, N + 4, N + 9]] = False
    is_member = np.arange(2 * N) < N
    for name, values in (("teacher", teacher), ("student", student)):
        cell = result.cells[name]
        assert cell.unscored == 4
        assert cell.auc is not None
        assert (cell.auc.n, cell.auc.m) == (N - 2, N - 2)
        assert cell.auc.value == pytest.approx(roc_auc_score(is_member[kept], values[kept]))
        assert cell.figures["balanced_accuracy"].n < round(0.7 * N) + 1
    difference = result.comparison["student"].auc
    assert difference is not None
    assert (difference.n, difference.m) == (N - 2, N - 2)
    table = result.two_by_two["student"]
    for kind in ("members", "nonmembers"):
        counts = table[kind]
        assert counts.both + counts.teacher_only + counts.student_only + counts.neither <= round(0.7 * N)


@pytest.mark.parametrize(
    ("n_missing", "status"), [(0, "pass"), (6, "pass"), (7, "inconclusive"), (2 * N, "inconclusive")]
)
def test_records_without_a_score_are_shown_and_more_than_one_percent_never_pass(n_missing: int, status: str) -> None:
    values = leaking(0.0, seed=3)
    values[:n_missing] = np.nan
    result = assess_attack(plan("teacher", "student"), scores_of({"teacher": values, "student": values}), judging())
    verdict = judge({"min-k": result}, VALID, [parse_gate("student.auc[min-k] <= 0.7")])
    assert result.cells["student"].unscored == n_missing
    assert verdict.status == status
    assert exit_code(verdict) == (ExitCode.PASSED if status == "pass" else ExitCode.INCONCLUSIVE)


def test_threads_move_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("min-k", "loss", "zlib")
    by_model = {"teacher": leaking(1.0, seed=1), "student": leaking(0.5, seed=2)}
    scores = Scores(dict.fromkeys(names, by_model), {}, False, {})
    plans = [AttackPlan(ATTACKS[name], False, dict.fromkeys(by_model, "")) for name in names]
    alone = [assess_attack(one, scores, judging()) for one in plans]
    assert list(assess_attacks(plans, scores, judging())) == alone
    monkeypatch.setattr("kdaudit.audit.assess.MIN_THREADED", 0)
    assert list(assess_attacks(plans, scores, judging())) == alone
    with pytest.raises(KeyError, match="zlib"):
        list(assess_attacks(plans, replace(scores, by_attack={"min-k": by_model, "loss": by_model}), judging()))


def test_constant_scores_have_no_figure_anywhere() -> None:
    same = np.full(2 * N, -2.5)
    values = {"teacher": leaking(1.0, seed=4), "student": same}
    result = assess_attack(plan(*values), scores_of(values), judging())
    cell, comparison = result.cells["student"], result.comparison["student"]
    assert set(cell.figures) == set(comparison.figures) == set(METRICS)
    figures: list[Estimate | Difference] = [*cell.figures.values(), *comparison.figures.values()]
    for figure in figures:
        assert (figure.value, figure.low, figure.high) == (None, None, None)
        assert figure.reason == "scores do not vary"
    teacher = result.cells["teacher"].auc
    assert teacher is not None
    assert teacher.value is not None


def test_a_model_that_the_attack_does_not_run_on_says_why_in_cell_and_comparison() -> None:
    one = assess_attack(
        plan("teacher", obstacles={"student": "no reference"}), scores_of({"teacher": leaking(1.0, seed=1)}), judging()
    )
    assert (one.cells["student"].status, one.cells["student"].reason) == ("not_applicable", "no reference")
    assert (one.comparison["student"].status, one.comparison["student"].reason) == (
        "not_applicable",
        "student: no reference",
    )
    none = assess_attack(plan(obstacles={"teacher": "a", "student": "b"}), scores_of({}), judging())
    assert {cell.status for cell in none.cells.values()} == {"not_applicable"}
    assert none.comparison["student"].reason == "teacher: a; student: b"
    assert (none.curves, none.histograms) == ({}, {})


def test_a_student_alone_is_measured_without_a_comparison() -> None:
    values = {"student": leaking(1.0, seed=1)}
    result = assess_attack(plan("student", obstacles={"teacher": "no reference"}), scores_of(values), judging())
    assert result.cells["teacher"].reason == "no reference"
    assert result.cells["student"].auc is not None
    assert result.comparison["student"].reason == "teacher: no reference"
    assert result.two_by_two == {}


def test_the_papers_figures_use_its_own_fractions_and_only_on_request() -> None:
    values, papers = leaking(0.0, seed=1), leaking(2.0, seed=2)
    models = {"teacher": values, "student": values}
    plain = assess_attack(plan(*models), scores_of(models), judging())
    assert plain.cells["student"].paper_compat is None
    with_paper = assess_attack(plan(*models), scores_of(models, with_paper=True, paper=papers), judging())
    found = with_paper.cells["student"].paper_compat
    assert found is not None
    assert found.auc == pytest.approx(roc_auc_score(np.arange(2 * N) < N, papers))
    assert replace(with_paper.cells["student"], paper_compat=None) == plain.cells["student"]


def test_figures_of_one_attack_do_not_move_with_another_model_or_attack() -> None:
    teacher, student = leaking(0.4, seed=1), leaking(0.9, seed=2)
    alone = assess_attack(plan("teacher"), scores_of({"teacher": teacher}), judging())
    pair = {"teacher": teacher, "student": student}
    together = assess_attack(plan(*pair), scores_of(pair), judging())
    assert together.cells["teacher"].auc == alone.cells["teacher"].auc
    assert together == assess_attack(plan(*pair), scores_of(pair), judging())


def holm_by_hand(p_values: list[float]) -> list[float]:
    """The k-th smallest of n times n - k + 1, never below the ones before it, at most 1."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def compared(auc: float | None, balanced: float) -> Comparison:
    return Comparison(
        "ok",
        figures={
            "auc": Difference(0.1, p_value=auc),
            "balanced_accuracy": Difference(0.1, p_value=balanced),
            "tpr@0.01": Difference(0.1, p_value=0.04),
            "tpr@0.1": Difference(None, reason="too few"),
        },
    )


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_holms_family_is_attacks_by_students_for_each_metric(p_values: list[float]) -> None:
    comparisons = [compared(p, 0.03) for p in p_values]
    results = {
        name: AttackResult(1, False, {}, {"student": first, "student-2": second}, {}, {}, {})
        for name, first, second in zip(("loss", "zlib", "min-k"), comparisons[::2], comparisons[1::2], strict=True)
    }
    adjusted = [found for result in adjust_for_many(results).values() for found in result.comparison.values()]
    aucs = [found.auc.p_value_holm for found in adjusted if found.auc]
    assert aucs == pytest.approx(holm_by_hand(p_values))
    for found in adjusted:
        assert found.figures["balanced_accuracy"].p_value_holm == pytest.approx(6 * 0.03)
        assert found.figures["tpr@0.01"].p_value_holm == pytest.approx(6 * 0.04)
        assert found.figures["tpr@0.1"].p_value_holm is None


def test_a_comparison_that_was_not_made_does_not_count_in_the_family() -> None:
    results = {
        "loss": AttackResult(1, False, {}, {"student": compared(0.02, 0.03)}, {}, {}, {}),
        "ez": AttackResult(1, False, {}, {"student": Comparison("not_applicable", "no reference")}, {}, {}, {}),
        "zlib": AttackResult(1, False, {}, {"student": compared(None, 0.5)}, {}, {}, {}),
    }
    adjusted = adjust_for_many(results)
    loss = adjusted["loss"].comparison["student"]
    assert loss.auc is not None
    assert (loss.auc.p_value_holm, loss.figures["balanced_accuracy"].p_value_holm) == (0.02, 0.06)
    assert adjusted["ez"] == results["ez"]


def test_histograms_and_curves_hold_counts_not_records() -> None:
    pair = {"teacher": leaking(0.4, seed=1), "student": leaking(0.9, seed=2)}
    result = assess_attack(plan(*pair), scores_of(pair), judging())
    for name in pair:
        histogram, curve = result.histograms[name], result.curves[name]
        assert sum(histogram.members) == sum(histogram.nonmembers) == N
        together = [a + b for a, b in zip(histogram.members, histogram.nonmembers, strict=True)]
        assert len(together) <= 60
        assert min(together) >= 5
        assert len(curve.fpr) <= 200
        assert all(map(math.isfinite, (*curve.tpr_low, *curve.tpr_high)))


GATEABLE = ["auc", "tpr@0.001", "tpr@0.01", "tpr@0.1", "balanced_accuracy"]


def exposed(share: float, *, n: int, seed: int) -> tuple[Floats, Floats]:
    """Scores of a start that knows nothing, and of a student that gives a share of the members away altogether."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=2 * n)
    student = start + 0.3 * rng.normal(size=2 * n)
    student[: round(share * n)] += 8
    return start, student


def with_start(student: Floats, of_start: Mapping[str, Floats], *, attack: str = "min-k", n: int = N) -> AttackResult:
    drawn = Scores({attack: {"student": student}}, {}, False, {}, {"abc": of_start})
    own = AttackPlan(ATTACKS[attack], False, {"student": ""})
    return assess_attack(own, drawn, replace(judging(n=n), starts={"student": "abc"}))


@pytest.mark.parametrize(("share", "status"), [(0.04, "fail"), (0.0, "pass")])
def test_a_gate_on_the_tpr_fails_where_few_members_are_fully_exposed(share: float, status: str) -> None:
    """The AUC is 0.52 at most then, no better than a blind classifier's may be: TPR is held against TPR."""
    start, student = exposed(share, n=2000, seed=1)
    result = with_start(student, {"min-k": start}, n=2000)
    auc = result.cells["student"].auc
    assert auc is not None
    assert auc.value == pytest.approx(0.5 + share / 2, abs=0.02)
    verdict = judge({"min-k": result}, VALID, [parse_gate("student.tpr@0.01[min-k] <= 0.022")])
    assert verdict.status == status


def test_an_attack_is_held_against_the_same_attack_on_the_start_or_its_loss_and_the_blind_classifier() -> None:
    start, student = leaking(0.2, seed=1), leaking(1.0, seed=2)
    other = leaking(0.6, seed=3)
    of_start = {"loss": start, "min-k": other}
    for attack, null in (("min-k", other), ("recall", start), ("reference", start)):
        nulls = with_start(student, of_start, attack=attack).cells["student"].nulls
        assert list(nulls) == ["start", "blind"]
        assert {name: list(figures) for name, figures in nulls.items()} == {"start": GATEABLE, "blind": GATEABLE}
        gap = roc_auc_score(np.arange(2 * N) < N, student) - roc_auc_score(np.arange(2 * N) < N, null)
        assert nulls["start"]["auc"].value == pytest.approx(gap)
        assert nulls["start"]["auc"].level == 0.9
        assert nulls["start"]["balanced_accuracy"].value is not None


def test_without_a_start_an_attack_is_held_against_the_blind_classifier_alone() -> None:
    values = {"student": leaking(1.0, seed=1)}
    result = assess_attack(plan("student"), scores_of(values), judging())
    assert list(result.cells["student"].nulls) == ["blind"]
    unknown = BlindBaseline("tfidf", Estimate(None, reason="too few texts"), {}, np.zeros(N), np.zeros(N))
    result = assess_attack(plan("student"), scores_of(values), replace(judging(), blind=unknown))
    assert result.cells["student"].nulls["blind"]["auc"].reason == "too few texts"
    (gate,) = judge({"min-k": result}, VALID, [parse_gate("student.auc[min-k] <= 0.6")]).gates
    assert (gate.status, "too few texts" in gate.reason) == ("inconclusive", True)


def test_a_record_that_the_start_cannot_score_is_left_out_and_a_start_that_scores_few_is_no_null() -> None:
    start, student = leaking(0.0, seed=1), leaking(1.0, seed=2)
    start[:6] = np.nan
    cell = with_start(student, {"min-k": start}).cells["student"]
    assert cell.unscored == 6
    assert cell.nulls["start"]["auc"].n == N - 6
    start[:7] = np.nan
    cell = with_start(student, {"min-k": start}).cells["student"]
    assert cell.unscored == 0
    assert cell.nulls["start"]["auc"].reason == "7 records have a score, but none of the start"
    assert cell.nulls["blind"]["auc"].value is not None
