"""The tables: what stands in them, and that no cell is missing."""

from dataclasses import replace
from pathlib import Path

from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import QUANTILE_GRID, Difference
from kdaudit.metrics.strongest import Strongest
from kdaudit.report import checks, provenance, tables
from kdaudit.report.blocks import Detail, Table
from kdaudit.report.headline import adjusted_p, strongest_notes
from kdaudit.report.reading import Declaration, Report
from kdaudit.results import GateResult, Verdict
from kdaudit.verdict import judge, parse_gate
from tests.report.reports import GATES, LEAKY, TOO_FEW, attack, checkpoint, read, write_run
from tests.report.small import AUDIT, WITH_ALONE


def all_tables(report: Report) -> list[Table]:
    (run, *_) = report.runs
    return [
        tables.comparison(report),
        tables.gates(run.result, report.declared),
        *tables.figures(run.result),
        *tables.detections(run.result),
        *checks.supervision(run.result),
        checks.checks(run.result),
        *provenance.utility(run.result),
        provenance.models(run.result.models),
        provenance.data(run.result.data),
        provenance.versions(run.result.kdaudit_version, run.versions),
    ]


def test_every_row_has_a_cell_under_every_heading(leaky: Report, two_runs: Report) -> None:
    for report in (leaky, two_runs):
        for table in all_tables(report):
            assert table.rows, table.title
            assert {len(row) for row in table.rows} == {len(table.head)}, table.title


def test_a_rate_stands_beside_the_false_positive_rate_that_its_threshold_had(leaky: Report) -> None:
    table = next(found for found in tables.figures(leaky.runs[0].result) if "1 %" in found.title)
    assert table.title == "True positive rate at 1 % false positive rate with 95 % interval", "0.1 % was not measured"
    compared = ["student − teacher", "p (Holm)"]
    assert table.head == ["attack", "teacher", "realised FPR", "student", "realised FPR", *compared]
    loss, _, ez = table.rows
    assert loss[:3] == ["loss", "0.188 [0.168, 0.207]", "0.0080 [0.0040, 0.0160]"]
    assert table.at(Detail.TERMINAL).head == ["attack", "teacher", "student", *compared], "a terminal has less room"
    assert table.at(Detail.TERMINAL).rows[0][:3] == ["loss", "0.188 [0.168, 0.207]", "0.203 [0.182, 0.223]"]
    assert ez == ["ez", "not applicable", "–", "not applicable", "–", "not applicable", "–"]


def test_member_and_non_member_success_stand_together(leaky: Report) -> None:
    *_, table = tables.figures(leaky.runs[0].result)
    assert table.rows[0][1] == "0.700 [0.680, 0.720] / 0.600 [0.580, 0.620]"


def test_a_gate_shows_its_bound_its_level_and_where_it_was_declared(leaky: Report, tmp_path: Path) -> None:
    result = leaky.runs[0].result
    table = tables.gates(result, {"student.auc<=0.6": Declaration(Path("kdaudit.toml"), 3)})
    first = dict(zip(table.head, table.rows[0], strict=True))
    assert first["limit"] == "Student, AUC at most 0.6"
    assert first["gate"] == "student.auc<=0.6"
    assert first["result"] == "fail"
    assert first["by attack"] == "reference"
    assert first["measured"].startswith("0.930, at least 0.91")
    assert first["distance"].startswith("0.31")
    assert first["distance"].endswith(" over")
    level = 100 * (1 - 0.05 / result.verdict.n_cells)
    assert f"({level:.4g} %, corrected for {result.verdict.n_cells} scored cells)" in table.note
    assert first["declared in"] == "kdaudit.toml:3"
    assert table.rows[1][-1] == "–", "given on the command line"
    assert tables.gates(result, {}).head[-1] == "reason"


def test_the_verdict_of_a_model_is_its_own(leaky: Report) -> None:
    two = dict.fromkeys(("student", "student-2"), LEAKY.models["student"])
    weak, strong = attack(0.88, 0.52), attack(0.88, 0.93)
    one = replace(
        strong, cells={**strong.cells, "student-2": weak.cells["student"]},
        comparison={"student": strong.comparison["student"], "student-2": weak.comparison["student"]},
    )  # fmt: skip
    result = replace(
        LEAKY, models={"teacher": LEAKY.models["teacher"], **two}, attacks=dict.fromkeys(("loss", "zlib"), one)
    )
    gates = [parse_gate(gate) for gate in ("student.auc <= 0.6", "student-2.auc <= 0.6", "difference.auc <= 0.02")]
    result = replace(result, verdict=judge(result.attacks, result.validity, gates))
    assert [tables.status_of(result, name) for name in two] == ["fail", "pass"]
    assert tables.status_of(result, "teacher") == "not_gated"


def test_a_reference_has_the_precision_that_it_was_measured_in() -> None:
    stored = replace(LEAKY.models["student"], reference=replace(checkpoint("a start"), stored_dtype="float16"))
    rows = provenance.models({**LEAKY.models, "student": stored}).rows
    assert rows[-1][0] == "student: reference"
    assert rows[-1][3] == "float32 on cpu"


def test_a_bootstrap_that_can_show_no_smaller_p_value_says_so() -> None:
    grid = tuple(0.1 + q / 100 for q in QUANTILE_GRID)
    at_floor = Difference(0.1, 0.09, 0.11, 2 / 2001, 20 / 2001, quantiles=grid)
    assert adjusted_p(at_floor) == "≤ 0.010"
    assert adjusted_p(replace(at_floor, p_value=4 / 2001, p_value_holm=0.04)) == "0.040"
    assert adjusted_p(replace(at_floor, quantiles=None, se=0.01)) == "0.010", "DeLong's has no floor"
    assert adjusted_p(replace(at_floor, p_value_holm=2 / 2001)) == "< 0.001"
    assert adjusted_p(None) == "–"


def test_a_bound_that_rounding_would_put_on_its_limit_has_more_digits() -> None:
    gate = GateResult("student.auc<=0.1", "fail", "", "student", "auc", 0.1, "loss", 0.10049, 0.1001, "lower", 0.99)
    row = tables.gates(replace(LEAKY, verdict=Verdict("fail", (gate,), 1)), {}).rows[0]
    assert row[3] == "0.1005, at least 0.1001"
    assert row[5] == "0.0001 over"


def test_the_two_by_two_counts_members_then_non_members(leaky: Report) -> None:
    (table,) = tables.detections(leaky.runs[0].result)
    assert [name for name, *_ in table.rows] == ["loss", "reference"], "ez was not measured"
    assert table.rows[0][1:] == ("900", "20", "180", "300", "160", "60", "50", "1121")


def test_runs_are_compared_one_row_a_student_and_another_data_set_is_pointed_out(two_runs: Report) -> None:
    table = tables.comparison(two_runs)
    assert [row[:4] for row in table.rows] == [
        ("leaky", "student", "fail", "reference"),
        ("better", "student", "pass", "reference"),
    ]
    assert table.note == "The interval of the strongest attack is simultaneous over all attacks of its run."
    other = write_run(Path("other"), replace(LEAKY, data=replace(LEAKY.data, sha256="ef" * 32)))
    assert "their records" in tables.comparison(read(Path("leaky"), other)).note


def test_utility_stands_where_the_students_folder_told_it_and_nowhere_else(leaky: Report) -> None:
    (table,) = provenance.utility(leaky.runs[0].result)
    assert table.head == ("figure", "teacher", "start", "student")
    assert table.rows[1] == ("bits per byte", "1.100 [1.050, 1.150]", "1.400 [1.350, 1.450]", "1.200 [1.150, 1.250]")
    assert "0.610 [0.560, 0.660]" in table.note
    models = {"teacher": LEAKY.models["teacher"], "student": replace(LEAKY.models["student"], distillation=None)}
    plain = read(write_run(Path("plain"), replace(LEAKY, models=models)))
    assert list(provenance.utility(plain.runs[0].result)) == []


def test_every_checkpoint_is_listed_with_its_hash(leaky: Report) -> None:
    rows = provenance.models(leaky.runs[0].result.models).rows
    assert [row[0] for row in rows] == ["teacher", "teacher: reference", "student", "student: reference"]
    assert rows[0][1] == "owner/teacher @ 0123456789ab"
    assert rows[2][3] == "4bit float32 on cpu"
    assert {row[6] for row in rows} == {"0a" * 32}


def test_gates_that_nothing_could_settle_show_the_reason(leaky: Report) -> None:
    row = tables.gates(leaky.runs[0].result, {}).rows[GATES.index("student.tpr@0.001 <= 0.05")]
    assert row[2:6] == ("inconclusive", "–", "loss", "–")
    assert TOO_FEW.reason in row[6]


def test_a_terminal_shows_the_first_rate_that_was_measured_and_a_pair_side_by_side(leaky: Report) -> None:
    shown = {
        table.title.removesuffix(" with 95 % interval"): table.detail for table in tables.figures(leaky.runs[0].result)
    }
    assert shown == {
        "AUC": Detail.TERMINAL,
        "True positive rate at 1 % false positive rate": Detail.TERMINAL,
        "True positive rate at 10 % false positive rate": Detail.WHOLE,
        "Balanced accuracy": Detail.WHOLE,
        "Member success / non-member success at the calibrated threshold": Detail.TERMINAL,
    }


def test_the_reference_alone_stands_below_the_attacks_that_compare_with_it() -> None:
    table = tables.metric_table(WITH_ALONE, METRICS["auc"])
    shown = "0.376 [0.360, 0.393] min-k++"
    assert table.rows[-2][0] == "reference"
    assert table.rows[-1] == ["reference alone", "–", shown, shown, *["–"] * (len(table.head) - 4)]
    assert [row[0] for row in tables.metric_table(WITH_ALONE, METRICS["tpr@0.01"]).rows] == [
        "loss",
        "zlib",
        "reference",
    ]
    assert [row[0] for row in tables.metric_table(AUDIT, METRICS["auc"]).rows] == ["loss", "zlib", "reference"]


def test_the_table_has_a_column_per_model_and_two_per_comparison() -> None:
    table = tables.metric_table(AUDIT, METRICS["auc"])
    compared = [heading for name in ("student", "student-2") for heading in (f"{name} − teacher", "p (Holm)")]
    assert table.head == ["attack", "teacher", "student", "student-2", *compared]
    assert table.rows[0] == ["loss", *["0.812 [0.799, 0.826]"] * 3, *["+0.057 [+0.050, +0.064]", "0.012"] * 2]
    assert table.rows[2] == ["reference", "not applicable", *["0.812 [0.799, 0.826]"] * 2, *["not applicable", "–"] * 2]


def test_every_metric_has_its_table() -> None:
    for metric, shown in (("tpr@0.01", "–"), ("tpr@0.1", "–"), ("balanced_accuracy", "0.700 [0.799, 0.826]")):
        assert tables.metric_table(AUDIT, METRICS[metric]).rows[0][1] == shown


def test_a_reason_is_said_once_for_all_its_cells() -> None:
    cells = [f"{name} on {model}" for name in ("loss", "zlib") for model in ("teacher", "student", "student-2")]
    assert list(tables.missing(AUDIT)) == [
        f"{', '.join([*cells, 'reference on student', 'reference on student-2'])}: "
        "no true positive rate at 1 % false positive rate: needs 299 non-members",
        "reference on teacher: no reference model was given",
    ]


def test_the_strongest_of_several_attacks_is_a_line_per_model() -> None:
    several = Strongest("loss", 0.8125, 0.79, 0.834, 0.95, 2.2, ("loss", "zlib"))
    one = Strongest("loss", 0.8125, 0.7994, 0.8261, 0.95, 1.96, ("loss",))
    assert list(strongest_notes(replace(AUDIT, strongest={"teacher": one, "student": several}))) == [
        "The strongest of 2 attacks on student: loss, AUC 0.812 [0.790, 0.834], a simultaneous 95 % interval over all "
        "of them"
    ]
    assert list(strongest_notes(AUDIT)) == []


def test_gates_that_a_failed_check_leaves_open_point_to_the_verdict_which_has_the_reason(leaky: Report) -> None:
    result = leaky.runs[0].result
    validity = replace(result.validity, status="failed", reasons=("a long reason with figures",))
    verdict = judge(result.attacks, validity, [parse_gate(gate) for gate in GATES])
    table = tables.gates(replace(result, validity=validity, verdict=verdict), {})
    assert {row[6] for row in table.rows} == {"the sets differ: see the verdict"}
    assert "a long reason with figures" in verdict.sentence
