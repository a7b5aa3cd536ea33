"""Absence of evidence is never a pass."""

import pytest

from kdaudit.errors import ExitCode
from kdaudit.metrics.estimate import Estimate
from kdaudit.results import Cell
from kdaudit.verdict import exit_code
from tests.verdict.audits import CONSTANT, NO_REFERENCE, attack, cell, judged, of_aucs, shares


def test_nothing_measured_is_inconclusive() -> None:
    for gates in (["student.auc<=1"], ["student.auc[loss]<=1"], ["difference.auc<=1"]):
        verdict = judged(gates, {})
        assert verdict.status == "inconclusive"
        assert verdict.n_cells == 0
        assert exit_code(verdict) is ExitCode.INCONCLUSIVE


def test_constant_scores_never_pass() -> None:
    verdict = of_aucs(CONSTANT, 0.5, 0.5, gates=["student.auc <= 1"])
    assert verdict.status == "inconclusive"
    assert verdict.gates[0].reason == "scores do not vary (loss)"
    assert verdict.gates[0].deciding_attack == "loss"
    assert verdict.gates[0].bound is None


def test_a_missing_figure_never_passes_and_hides_no_failure() -> None:
    absent = Cell("ok", figures={"auc": shares(0.5)})
    for gate in ("student.tpr@0.01[loss]<=1", "student.balanced_accuracy[loss]<=1"):
        assert judged([gate], {"loss": attack(absent)}).status == "inconclusive"
    assert of_aucs(CONSTANT, 0.9).status == "fail"


def test_a_cell_that_is_not_in_the_run_never_passes() -> None:
    one = {"loss": attack(cell(shares(0.5)))}
    for gate in ("student.auc[zlib]<=1", "student-2.auc[loss]<=1", "difference.auc[loss]<=1"):
        verdict = judged([gate], one)
        assert verdict.status == "inconclusive"
        assert "not measured in this run" in verdict.gates[0].reason


def test_a_cell_that_is_not_applicable_is_skipped_and_named() -> None:
    attacks = {"loss": attack(cell(shares(0.5))), "zlib": attack(cell(shares(0.5))), "reference": attack(NO_REFERENCE)}
    verdict = judged(["student.auc<=0.6"], attacks)
    assert verdict.status == "pass"
    assert verdict.gates[0].skipped == ("reference: no reference was given",)
    assert verdict.gates[0].reason.endswith("; not applicable, so not judged: reference")
    assert verdict.sentence.endswith("Not applicable, so not judged: reference.")


@pytest.mark.parametrize("gate", ["student.auc<=0.6", "student.auc[reference]<=0.6"])
def test_a_cell_that_was_asked_for_by_name_is_not_skipped(gate: str) -> None:
    attacks = {
        "loss": attack(cell(shares(0.5))),
        "zlib": attack(cell(shares(0.5))),
        "reference": attack(NO_REFERENCE, requested="[" not in gate),
    }
    verdict = judged([gate], attacks)
    assert verdict.status == "inconclusive"
    assert verdict.gates[0].reason == "no reference was given (reference)"
    assert verdict.gates[0].skipped


def test_one_scored_cell_is_too_little_for_a_gate_over_all_attacks() -> None:
    verdict = of_aucs(0.5)
    assert verdict.status == "inconclusive"
    assert "only one cell was measured" in verdict.gates[0].reason
    assert "name the attack" in verdict.next_step
    assert of_aucs(0.5, gates=["student.auc[loss] <= 0.6"]).status == "pass"
    assert of_aucs(0.9).status == "fail"


def test_a_gate_over_attacks_none_of_which_applies_is_inconclusive() -> None:
    verdict = judged(["student.auc<=1"], {"reference": attack(NO_REFERENCE), "recall": attack(NO_REFERENCE)})
    assert verdict.status == "inconclusive"
    assert "nothing was measured" in verdict.gates[0].reason
    assert len(verdict.gates[0].skipped) == 2


@pytest.mark.parametrize("sizes", [{"n": 199}, {"m": 199}, {"n": 5, "m": 5}])
@pytest.mark.parametrize("value", [0.3, 0.95])
def test_too_few_records_of_either_class_neither_pass_nor_fail(sizes: dict[str, int], value: float) -> None:
    verdict = of_aucs(shares(value, **sizes), shares(value, **sizes))
    assert verdict.status == "inconclusive"
    assert "200 of each needed" in verdict.gates[0].reason
    assert "200" in verdict.next_step


def test_two_hundred_records_of_each_class_are_enough() -> None:
    assert of_aucs(shares(0.3, n=200, m=200), shares(0.3, n=200, m=200)).status == "pass"
    assert of_aucs(shares(0.95, n=200, m=200), 0.5).status == "fail"


def test_more_than_one_percent_unscored_neither_passes_nor_fails() -> None:
    for value in (0.3, 0.95):
        assert of_aucs(value, value, unscored=41).status == "inconclusive"  # of 4041
    assert of_aucs(0.3, 0.3, unscored=40).status == "pass"
    assert "1.0 % of the records have no score" in of_aucs(0.3, 0.3, unscored=41).gates[0].reason


def test_all_records_unscored_is_inconclusive() -> None:
    nothing = cell(Estimate(None, reason="no scores"), unscored=4000)
    assert judged(["student.auc[loss]<=1"], {"loss": attack(nothing)}).status == "inconclusive"
