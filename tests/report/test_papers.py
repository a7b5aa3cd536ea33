"""Tables for papers: CSV and LaTeX, read again as their readers would."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from kdaudit.report.cells import COLUMNS, render_csv
from kdaudit.report.latex import escaped, render_latex
from kdaudit.report.page import report_page
from kdaudit.report.render import render_markdown
from kdaudit.results import AuditResult, Verdict
from kdaudit.results.mitigation import Mitigation
from tests.report.gated import HOSTILE
from tests.report.reports import LEAKY, hostile, read, write_run
from tests.report.tables import TABLE


def rows_of(text: str) -> list[dict[str, str]]:
    found = [*csv.DictReader(io.StringIO(text), strict=True)]
    assert all({*row} == {*COLUMNS} and None not in row.values() for row in found)
    return found


def csv_of(folder: Path, result: AuditResult) -> list[dict[str, str]]:
    return rows_of(render_csv(read(write_run(folder, result))))


def test_every_figure_of_every_cell_is_a_row_with_all_its_digits(tmp_path: Path) -> None:
    rows = csv_of(tmp_path / "run", LEAKY)
    by_place = {(row["part"], row["attack"], row["model"], row["metric"]): row for row in rows}
    n_figures = 0
    for name, attack in LEAKY.attacks.items():
        parts = (("level", attack.cells), ("difference", attack.comparison))
        for part, model, metric, figure in (
            (part, model, metric, figure)
            for part, found in parts
            for model, one in found.items()
            for metric, figure in one.figures.items()
        ):
            row, n_figures = by_place[part, name, model, metric], n_figures + 1
            for column in ("value", "low", "high", "level"):
                expected = getattr(figure, column)
                assert row[column] == ("" if expected is None else repr(expected))
            assert (row["n"], row["m"]) == (str(figure.n), str(figure.m))
            assert row["run"] == "run"
    assert n_figures > 10
    assert by_place["reference alone", "loss", "student", "auc"]["value"] == "0.503"
    assert by_place["validity", "", "", "blind_auc"]["value"] == repr(LEAKY.validity.blind_auc.value)
    assert any(row["part"] == "gate" and row["status"] for row in rows)


def test_a_cell_that_could_not_run_is_a_row_with_its_reason(tmp_path: Path) -> None:
    rows = csv_of(tmp_path / "run", hostile("no reference"))
    assert ("level", "ez", "not_applicable", "no reference") in [
        (row["part"], row["attack"], row["status"], row["reason"]) for row in rows
    ]


@pytest.mark.parametrize("text", [*HOSTILE, "=1+1", "@SUM(A1)", "+cmd|'/C calc'!A0"])
def test_no_text_of_a_user_breaks_a_row_or_is_a_formula(tmp_path: Path, text: str) -> None:
    written = render_csv(
        read(write_run(tmp_path / "run", replace(hostile(text), verdict=Verdict("not_gated"))), gates=())
    )
    rows = rows_of(written)
    assert written.count("\n") == len(rows) + 1
    numbers = {"value", "low", "high", "level", "n", "m", "p_value", "p_value_holm"}
    for row in rows:
        assert not any(value.startswith(("=", "+", "-", "@")) for name, value in row.items() if name not in numbers)
        assert all(value == "" or float(value) is not None for name, value in row.items() if name in numbers)


def check_latex(text: str) -> list[list[list[str]]]:
    """The cells of every table; an assertion fails where LaTeX would stop."""
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0
    assert re.sub(r"\\[a-zA-Z]+|\\[&%$#_{}]", "", text).count("{") == re.sub(
        r"\\[a-zA-Z]+|\\[&%$#_{}]", "", text
    ).count("}")
    bare = re.sub(r"\\[&%$#_{}]", "", "\n".join(text.splitlines()[1:]))
    assert "%" not in bare
    assert "#" not in bare
    assert "_" not in bare
    assert "^" not in bare
    assert bare.count("$") % 2 == 0
    assert all(ord(char) < 0x180 for char in text)
    assert len(re.findall(r"\\toprule", text)) == len(re.findall(r"\\bottomrule", text))
    tables = []
    for columns, body in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line != r"\midrule"]
        assert all(line.endswith(r" \\") for line in lines)
        cells = [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in lines]
        assert {len(row) for row in cells} == {len(re.sub(r"p\{.*?\}", "p", columns))}
        assert not any(row[0].startswith(("[", "*")) for row in cells)
        tables.append(cells)
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(labels) == len({*labels}) == len(tables)
    return tables


def test_latex_has_every_table_with_numbers_that_markdown_has(tmp_path: Path) -> None:
    report = read(write_run(tmp_path / "run", LEAKY))
    text, markdown = render_latex(report), render_markdown(report)
    check_latex(text)
    found = re.findall(r"^#+ (.*)\n\n\|.*\n\|.*\n((?:\|.*\n)+)", markdown, re.MULTILINE)
    titles = [re.sub(r"\\(.)", r"\1", title) for title, body in found if re.search(r"\d", body)]
    assert len(titles) > 5
    shown = re.findall(r"\\caption\{(.*)\}", text)
    assert [title for title in titles if not any(caption.startswith(escaped(title)) for caption in shown)] == []
    first = next(iter(report_page(report, with_pictures=False).runs[0].figures))
    assert all(escaped(cell) in text for row in first.rows for cell in row)


def test_names_mean_nothing_to_latex(tmp_path: Path) -> None:
    assert escaped(r"50 % of a_b & c#1 {x} ~ ^ $y \input") == (
        r"50 \% of a\_b \& c\#1 \{x\} \textasciitilde{} \textasciicircum{} \$y \textbackslash{}input"
    )
    assert escaped("-0.012 − 中 é min-k") == r"$-$0.012 $-$ $\langle$U+4E2D$\rangle$ é min-k"
    for text in (*HOSTILE, "[0.1] & \\\\ \\input{x} %", "*", "中文"):
        check_latex(render_latex(read(write_run(tmp_path / "run", hostile(text)), gates=())))


def test_runs_side_by_side_and_mitigations_have_tables_too(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, LEAKY) for name in ("june", "july")]
    text = render_latex(read(*runs))
    check_latex(text)
    assert r"\caption{june: " in text
    assert r"\caption{july: " in text
    assert {row["run"] for row in rows_of(render_csv(read(*runs)))} == {"june", "july"}
    table: Mitigation = TABLE
    assert check_latex(render_latex(table))
    rows = rows_of(render_csv(table))
    assert any(row["part"] == "arms" and row["value"] for row in rows)
