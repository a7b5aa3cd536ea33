"""Figures in words."""

from dataclasses import replace

import pytest

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.excess import Slopes
from kdaudit.metrics.strongest import Strongest
from kdaudit.report import wording
from kdaudit.results import (
    AttackResult,
    AuditedModel,
    AuditedRecords,
    AuditResult,
    Cell,
    Comparison,
    Overlap,
    Power,
    Validity,
    Verdict,
)
from tests.report.reports import SIDE, SUPERVISION

AUC = Estimate(0.8125, 0.7994, 0.8261, 2000, 1988)
TOO_FEW = Estimate(None, n=40, m=40, reason="needs 299 non-members")
GAIN = Difference(0.0566, 0.0499, 0.0641, p_value=0.004, p_value_holm=0.012)
NOT_RUN = Cell("not_applicable", "no reference model was given")


def result(**attacks: AttackResult) -> AuditResult:
    validity = Validity("ok", Estimate(0.5, 0.47, 0.53), "tfidf", {}, {}, Overlap(13), ("a warning", "another"))
    return AuditResult(
        "0.1", {name: AuditedModel(name, 9) for name in ("teacher", "student", "student-2")},
        AuditedRecords(2000, 2000, 12, "ab"), attacks, validity, Power(0.527), {}, Verdict("not_gated"), {},
    )  # fmt: skip


def attack(teacher: Cell, student: Cell, comparison: Comparison) -> AttackResult:
    cells = {"teacher": teacher, "student": student, "student-2": student}
    return AttackResult(1, False, cells, {"student": comparison, "student-2": comparison}, {}, {}, {})


MEASURED = Cell(
    "ok", figures={"auc": AUC, "tpr@0.01": TOO_FEW, "balanced_accuracy": replace(AUC, value=0.7)}, unscored=2
)
COMPARED = Comparison("ok", figures={"auc": GAIN, "tpr@0.01": Difference(None, reason="needs 299 non-members")})
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
        "power: the smallest AUC that this run could have told from 0.5 is 0.527 (95 % level, 80 % power)",
        "records without a score (NaN), left out for every model: 2 under loss, zlib",
        "a warning",
        "another",
    ]


def test_mixed_supervision_shows_members_beside_non_members_and_quarters() -> None:
    audit = replace(AUDIT, mixed_supervision={"student": SUPERVISION, "student-2": SUPERVISION})
    tables = wording.supervision_tables(audit)
    assert [title.partition(",")[0] for title in tables] == ["mixed supervision: student"] * 2 + [
        "mixed supervision: student-2"
    ] * 2
    (head, rows), (_, quarters), *_ = tables.values()
    assert head == ["figure", "1400 members", "1400 non-members", "difference"]
    assert rows[2] == [
        "rank correlation of the two, at equal loss of the start", "+0.41 [+0.36, +0.46]", "+0.41 [+0.36, +0.46]", "–",
    ]  # fmt: skip
    assert rows[3][1:] == ["+0.90 [+0.85, +0.95]", "+0.95 [+0.90, +1.00]", "-0.05 [-0.10, +0.00]"]
    assert quarters[0] == ["up to 0.041", "300", "348", "+0.500 [+0.450, +0.550]"]
    assert [row[0] for row in quarters[1:]] == ["0.041 to 0.060", "0.060 to 0.090", "above 0.090"]


def test_power_says_how_many_cells_share_its_level() -> None:
    told = [list(wording.validity_notes(replace(AUDIT, power=replace(AUDIT.power, cells=n))))[1] for n in (1, 20)]
    assert "0.527 (95 % level, above the blind classifier too, 80 % power)" in told[0]
    assert "0.527 (95 % level shared by 20 cells, above the blind classifier too, 80 % power)" in told[1]


def test_the_strongest_of_several_attacks_is_a_line_per_model() -> None:
    several = Strongest("loss", 0.8125, 0.79, 0.834, 0.95, 2.2, ("loss", "zlib"))
    one = Strongest("loss", 0.8125, 0.7994, 0.8261, 0.95, 1.96, ("loss",))
    assert list(wording.strongest_notes(replace(AUDIT, strongest={"teacher": one, "student": several}))) == [
        "the strongest of 2 attacks on student: loss, AUC 0.812 [0.790, 0.834], a simultaneous 95 % interval over all "
        "of them"
    ]
    assert list(wording.strongest_notes(AUDIT)) == []


def test_mixed_supervision_says_once_what_it_cannot_tell_and_why_a_gain_is_over_nothing() -> None:
    alone = replace(
        SUPERVISION,
        gain_over="nothing",
        gain_note="no reference was given",
        slopes=Slopes(Estimate(None, reason="no start"), Estimate(None, reason="no start"), Difference(None)),
    )
    audit = replace(AUDIT, mixed_supervision={"student": SUPERVISION, "student-2": alone})
    figures, note, limit = wording.supervision_notes(audit)
    assert "Welch" in figures
    assert note == "student-2: no reference was given"
    assert "cannot tell whether the teacher's word is the cause" in limit
    assert "kdaudit mitigate --method hard-only" in limit
    _, rows = wording.supervision_table(alone)
    assert rows[1][0] == "student's own log-likelihood, nats per token"
    assert rows[2][0] == "rank correlation of the two"
    assert rows[3][1:] == ["– (no start)", "– (no start)", "–"]
    few = replace(SIDE, correlation=Estimate(0.5, reason="no interval from fewer than 30 records"))
    assert wording.supervision_table(replace(alone, members=few))[1][2][1].startswith("+0.50 (no interval")
    assert list(wording.supervision_notes(replace(AUDIT, mixed_supervision={}))) == []
