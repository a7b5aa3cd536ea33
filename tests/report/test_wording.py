"""Figures in words."""

from dataclasses import replace
from typing import Any

import pytest

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.report import wording
from kdaudit.results import AttackResult, AuditResult, Cell, Comparison, Validity, Verdict

AUC = Estimate(0.8125, 0.7994, 0.8261, 2000, 1988)
TOO_FEW = Estimate(None, n=40, m=40, reason="needs 299 non-members")
GAIN = Difference(0.0566, 0.0499, 0.0641, p_value=0.004, p_value_holm=0.012)
NOT_RUN = Cell("not_applicable", "no reference model was given")


def result(**attacks: AttackResult) -> AuditResult:
    validity = Validity("ok", Estimate(0.5, 0.47, 0.53), "tfidf", {}, {}, {}, ("a warning", "another"))
    return AuditResult(
        "0.1", {"teacher": {}, "student": {}, "student-2": {}}, {}, attacks, validity,
        {"smallest_detectable_auc": 0.527}, {}, Verdict("not_gated"), {},
    )  # fmt: skip


def attack(teacher: Cell, student: Cell, comparison: Comparison) -> AttackResult:
    cells = {"teacher": teacher, "student": student, "student-2": student}
    return AttackResult(1, False, cells, {"student": comparison, "student-2": comparison}, {}, {}, {})


MEASURED = Cell("ok", auc=AUC, tpr_at_fpr={"0.01": TOO_FEW}, balanced_accuracy=replace(AUC, value=0.7), unscored=2)
COMPARED = Comparison("ok", auc=GAIN, tpr_at_fpr={"0.01": Difference(None, reason="needs 299 non-members")})
AUDIT = result(
    loss=attack(MEASURED, MEASURED, COMPARED),
    zlib=attack(MEASURED, MEASURED, COMPARED),
    reference=attack(NOT_RUN, replace(MEASURED, unscored=0), Comparison("not_applicable", "teacher: no reference")),
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (wording.interval(AUC), "0.812 [0.799, 0.826]"),
        (wording.interval(None), "–"),
        (wording.interval(TOO_FEW), "– (needs 299 non-members)"),
        (wording.interval(replace(AUC, low=None)), "–"),
        (wording.difference(GAIN), "+0.057 [+0.050, +0.064]"),
        (wording.difference(replace(GAIN, value=-0.25, low=-0.5)), "-0.250 [-0.500, +0.064]"),
        (wording.difference(None), "–"),
        (wording.p_value(GAIN), "0.012"),
        (wording.p_value(replace(GAIN, p_value_holm=0.0004)), "< 0.001"),
        (wording.p_value(replace(GAIN, p_value_holm=None)), "–"),
        (wording.p_value(None), "–"),
    ],
)
def test_a_figure_reads_as_agreed(words: str, expected: str) -> None:
    assert words == expected


ALONE = {"student": {"loss": Estimate(0.51, 0.49, 0.53), "min-k++": Estimate(0.376, 0.36, 0.393)}}
WITH_ALONE = replace(AUDIT, validity=replace(AUDIT.validity, reference_alone=ALONE | {"student-2": ALONE["student"]}))


def test_the_reference_alone_stands_below_the_attacks_that_compare_with_it() -> None:
    head, rows = wording.table(WITH_ALONE, "auc")
    shown = "0.376 [0.360, 0.393] min-k++"
    assert rows[-2][0] == "reference"
    assert rows[-1] == ["reference alone", "–", shown, shown, *["–"] * (len(head) - 4)]
    assert [row[0] for row in wording.table(WITH_ALONE, "tpr@0.01")[1]] == ["loss", "zlib", "reference"]
    assert [row[0] for row in wording.table(AUDIT, "auc")[1]] == ["loss", "zlib", "reference"]


def test_every_figure_of_a_reference_alone_is_noted_and_a_shared_reference_once() -> None:
    assert list(wording.reference_notes(WITH_ALONE.validity)) == [
        "reference alone (student, student-2): AUC loss 0.510 [0.490, 0.530], min-k++ 0.376 [0.360, 0.393]; it saw "
        "neither set, so each ought to be at 0.5"
    ]


def test_the_table_has_a_column_per_model_and_two_per_comparison() -> None:
    head, rows = wording.table(AUDIT, "auc")
    compared = [heading for name in ("student", "student-2") for heading in (f"{name} − teacher", "p (Holm)")]
    assert head == ["attack", "teacher", "student", "student-2", *compared]
    assert rows[0] == ["loss", *["0.812 [0.799, 0.826]"] * 3, *["+0.057 [+0.050, +0.064]", "0.012"] * 2]
    assert rows[2] == ["reference", "not applicable", *["0.812 [0.799, 0.826]"] * 2, *["–", "–"] * 2]


def test_every_metric_has_its_table() -> None:
    for metric, shown in (("tpr@0.01", "–"), ("balanced_accuracy", "0.700 [0.799, 0.826]")):
        _, rows = wording.table(AUDIT, metric)
        assert rows[0][1] == shown
    assert wording.metric_of(AUDIT.attacks["loss"], "teacher", "tpr@0.1") is None


def test_a_reason_is_said_once_for_all_its_cells() -> None:
    cells = [f"{name} on {model}" for name in ("loss", "zlib") for model in ("teacher", "student", "student-2")]
    assert list(wording.missing(AUDIT)) == [
        f"{', '.join([*cells, 'reference on student', 'reference on student-2'])}: "
        "no true positive rate at 1 % false positive rate: needs 299 non-members",
        "reference on teacher: no reference model was given",
    ]


def test_the_notes_say_blind_baseline_power_unscored_records_and_every_warning() -> None:
    assert list(wording.validity_notes(AUDIT)) == [
        "blind baseline (tfidf): AUC 0.500 [0.470, 0.530], no model involved",
        "power: this run could have told an AUC of 0.527 from 0.5 (95 % level, 80 % power)",
        "records without a score (NaN), left out for every model: 2 under loss, zlib",
        "a warning",
        "another",
    ]


def pair(**changes: Any) -> dict[str, Any]:
    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "reason": ""}
    return {
        "gain_over": "start",
        "members": {"spearman": figure, "spearman_given_start_loss": {**figure, "value": 0.375}},
        "nonmembers": {"spearman": {**figure, "value": None, "reason": "scores do not vary"}},
        **changes,
    }


def test_mixed_supervision_is_a_line_per_student() -> None:
    audit = replace(AUDIT, mixed_supervision={"student": pair(), "student-2": pair(gain_over="nothing")})
    first, second = wording.supervision_notes(audit)
    assert "+0.50 [+0.25, +0.75] over members" in first
    assert "– (scores do not vary) over non-members" in first
    assert "+0.38 [+0.25, +0.75] over members at equal loss" in first
    assert "gain over its start" in first
    assert second.startswith("student-2:")
    assert "own log-likelihood, which says little" in second
