"""The summary in Markdown: whole, and safe against whatever a path or a file puts into a name."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markdown_it import MarkdownIt

from kdaudit.report import render
from kdaudit.report.reading import Report
from kdaudit.report.render import MAX_MARKDOWN, as_markdown, make_environment, render_markdown, render_summary
from kdaudit.report.text import plain
from kdaudit.results import AuditedModel, AuditResult, GateResult, Verdict, load
from tests.conftest import Golden
from tests.report.reports import SUPERVISION, hostile, read, write_run
from tests.report.small import AUDIT

MODEL = AuditedModel("student|v1", 1725696, revision="0123456789abcdef", load="4bit")
LEAKY = replace(
    AUDIT,
    models=dict.fromkeys(AUDIT.models, MODEL),
    mixed_supervision={"student": SUPERVISION},
    verdict=Verdict(
        "fail",
        (
            GateResult(
                "student.auc<=0.6", "fail", "far above", "student", "auc", 0.6, "loss", 0.812, 0.8, "lower", 0.99
            ),
        ),
        n_cells=2,
        sentence="Fail: student.auc is 0.812.",
        next_step="Train fewer epochs.",
    ),
)
ACTIVE = set("<>|`*_#~\\")
HOSTILE = (
    "a|b", "<script>alert(1)</script>", "`code`", "[click](https://example.org)", "![pixel](https://example.org/x.png)",
    "line one\n\n# heading", "*bold* _it_ ~~gone~~", "\\|", "a\r\n| forged | row |", "&lt;b&gt;", "<!-- hidden",
)  # fmt: skip


@pytest.fixture(scope="module")
def audit(finished: Path) -> AuditResult:
    return load(finished / "results.json")


def markdown_text(text: str) -> str:
    """A value as every template of ours shows it in Markdown."""
    return make_environment(as_markdown).from_string("{{ value }}").render(value=text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_is_shown_as_it_is_and_does_nothing(text: str) -> None:
    shown = markdown_text(text)
    assert "\n" not in shown
    assert "\r" not in shown
    assert "](" not in shown
    assert not ACTIVE & set(re.sub(r"&#\d+;", "", shown))
    assert html.unescape(shown) == " ".join(text.split()), "a reader sees the name itself"


def test_the_summary_of_a_leaky_student_reads_as_agreed(golden: Golden) -> None:
    golden.check("leaky_student.md", render_summary(LEAKY))


@given(st.text())
def test_any_text_becomes_one_line_that_reads_back(text: str) -> None:
    shown = markdown_text(text)
    assert len(shown.splitlines()) <= 1
    assert "](" not in shown
    assert not ACTIVE & set(re.sub(r"&#\d+;", "", shown))
    assert html.unescape(shown) == plain(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_breaks_no_table_of_the_summary(text: str, audit: AuditResult) -> None:
    models = {
        name: replace(model, name=text, reference=AuditedModel(text, 9)) if name == "student" else model
        for name, model in audit.models.items()
    }
    gate = GateResult("student.auc<=0.6", "inconclusive", text, "student", "auc", 0.6)
    changed = replace(
        audit,
        models=models,
        verdict=Verdict("inconclusive", (gate,), 1, f"Inconclusive: {text}", text),
        validity=replace(audit.validity, warnings=(text,)),
    )
    plain, hostile = render_summary(audit), render_summary(changed)

    def shape(summary: str) -> list[int]:
        return [line.count("|") for line in summary.splitlines() if line.startswith("|")]

    gates = shape(hostile)[: -len(shape(plain))]
    assert shape(hostile)[len(gates) :] == shape(plain)
    assert set(gates) == {7}
    headings = [line for line in hostile.splitlines() if line.startswith("#")]
    title, *others = re.findall(r"^#+ .*$", plain, re.MULTILINE)
    assert headings == [title, "## Limits", *others]
    assert "](" not in hostile
    assert "<" not in hostile


def test_the_summary_says_models_figures_validity_and_its_limits(audit: AuditResult) -> None:
    summary = render_summary(audit)
    assert summary.startswith("# Does the student give away its training data?\n")
    assert "\n**No verdict: no limit was set**\n" in summary
    for words in (
        "| teacher | ", "## AUC", "| loss | ", "## Can these figures be trusted?", "| blind baseline",
        "## Mixed supervision",
        "Intervals are 95 %", f"kdaudit {audit.kdaudit_version}", "seed 0", "not a proof",
    ):  # fmt: skip
        assert words in summary
    assert "## Limits" not in summary
    assert summary.endswith("\n")
    assert not re.search(r"\n\n\n", summary)


def test_every_table_has_as_many_cells_in_its_rows_as_in_its_head(audit: AuditResult) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", render_summary(audit), re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_same_result_gives_the_same_text(audit: AuditResult, finished: Path) -> None:
    assert render_summary(audit) == render_summary(audit) == (finished / "summary.md").read_text(encoding="utf-8")


def test_a_template_that_names_a_missing_field_fails() -> None:
    with pytest.raises(UndefinedError):
        render.make_environment(render.as_markdown).from_string("{{ audit.nothing }}").render(audit={})


def test_the_report_renders_as_tables_and_details_in_github_flavoured_markdown(leaky: Report) -> None:
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(render_markdown(leaky))
    text = re.sub(r"<[^>]+>", " ", rendered)
    assert "|" not in text, "a table that did not become one shows its bars"
    assert not re.search(r"(?m)^\s*#+ |\*\*|---", html.unescape(text))
    assert rendered.count("<table>") == 14
    assert rendered.count("<details>") == rendered.count("</details>") == 4
    assert "<strong>Fail: 1 of 3 limits broken</strong>" in rendered
    assert "Fail (1 of 3 gates): student.auc is 0.930 under reference" in rendered
    assert "'./my  student'" in html.unescape(rendered), "the command is the one that was run"


@pytest.mark.parametrize("text", [*HOSTILE, "\u202egnp.exe", "x" * 10_000, "]]>", "%0A::error::x", "@name"])
def test_a_hostile_name_breaks_no_table_of_the_report(text: str, tmp_path: Path) -> None:
    plain_text, harmed = (
        render_markdown(read(write_run(tmp_path / place / "run", hostile(words)), gates=()))
        for place, words in (("a", "harmless"), ("b", text))
    )

    def shape(report: str) -> list[object]:
        return [
            line.count("|") if line.startswith("|") else line[:3] in {"## ", "###", "# D"}
            for line in report.splitlines()
        ]

    assert shape(harmed) == shape(plain_text)
    own = {"<details>", "</details>", "</pre>", "<pre>", "<summary>", "</summary>"}
    assert set(re.findall(r"<[^>]*>", harmed)) <= own
    assert "](" not in harmed
    assert len(harmed.encode()) < 64_000


def test_a_comparison_that_is_too_long_is_cut_and_says_so(two_runs: Report) -> None:
    (run, _) = two_runs.runs
    many = Report(tuple(replace(run, name=f"run {number}") for number in range(40)))
    text = render_markdown(many)
    assert len(text.encode()) <= MAX_MARKDOWN
    left_out = int(re.findall(r"This text is cut to what a comment can hold: ([0-9]+) runs are left out", text)[0])
    assert text.count("\n## run ") == 40 - left_out
    assert len(re.findall(r"^\| run [0-9]+ \|", text, re.MULTILINE)) == 40, "the comparison still has a row for each"
    assert "<details>" not in text
    assert "is cut" not in render_markdown(two_runs)
    hundreds = Report(tuple(replace(run, name=f"run {number}") for number in range(500)))
    shortest = render_markdown(hundreds)
    assert len(shortest.encode()) <= MAX_MARKDOWN
    assert shortest.endswith("The HTML and JSON reports hold all of it.\n")
