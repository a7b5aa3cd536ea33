"""Whether the figures can be trusted, and what mixed supervision tells."""

from dataclasses import replace

import pytest

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.excess import Slopes
from kdaudit.report import checks, mitigation_tables
from kdaudit.results import AuditResult, Power
from tests.report.reports import SIDE, SUPERVISION
from tests.report.small import AUDIT, WITH_ALONE
from tests.report.tables import TABLE


def found(audit: AuditResult) -> dict[str, tuple[str, str]]:
    """The rows of the checks by what was checked."""
    return {row[0]: (row[1], row[2]) for row in checks.checks(audit).rows}


def test_the_blind_baseline_stands_first_and_every_other_classifier_below() -> None:
    other = replace(AUDIT, validity=replace(AUDIT.validity, blind={**AUDIT.validity.blind, "surface": Estimate(0.4)}))
    names = list(found(other))
    assert names[:2] == ["blind baseline (tfidf): AUC", "blind classifier surface: AUC"]
    assert found(AUDIT)[names[0]] == (
        "0.500 [0.470, 0.530]",
        "by the texts alone, no model involved: it ought to be at 0.5",
    )


def test_a_blind_baseline_that_learnt_from_a_part_of_the_records_says_so() -> None:
    part = replace(AUDIT, validity=replace(AUDIT.validity, blind_learnt_from=20_000))
    assert found(part)["blind baseline (tfidf): AUC"][1] == (
        "by the texts alone, no model involved: it ought to be at 0.5; learnt from 20,000 records drawn at random, "
        "each record scored by what learnt without it"
    )


def test_every_figure_of_a_reference_alone_is_shown_and_a_shared_reference_once() -> None:
    rows = found(WITH_ALONE)
    assert [name for name in rows if name.startswith("reference")] == ["reference alone (student, student-2): AUC"]
    figures, reading = rows["reference alone (student, student-2): AUC"]
    assert figures == "loss 0.510 [0.490, 0.530], min-k++ 0.376 [0.360, 0.393]"
    assert reading == "it saw neither set, so each ought to be at 0.5"


def test_the_students_of_a_comparison_share_a_start_and_are_not_counted_up() -> None:
    alone = {f"student-{i}" if i else "student": {"loss": Estimate(0.5, 0.4, 0.6)} for i in range(20)}
    validity = replace(TABLE.validity, reference_alone={"teacher": {"loss": Estimate(0.51, 0.4, 0.6)}, **alone})
    names = [row[0] for row in mitigation_tables.checks_table(replace(TABLE, validity=validity)).rows]
    assert names[1:3] == ["reference alone (teacher): AUC", "reference alone (students): AUC"]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (None, "95 % level, 80 % power"),
        (1, "95 % level, above the blind classifier too, 80 % power"),
        (20, "95 % level shared by 20 cells, above the blind classifier too, 80 % power"),
    ],
)
def test_power_says_how_many_cells_share_its_level(cells: int | None, words: str) -> None:
    audit = replace(AUDIT, power=Power(0.527, cells=cells))
    figure, reading = found(audit)["power: smallest AUC that this run could have told from 0.5"]
    assert (figure, reading) == ("0.527", f"{words}: a weaker leak may go unseen")


def test_a_run_that_is_too_small_for_power_says_no_number() -> None:
    *_, row = checks.checks(replace(AUDIT, power=Power(None))).rows
    assert row[1:] == ("–", "this run is too small to tell any AUC from 0.5")


def test_records_without_a_score_are_counted() -> None:
    assert list(checks.unscored_notes(AUDIT)) == [
        "records without a score (NaN), left out for every model: 2 under loss, zlib"
    ]


def test_the_reason_of_a_failed_check_is_left_to_the_verdict() -> None:
    failed = replace(AUDIT.validity, status="failed", reasons=("a long reason with figures",))
    assert checks.trust(failed).startswith("No: members and non-members can be told apart")
    assert "a long reason" not in checks.trust(failed)
    assert checks.trust(AUDIT.validity) == "No check speaks against them."
    unknown = replace(AUDIT.validity, blind_auc=Estimate(None, reason="too few texts"))
    assert checks.trust(unknown) == "Not known: the blind classifier could not be measured (too few texts)."


def test_mixed_supervision_shows_members_beside_non_members_and_quarters() -> None:
    audit = replace(AUDIT, mixed_supervision={"student": SUPERVISION, "student-2": SUPERVISION})
    tables = list(checks.supervision(audit))
    assert [table.title.partition(",")[0] for table in tables] == ["Mixed supervision: student"] * 2 + [
        "Mixed supervision: student-2"
    ] * 2
    sides, quarters, *_ = tables
    assert sides.head == ["figure", "1400 members", "1400 non-members", "difference"]
    assert sides.rows[2] == [
        "rank correlation of the two, at equal loss of the start", "+0.41 [+0.36, +0.46]", "+0.41 [+0.36, +0.46]", "–",
    ]  # fmt: skip
    assert sides.rows[3][1:] == ["+0.90 [+0.85, +0.95]", "+0.95 [+0.90, +1.00]", "-0.05 [-0.10, +0.00]"]
    assert quarters.rows[0] == ["up to 0.041", "300", "348", "+0.500 [+0.450, +0.550]"]
    assert [row[0] for row in quarters.rows[1:]] == ["0.041 to 0.060", "0.060 to 0.090", "above 0.090"]


def test_mixed_supervision_says_once_what_it_cannot_tell_and_why_a_gain_is_over_nothing() -> None:
    alone = replace(
        SUPERVISION,
        gain_over="nothing",
        gain_note="no reference was given",
        slopes=Slopes(Estimate(None, reason="no start"), Estimate(None, reason="no start"), Difference(None)),
    )
    audit = replace(AUDIT, mixed_supervision={"student": SUPERVISION, "student-2": alone})
    figures, note, limit = checks.supervision_notes(audit)
    assert "Welch" in figures
    assert note == "student-2: no reference was given"
    assert "cannot tell whether the teacher's word is the cause" in limit
    assert "kdaudit mitigate --method hard-only" in limit
    rows = list(checks.supervision(audit))[2].rows
    assert rows[1][0] == "student's own log-likelihood, nats per token"
    assert rows[2][0] == "rank correlation of the two"
    assert rows[3][1:] == ["– (no start)", "– (no start)", "–"]
    few = replace(SIDE, correlation=Estimate(0.5, reason="no interval from fewer than 30 records"))
    sides, _ = checks.supervision(replace(AUDIT, mixed_supervision={"student": replace(alone, members=few)}))
    assert sides.rows[2][1].startswith("+0.50 (no interval")
    assert checks.supervision_notes(replace(AUDIT, mixed_supervision={})) == []


def test_a_check_that_holds_says_what_it_leaves_open() -> None:
    validity = AUDIT.validity
    doubted = replace(validity, reference_alone={"student": {"loss": Estimate(0.66, 0.55, 0.76)}})
    assert checks.trust(doubted).startswith("No check fails. Read them with care: 1 of 1 figures of references alone")
    few = replace(validity, blind_auc=replace(validity.blind_auc, value=0.54, low=0.38, high=0.7))
    assert "a blind AUC of 0.700 is possible" in checks.trust(few)
    shared = replace(validity, overlap=replace(validity.overlap, n_above_20_percent=9, share_above_20_percent=0.3))
    assert "9 non-members share much text with members" in checks.trust(shared)
