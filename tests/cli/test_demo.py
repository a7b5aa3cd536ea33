"""`kdaudit demo` around its audits; the demo itself takes minutes and is run by `make demo`."""

import shutil
from pathlib import Path

import pytest

from kdaudit.demo.run import Controls
from kdaudit.errors import ControlError, ExitCode
from kdaudit.results import AuditResult, load
from tests.commands import check_refused, kdaudit


@pytest.fixture
def controls(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controls:
    """Two finished audits in place of those that the demo would run, without their summaries."""
    folders = [shutil.copytree(finished, tmp_path / name) for name in ("run", "control")]
    for folder in folders:
        (folder / "summary.md").unlink()
    result: AuditResult = load(finished / "results.json")
    made = Controls(result, result, folders[0], folders[1])
    monkeypatch.setattr("kdaudit.demo.run.run_demo", lambda out, **options: made)
    return made


def test_the_demo_shows_both_controls_and_writes_what_it_names(
    controls: Controls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdaudit.demo.run.check_controls", lambda controls: None)
    done = kdaudit("demo", "--out", tmp_path)
    assert done.code == ExitCode.PASSED, done.err
    order = ["Positive control", "Negative control", "Both controls came out as they must"]
    assert [done.out.count(words) for words in order] == [1, 1, 1]
    assert sorted(order, key=done.out.index) == order
    named = [Path(name) for line in done.err.splitlines() for name in line.removeprefix("written: ").split(", ")]
    assert len(named) == 10
    assert [path for path in named if not path.is_file()] == []


def test_a_control_that_fails_ends_the_demo_with_4(
    controls: Controls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(controls: Controls) -> None:
        raise ControlError("positive control: not detected")

    monkeypatch.setattr("kdaudit.demo.run.check_controls", fail)
    done = kdaudit("demo", "--out", tmp_path, "--quiet")
    assert done.code == ExitCode.FAILED
    assert done.err == "error: positive control: not detected\n"
    assert "Both controls" not in done.out


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    check_refused(kdaudit("demo", "--out", tmp_path), "holds no earlier demo")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
