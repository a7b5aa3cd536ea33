"""`kdaudit report` as a step of CI: options, the files that it touches, and what GitHub Actions is told."""

import shutil
from pathlib import Path

import pytest

from tests.commands import FINISHED, Given, check_refused, files_in, kdaudit
from tests.report.reports import LEAKY, write_run

WAIVERS = """
gates = ["student.auc <= 0.6"]
[[waivers]]
gate = "student.auc<=0.6"
reason = "accepted by the board"
expires = 2030-01-31
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(finished: Path, folder: Path, *options: object) -> list[object]:
    return ["report", finished, "--out", folder / "out", *options]


def test_a_waiver_of_the_file_counts_until_its_day(finished: Path, folder: Path) -> None:
    Path("kdaudit.toml").write_text(WAIVERS, encoding="utf-8")
    kept = kdaudit(*report(finished, folder, "--today", "2030-01-31"))
    assert kept.code == 3, kept.err  # 24 records are too few for a failure that could be waived
    over = kdaudit(*report(finished, folder, "--today", "2030-02-01"))
    check_refused(over, "kdaudit.toml, line 3: the waiver of 'student.auc<=0.6' expired on 2030-01-31")


def test_a_waiver_of_nothing_and_a_day_that_is_none_are_refused(finished: Path, folder: Path) -> None:
    Path("kdaudit.toml").write_text(WAIVERS.replace("auc<=0.6", "auc<=0.7"), encoding="utf-8")
    check_refused(kdaudit(*report(finished, folder)), "line 3", "no such gate is judged", "student.auc<=0.6")
    assert kdaudit(*report(finished, folder, "--today", "soon")).code == 2


def test_a_baseline_and_a_card_are_read_and_written(finished: Path, folder: Path) -> None:
    Path("README.md").write_text("# Student\n", encoding="utf-8")
    Path("earlier.json").write_bytes((finished / "results.json").read_bytes())
    done = kdaudit(
        *report(finished, folder, "--baseline", "earlier.json", "--model-card", "README.md", "--model-index")
    )
    assert done.code == 3, done.err
    assert "student.auc-baseline<=0.02" in done.out
    assert "README.md" in done.err
    card = Path("README.md").read_text(encoding="utf-8")
    assert "model-index:" in card
    assert "# Student\n\n<!-- kdaudit:begin -->\n" in card


def test_attack_takes_a_file_of_both_commands_and_says_that_it_waives_nothing(
    given: Given, finished: Path, folder: Path
) -> None:
    run = shutil.copytree(finished, folder / "run")
    content = f'baseline = "none"\nmodel-index = true\ntolerance = 0.01\n{WAIVERS}'
    Path("kdaudit.toml").write_text(content, encoding="utf-8")
    done = given.attack(run, *FINISHED, "--reference", given.start)
    assert done.code == 3, done.err
    assert "kdaudit.toml count in `kdaudit report`, not here" in done.err


def test_a_reason_that_holds_controls_does_nothing_to_the_terminal(folder: Path) -> None:
    Path("kdaudit.toml").write_text(
        WAIVERS.replace("board", r"board \u001b[31m \u202e \n::error::forged"), encoding="utf-8"
    )
    done = kdaudit(*report(write_run(folder / "run", LEAKY), folder, "--format", "md", "--today", "2030-01-31"))
    assert done.code == 0, done.err
    assert "accepted by the board" in " ".join(done.out.split())
    assert not {"\x1b", "\u202e"} & set(done.out)
    assert "waived" in done.out


def test_outside_actions_no_command_is_printed(finished: Path, folder: Path) -> None:
    done = kdaudit(*report(finished, folder, "--gate", "student.auc <= 0.6"))
    assert "::" not in done.out + done.err


def test_inside_actions_the_summary_is_appended_and_findings_are_annotated(
    finished: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = folder / "summary.md"
    summary.write_text("earlier\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = kdaudit(*report(finished, folder, "--format", "md", "--gate", "student.auc <= 0.6"))
    assert done.code == 3
    written = (folder / "out" / "report.md").read_text(encoding="utf-8")
    assert summary.read_text(encoding="utf-8") == f"earlier\n{written}"
    lines = done.out.splitlines()
    stop = lines[0].removeprefix("::stop-commands::")
    assert len(stop) == 32
    assert lines.index(f"::{stop}::") == len(lines) - 2, "everything else stands between the two"
    assert lines[-1].startswith("::warning file=")


def test_a_summary_that_cannot_be_written_is_an_error(
    finished: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder))
    done = kdaudit(*report(finished, folder))
    assert done.code == 2
    assert "GITHUB_STEP_SUMMARY" in done.err
    assert (folder / "out" / "report.md").is_file()
    assert "out" in {name.split("/")[0] for name in files_in(folder)}
