"""The tables: what stands in them, and that no cell is missing."""

from dataclasses import replace
from pathlib import Path

from kdaudit.report import provenance, tables
from kdaudit.report.content import Declaration, Report
from kdaudit.report.tables import Table
from kdaudit.results import Power
from tests.report.reports import GATES, LEAKY, TOO_FEW, read, write_run


def all_tables(report: Report) -> list[Table]:
    (run, *_) = report.runs
    return [
        tables.comparison(report),
        tables.gates(run.result, report.declared),
        *tables.figures(run.result),
        *tables.detections(run.result),
        *tables.supervision(run.result),
        tables.validity(run),
        *tables.utility(run),
        provenance.models(run),
        provenance.data(run),
        provenance.versions(run),
    ]


def test_every_row_has_a_cell_under_every_heading(leaky: Report, two_runs: Report) -> None:
    for report in (leaky, two_runs):
        for table in all_tables(report):
            assert table.rows, table.title
            assert {len(row) for row in table.rows} == {len(table.head)}, table.title


def test_a_rate_stands_beside_the_false_positive_rate_that_its_threshold_had(leaky: Report) -> None:
    table = next(found for found in tables.figures(leaky.runs[0].result) if "1 %" in found.title)
    assert table.title == "True positive rate at 1 % false positive rate", "0.1 % was not measured"
    compared = ["student − teacher", "p (Holm)"]
    assert table.head == ["attack", "teacher", "realised FPR", "student", "realised FPR", *compared]
    loss, _, ez = table.rows
    assert loss[:3] == ["loss", "0.188 [0.168, 0.207]", "0.0080 [0.0040, 0.0160]"]
    assert ez == ["ez", "not applicable", "–", "not applicable", "–", "–", "–"]


def test_member_and_non_member_success_stand_together(leaky: Report) -> None:
    *_, table = tables.figures(leaky.runs[0].result)
    assert table.rows[0][1] == "0.700 [0.680, 0.720] / 0.600 [0.580, 0.620]"


def test_a_gate_shows_its_bound_its_level_and_where_it_was_declared(leaky: Report, tmp_path: Path) -> None:
    result = leaky.runs[0].result
    table = tables.gates(result, {"student.auc<=0.6": Declaration(Path("kdaudit.toml"), 3)})
    first = dict(zip(table.head, table.rows[0], strict=True))
    assert first["status"] == "fail"
    assert first["decided by"] == "reference"
    level = 100 * (1 - 0.05 / result.verdict.n_cells)
    assert first["bound"].endswith(f"({level:.4g} %)")
    assert first["bound"].startswith("lower 0.91")
    assert first["declared in"] == "kdaudit.toml:3"
    assert table.rows[1][-1] == "–", "given on the command line"
    assert tables.gates(result, {}).head[-1] == "reason"


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


def test_a_run_that_is_too_small_for_power_says_no_number(leaky: Report) -> None:
    run = leaky.runs[0]
    small = replace(run, result=replace(run.result, power=Power(None)))
    assert tables.validity(small).rows[-1][1] == "–"
    assert tables.validity(run).rows[-1][1] == "0.523"


def test_utility_stands_where_the_students_folder_told_it_and_nowhere_else(leaky: Report) -> None:
    (table,) = tables.utility(leaky.runs[0])
    assert table.head == ("figure", "teacher", "start", "student")
    assert table.rows[1] == ("bits per byte", "1.100 [1.050, 1.150]", "1.400 [1.350, 1.450]", "1.200 [1.150, 1.250]")
    assert "0.610 [0.560, 0.660]" in table.note
    models = {"teacher": LEAKY.models["teacher"], "student": replace(LEAKY.models["student"], distillation=None)}
    plain = read(write_run(Path("plain"), replace(LEAKY, models=models)))
    assert list(tables.utility(plain.runs[0])) == []


def test_every_checkpoint_is_listed_with_its_hash(leaky: Report) -> None:
    rows = provenance.models(leaky.runs[0]).rows
    assert [row[0] for row in rows] == ["teacher", "teacher: reference", "student", "student: reference"]
    assert rows[0][1] == "owner/teacher @ 0123456789ab"
    assert rows[2][4] == "4bit float32 on cpu"
    assert {row[6] for row in rows} == {"0a" * 32}


def test_gates_that_nothing_could_settle_show_the_reason(leaky: Report) -> None:
    row = tables.gates(leaky.runs[0].result, {}).rows[GATES.index("student.tpr@0.001 <= 0.05")]
    assert (row[1], *row[3:5]) == ("inconclusive", "–", "–")
    assert TOO_FEW.reason in row[5]
