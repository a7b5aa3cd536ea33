"""Runs read back and judged again."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from kdaudit.config import ReportConfig
from kdaudit.errors import ConfigError
from kdaudit.report.reading import Declaration, Report, read_report


def read(*runs: Path, **options: Any) -> Report:
    return read_report(ReportConfig(runs=runs, **options))


def copied(finished: Path, to: Path, **changes: Any) -> Path:
    """A run folder with keys of its results changed."""
    shutil.copytree(finished, to, ignore=shutil.ignore_patterns("signals"))
    content = json.loads((to / "results.json").read_text(encoding="utf-8"))
    (to / "results.json").write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return to


def test_a_folder_and_its_results_file_are_the_same_run(finished: Path) -> None:
    assert read(finished) == read(finished / "results.json")
    (run,) = read(finished).runs
    assert (run.name, run.path) == (finished.name, finished / "results.json")


def test_new_gates_replace_those_of_the_run(finished: Path) -> None:
    (run,) = read(finished, gates=("teacher.auc[loss] <= 1",)).runs
    assert [gate.gate for gate in run.result.verdict.gates] == ["teacher.auc[loss]<=1"]
    assert run.result.attacks == read(finished).runs[0].result.attacks


def test_without_gates_a_run_is_judged_by_its_own_from_its_figures(finished: Path, tmp_path: Path) -> None:
    gates = [{"gate": "student.auc<=1", "status": "pass", "reason": "", "subject": "", "metric": "", "limit": 1.0}]
    run = copied(finished, tmp_path / "run", verdict={"status": "pass", "gates": gates})
    report = read(run)
    assert report.status == "inconclusive", "24 records are too few, whatever the file says"
    assert [gate.gate for gate in report.runs[0].result.verdict.gates] == ["student.auc<=1"]


def test_the_command_and_the_versions_come_from_the_manifest_of_that_very_run(finished: Path, tmp_path: Path) -> None:
    (run,) = read(finished).runs
    assert run.command.split()[0] == "kdaudit"
    assert {"python", "torch"} <= set(run.versions)
    data = {**asdict(run.result.data), "sha256": "of other records"}
    (other,) = read(copied(finished, tmp_path / "run", data=data)).runs
    assert (other.command, other.versions) == ("", {})
    (tmp_path / "run" / "manifest.json").unlink()
    (none,) = read(tmp_path / "run").runs
    assert (none.command, none.versions) == ("", {})


@pytest.mark.parametrize("content", ["{", "[]", '{"command": 1}', "null", "\xff"])
def test_a_broken_manifest_is_named(content: str, finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    (run / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"manifest\.json: not the manifest of a run"):
        read(run)


def test_runs_of_one_name_are_told_apart_by_their_path(finished: Path, tmp_path: Path) -> None:
    first, second = (copied(finished, tmp_path / name / "run") for name in ("a", "b"))
    assert [run.name for run in read(first, second).runs] == [str(first / "results.json"), str(second / "results.json")]
    assert len({run.name for run in read(first, finished).runs}) == 2
    other = shutil.copy(finished / "results.json", tmp_path / "june.json")
    assert [run.name for run in read(first, Path(other)).runs] == ["run", "june"]


def test_a_run_given_twice_is_refused(finished: Path) -> None:
    with pytest.raises(ConfigError, match="is given twice"):
        read(finished, finished / "results.json")


def test_an_unfinished_run_is_no_broken_file(finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    (run / "results.json").unlink()
    with pytest.raises(ConfigError, match="the run is not finished"):
        read(run)


def test_a_gate_that_a_run_cannot_be_judged_by_names_that_run(finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"results\.json: gate 'student-2.auc<=0.5': the run has no student-2"):
        read(finished, gates=("student-2.auc <= 0.5",))


@pytest.mark.parametrize(
    ("key", "changes", "words"),
    [
        ("models", {"teacher": {"n_parameters": "many"}}, "models.teacher.name is missing"),
        ("data", {"members": 1}, "data.nonmembers is missing"),
        ("power", {}, "power.smallest_detectable_auc is missing"),
        ("mixed_supervision", {"student": {"gain_over": "start"}}, "mixed_supervision.student.gain_note is missing"),
    ],
)
def test_a_loose_part_that_is_broken_is_named(
    key: str, changes: object, words: str, finished: Path, tmp_path: Path
) -> None:
    content = json.loads((finished / "results.json").read_text(encoding="utf-8"))[key]
    run = copied(finished, tmp_path / "run", **{key: {**content, **changes} if key == "models" else changes})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=words):
        read(run)


def test_every_gate_of_a_file_is_found_at_its_line(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "kdaudit.toml"
    file.write_text('seed = 1\n# student.auc <= 0.6\ngates = [\n  "teacher.auc <= 0.7",\n  "student.auc <= 0.6",\n]\n')
    report = read(finished, gates=("student.auc <= 0.6", "teacher.auc <= 0.7"), gates_file=file)
    assert report.declared == {"student.auc<=0.6": Declaration(file, 5), "teacher.auc<=0.7": Declaration(file, 4)}
    assert read(finished, gates=("student.auc <= 0.6",)).declared == {}


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [
        (("pass", "fail", "inconclusive"), "fail"),
        (("pass", "inconclusive", "not_gated"), "inconclusive"),
        (("not_gated", "pass"), "pass"),
        (("not_gated",), "not_gated"),
    ],
)
def test_the_worst_run_is_the_reports_status(statuses: tuple[Any, ...], worst: str, finished: Path) -> None:
    (run,) = read(finished).runs
    runs = [
        replace(run, result=replace(run.result, verdict=replace(run.result.verdict, status=status)))
        for status in statuses
    ]
    assert Report(tuple(runs)).status == worst


def test_an_unfinished_comparison_names_the_command_that_continues_it(tmp_path: Path) -> None:
    (tmp_path / "plain" / "seed-0").mkdir(parents=True)
    with pytest.raises(ConfigError, match="the comparison is not finished") as error:
        read(tmp_path)
    assert error.value.hint == "its `kdaudit mitigate` command continues it"
