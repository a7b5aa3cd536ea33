"""JUnit: read back by another tool, and never greener or redder than the verdict."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from kdaudit.metrics.estimate import Estimate
from kdaudit.report.ci.junit import render_junit
from kdaudit.report.reading import Report
from kdaudit.results import AuditResult
from tests.conftest import Golden
from tests.report.gated import GATES, HOSTILE, NOT_GATED, audit, every_way, leaky, report
from tests.verdict.audits import CONSTANT, INVALID, NO_REFERENCE, VALID, attack, cell, shares

FAILED = "student.auc<=0.6"


def suites(shown: Report) -> dict[str, list[TestCase]]:
    return {suite.name.removeprefix("run: "): list(suite) for suite in read(shown)}


def read(shown: Report) -> JUnitXml:
    return JUnitXml.fromstring(render_junit(shown).encode())


def outcomes(shown: Report) -> dict[tuple[str, str], tuple[Any, ...]]:
    """By suite and case: the kind and the type of its outcome; empty for a pass."""
    return {
        (suite, case.name): tuple((type(result), result.type) for result in case.result)
        for suite, cases in suites(shown).items()
        for case in cases
    }


def test_gates_that_came_out_in_every_way_read_as_agreed(golden: Golden) -> None:
    golden.check("gated.xml", render_junit(every_way()))


def test_a_suite_is_an_attack_and_a_case_a_gate() -> None:
    found = suites(report(audit(GATES)))
    assert list(found) == ["loss", "zlib", "reference"]
    normal = [gate.replace(" ", "") for gate in GATES]
    assert all([case.name for case in cases] == normal for cases in found.values())


def test_failure_error_and_skipped_are_kept_apart() -> None:
    found = outcomes(every_way())
    assert found["loss", "student.auc<=0.6"] == ((Failure, "limit_exceeded"),)
    assert found["zlib", "student.auc<=0.6"] == ()
    assert found["reference", "student.auc<=0.6"] == ((Skipped, "not_applicable"),)
    assert found["loss", "difference.auc<=0.02"] == ((Skipped, "waived"),)
    assert found["loss", "student.tpr@0.01<=0.05"] == ((Error, "inconclusive"),)
    assert found["loss", "student.auc-baseline<=0.02"] == ((Failure, "limit_exceeded"),)


def messages(shown: Report) -> dict[str, tuple[str, str]]:
    """By suite, of a report of one gate: the type of the outcome and its message."""
    return {
        suite: (result.type, result.message)
        for suite, cases in suites(shown).items()
        for case in cases
        for result in case.result
    }


def open_beside_a_failure() -> AuditResult:
    """Loss and zlib fail, min-k has too few records, recall lies on both sides, ez has no value."""
    aucs = {"loss": shares(0.7), "zlib": shares(0.65), "min-k": shares(0.7, n=150), "recall": shares(0.6)}
    attacks = {name: attack(cell(auc)) for name, auc in aucs.items()} | {"ez": attack(cell(CONSTANT))}
    return audit(["student.auc <= 0.6"], attacks=attacks)


def test_every_case_has_its_own_figures_reason_and_next_step() -> None:
    found = messages(report(open_beside_a_failure()))
    assert {name: kind for name, (kind, _) in found.items()} == {
        "loss": "limit_exceeded", "zlib": "limit_exceeded", "min-k": "inconclusive", "recall": "inconclusive",
        "ez": "inconclusive",
    }  # fmt: skip
    assert "student.auc is 0.650 under zlib, at least" in found["zlib"][1]
    assert "above the limit 0.6. Distill again" in found["zlib"][1]
    few = found["min-k"][1]
    assert few.startswith("student.auc is 0.700 under min-k, the limit is 0.6: 150 members and ")
    assert "Audit with more records" in few
    assert "Distill again" not in few
    assert found["recall"][1].startswith("student.auc is 0.600 under recall, at most 0.")
    assert "more than 100 times as many records" in found["recall"][1], "its figure lies on the limit"
    assert found["ez"][1].startswith("student.auc has no value under ez, the limit is 0.6: ")


def test_every_case_carries_its_value_bound_level_and_limit() -> None:
    for suite in ElementTree.fromstring(render_junit(every_way())):
        for case in suite:
            facts = {one.get("name"): one.get("value") for one in case.iter("property")}
            if case.find("skipped[@type='not_applicable']") is None:
                assert facts["limit"], case.attrib
            if case.find("failure") is not None or (len(case) == 2 and case.find("system-out") is not None):
                assert {"value", "bound", "bound side", "level", "limit"} <= {*facts}, case.attrib
    passed = suites(every_way())["zlib"][0]
    assert passed.system_out is not None
    assert passed.system_out.startswith("student.auc is 0.550 under zlib, at most 0.")
    assert passed.system_out.endswith("within the limit 0.6.")


def test_the_text_of_an_outcome_says_what_its_message_says() -> None:
    (failure,) = (result for case in suites(every_way())["loss"] for result in case.result if case.name == FAILED)
    assert failure.text.splitlines()[0] == "value: 0.7"
    assert "reason: the lower bound of loss lies above the limit 0.6" in failure.text
    assert "next step: Distill again" in failure.text


def test_an_open_cell_without_advice_takes_none_of_a_failure() -> None:
    judged = audit(["student.auc <= 0.6"], attacks={"loss": leaky()["loss"], "min-k": attack(cell(shares(0.7, n=150)))})
    (gate,) = judged.verdict.gates
    silent = replace(gate, cells=tuple(replace(one, next_step="") for one in gate.cells))  # as in earlier versions
    found = messages(report(replace(judged, verdict=replace(judged.verdict, gates=(silent,)))))
    assert "Distill again" in found["loss"][1]
    assert "Distill again" not in found["min-k"][1]


def test_a_waiver_of_a_failure_hides_no_open_cell() -> None:
    found = messages(report(open_beside_a_failure(), waived="student.auc<=0.6"))
    assert found["loss"][0] == found["zlib"][0] == "waived"
    assert found["zlib"][1].startswith("student.auc is 0.650 under zlib, at least")
    assert found["zlib"][1].endswith("Waived until 2030-01-31: accepted by the board")
    assert found["min-k"][0] == "inconclusive"
    assert "150 members" in found["min-k"][1]
    kinds = {kind for outcome in outcomes(report(open_beside_a_failure(), waived="student.auc<=0.6")).values()
             for kind, _ in outcome}  # fmt: skip
    assert kinds == {Skipped}, "a waived failure leaves the run green"


def test_the_counts_are_those_of_the_cases() -> None:
    read = JUnitXml.fromstring(render_junit(every_way()).encode())
    for suite in read:
        assert isinstance(suite, TestSuite)
        kinds = [type(result) for case in suite for result in case.result]
        counted = (suite.tests, suite.failures, suite.errors, suite.skipped)
        assert counted == (len(list(suite)), *map(kinds.count, (Failure, Error, Skipped)))
    assert read.tests == sum(suite.tests for suite in read)
    assert (read.failures, read.errors, read.skipped) == (2, 2, 6)


def test_several_runs_have_suites_of_their_own() -> None:
    failed = audit(["student.auc[loss] <= 0.6"])
    assert [suite.name for suite in read(report(failed, failed))] == ["run: loss", "run-2: loss"]


@pytest.mark.parametrize("name", ["run", "x" * 300])
def test_no_two_cases_have_the_same_name_and_runs_show_in_it(name: str) -> None:
    def cases(shown: Report) -> set[tuple[str, str]]:
        found = [(case.classname, case.name) for suite in read(shown) for case in suite]
        assert len({*found}) == len(found)
        assert len({suite.name for suite in read(shown)}) == len(list(read(shown)))
        return {*found}

    failed = audit(GATES)
    cases(report(failed, failed, failed, name=name))
    assert not cases(report(failed, name="june")) & cases(report(failed, name="july"))


def test_a_run_without_gates_is_one_skipped_case() -> None:
    assert outcomes(report(replace(audit([]), verdict=NOT_GATED))) == {("verdict", "gates"): ((Skipped, "not_gated"),)}


figures = st.one_of(
    st.none(),
    st.builds(
        lambda value, n, is_constant: CONSTANT if is_constant else shares(value, n=n),
        st.floats(0.5, 0.7),
        st.sampled_from([150, 2000]),
        st.booleans(),
    ),
)


@given(st.lists(figures, min_size=1, max_size=4), st.booleans(), st.booleans(), st.sampled_from(["", "[loss]"]))
def test_the_view_of_ci_is_the_verdict(
    aucs: list[Estimate | None], is_valid: bool, is_waived: bool, named: str
) -> None:
    cells = [NO_REFERENCE if auc is None else cell(auc) for auc in aucs]
    attacks = dict(zip(("loss", "zlib", "min-k", "recall"), map(attack, cells), strict=False))
    result = audit([f"student.auc{named} <= 0.6"], attacks=attacks, validity=VALID if is_valid else INVALID)
    shown = report(result, waived=f"student.auc{named}<=0.6" if is_waived else "")
    kinds = {kind for found in outcomes(shown).values() for kind, _ in found}
    assert (Failure in kinds) == (shown.status == "fail")
    if shown.status == "inconclusive":
        assert Error in kinds
    if shown.status == "pass":
        assert Error not in kinds


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_reasons_stay_text(text: str) -> None:
    failed = audit(["student.auc <= 0.6", "student.auc[loss] <= 0.6"])
    shown = report(failed, failed, waived="student.auc<=0.6", reason=text, name=text)
    plain = report(failed, failed, waived="student.auc<=0.6")
    written = render_junit(shown)
    sizes = [[suite.tests for suite in JUnitXml.fromstring(text.encode())] for text in (written, render_junit(plain))]
    assert sizes[0] == sizes[1]
    assert "<script" not in written
    assert "]]>" not in written
    assert not {"\x1b", "\x00", "\u202e", "\r"} & set(written)
    assert max(map(len, written.splitlines())) < 5000


@given(st.text(min_size=1))
def test_any_reason_gives_a_file_that_reads_back(reason: str) -> None:
    shown = report(audit(["student.auc <= 0.6"]), waived="student.auc<=0.6", reason=reason)
    assert outcomes(shown)["loss", "student.auc<=0.6"] == ((Skipped, "waived"),)
