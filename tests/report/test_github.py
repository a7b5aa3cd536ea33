"""What GitHub Actions is told: few annotations, each one command, and a summary that fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.report.ci.notices import MAX_ANNOTATIONS, MAX_SUMMARY, annotate, step_summary
from tests.report.gated import HOSTILE, audit, every_way, report


def test_a_finding_is_a_command_with_its_place() -> None:
    (line,) = annotate(report(audit(["student.auc <= 0.6"])))
    assert line == (
        "::error file=audit/kdaudit.toml,line=3,title=kdaudit%3A student.auc<=0.6 fail::Fail: student.auc is 0.700 "
        "under loss, at least 0.680 (97.5 %25 bound), above the limit 0.6. Distill again with fewer epochs or a lower "
        "weight on the hard label, then audit on the same records."
    )


def test_the_weightiest_findings_come_first_and_no_more_than_three() -> None:
    lines = annotate(every_way())
    assert len(lines) == MAX_ANNOTATIONS == 3
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning"]
    waived = annotate(report(audit(["student.auc <= 0.6"]), waived="student.auc<=0.6"))
    assert [line.split(" ")[0] for line in waived] == ["::notice"]
    assert annotate(report(audit(["teacher.auc <= 0.6"]))) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_reasons_forge_no_command(text: str) -> None:
    failed = audit(["student.auc <= 0.6", "student.auc[loss] <= 0.6"])
    for line in annotate(report(failed, failed, waived="student.auc<=0.6", reason=text, name=text)):
        assert len(line.splitlines()) == 1
        assert "%0A" not in line.replace("%250A", "")
        assert not {"\x1b", "\x00", "\u202e"} & set(line)
        command, _, properties = line.split("::")[1].partition(" ")
        assert command in {"error", "notice"}
        assert [found.partition("=")[0] for found in properties.split(",")] == ["file", "line", "title"]


@given(st.text(min_size=1))
def test_a_percent_sign_of_a_reason_reads_back(reason: str) -> None:
    (line,) = annotate(report(audit(["student.auc <= 0.6"]), waived="student.auc<=0.6", reason=reason))
    assert "%" not in line.replace("%25", "").replace("%3A", "").replace("%2C", "")


def test_a_summary_that_does_not_fit_is_one_line_or_nothing() -> None:
    text = "é" * 1000
    assert step_summary(text, MAX_SUMMARY - 2000) == text
    short = step_summary(text, MAX_SUMMARY - 1999)
    assert "does not fit" in short
    assert step_summary(text, MAX_SUMMARY - len(short.encode()) + 1) == ""
