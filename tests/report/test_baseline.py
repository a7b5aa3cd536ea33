"""An earlier run beside a report: which files count, and what is refused."""

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from kdaudit.config import ReportConfig
from kdaudit.errors import ConfigError
from kdaudit.report.reading import Report, read_baseline, read_report, rises_above
from kdaudit.results import load
from kdaudit.waivers import Waiver

RISES = ["teacher.auc-baseline<=0.02", "student.auc-baseline<=0.02"]


def read(*runs: Path, **options: Any) -> Report:
    return read_report(ReportConfig(runs=runs, **options))


@pytest.fixture
def earlier(finished: Path, tmp_path: Path) -> Path:
    """The finished run once more, as an earlier one."""
    to = tmp_path / "earlier"
    shutil.copytree(finished, to, ignore=shutil.ignore_patterns("signals"))
    return to


@pytest.mark.parametrize("without", [[], ["earlier"], ["run"]])
def test_scores_beside_both_results_are_paired(
    without: list[str], finished: Path, earlier: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("signals"))
    for name in without:
        (tmp_path / name / "scores.parquet").unlink()
    now = run / "results.json"
    found = rises_above(read_baseline(earlier / "results.json", None), load(now), now)
    methods = {cell.figure.method for _, cells in found for cell in cells if cell.figure}
    assert methods == ({"same weights"} if without else {"equal rankings"})


def test_every_model_is_gated_on_its_rise_and_by_its_own_gates(finished: Path, earlier: Path) -> None:
    report = read(finished, baseline=earlier, gates=("student.auc <= 1",))
    (run,) = report.runs
    assert [gate.gate for gate in run.result.verdict.gates] == ["student.auc<=1", *RISES]
    assert report.status == "inconclusive", "24 records are too few, even where nothing rose"
    assert report.baseline == str(earlier)


def test_the_tolerance_is_the_limit(finished: Path, earlier: Path) -> None:
    (run,) = read(finished, baseline=earlier, tolerance=0.0).runs
    assert {gate.limit for gate in run.result.verdict.gates} == {0.0}


def test_a_run_is_not_its_own_baseline_but_may_stand_beside_it(finished: Path, earlier: Path) -> None:
    with pytest.raises(ConfigError, match=r"--baseline: .* is the run itself"):
        read(finished, baseline=finished / "results.json")
    then, now = read(earlier, finished, baseline=earlier).runs
    assert then.result.verdict.status == "not_gated"
    assert [gate.gate for gate in now.result.verdict.gates] == RISES


def test_scores_of_another_run_beside_the_baseline_are_refused(finished: Path, earlier: Path) -> None:
    (earlier / "scores.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ConfigError, match=r"scores\.parquet: not a scores file"):
        read(finished, baseline=earlier)


def waiver(gate: str) -> Waiver:
    return Waiver(gate, "accepted", date(2030, 1, 31), Path("kdaudit.toml"), 3)


def test_a_waiver_names_a_gate_of_the_report_or_of_its_own_file(finished: Path) -> None:
    gates = ("student.auc <= 0.6",)
    report = read(finished, gates=gates, waivers=(waiver("student.auc <= 0.60"),))
    assert list(report.waivers) == ["student.auc<=0.6"]
    replaced = ReportConfig(runs=(finished,), gates=("teacher.auc <= 1",), file_gates=gates, waivers=(waiver(*gates),))
    assert read_report(replaced).status == "inconclusive"
    with pytest.raises(ConfigError, match="no such gate is judged"):
        read(finished, gates=gates, waivers=(waiver("teacher.auc <= 0.6"),))


def test_an_expired_waiver_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="line 3: the waiver of 'g' expired on 2030-01-31"):
        ReportConfig(runs=(Path("none"),), waivers=(waiver("g"),), today=date(2030, 2, 1))


def test_a_tolerance_needs_a_baseline_and_lies_between_0_and_1() -> None:
    with pytest.raises(ConfigError, match="--tolerance is given but --baseline is not"):
        ReportConfig(runs=(Path("run"),), tolerance=0.1)
    with pytest.raises(ConfigError, match=r"--tolerance: 1\.5 lies outside"):
        ReportConfig(runs=(Path("run"),), baseline=Path("base"), tolerance=1.5)
