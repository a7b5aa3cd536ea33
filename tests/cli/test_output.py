"""What a terminal shows of a page."""

from pathlib import Path

import pytest

from kdaudit.cli import output
from kdaudit.report.blocks import Detail, Notes, Paragraph, Section, Step, Table, Verbatim, VerdictCard
from kdaudit.report.reading import Report
from tests.report.conftest import leaky  # noqa: F401
from tests.report.tables import TABLE


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_every_block_is_printed_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("A table", ["name", "n"], [["a", "1"], ["b", "10"]], "How to read it.", right=[1])
    output.show(
        [
            Section("A section", "key", [Paragraph("[bold] is text"), table, Notes(["one", "two"], "Notes")]),
            Paragraph("hidden", detail=Detail.DOCUMENT),
            Verbatim(["  a", " b"]),
            VerdictCard(
                "fail", "Fail", "It fails.", "fail", ["By far."], ["Or nearly."], [Step("Mend it:", "mend it")]
            ),
        ]
    )
    assert lines(capsys) == [
        "", "A section", "[bold] is text", "", "A table", "name   n", "a      1", "b     10", "How to read it.", "",
        "Notes", "  one", "  two", "", "  a", " b", "", "It fails.", "By far.",
        "Or nearly.", "Mend it:", "  mend it",
    ]  # fmt: skip


def test_the_name_of_an_arm_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_mitigation(TABLE, [])
    assert any(line.startswith("non-vulnerable-control  moves the risk") for line in lines(capsys))


def test_a_log_shows_a_long_name_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    output.show([Table("", ["name", "figure"], [["x" * 40, "0.123"]])])
    shown = lines(capsys)
    assert "".join(shown).count("x") == 40
    assert "0.123" in "".join(shown)


def test_the_verdict_is_the_last_thing_said(leaky: Report, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    (run,) = leaky.runs
    output.print_result(run.result, Path("run"), is_quiet=True, gates_note="where the gates come from")
    *_, note, _, sentence, frequency, warning, next_step = lines(capsys)[:-2]
    assert note == "where the gates come from"
    assert sentence == run.result.verdict.sentence
    assert "93 times in 100" in frequency
    assert warning == "Do not publish the student as it is."
    assert next_step == run.result.verdict.next_step
