"""`kdaudit report` as a whole: files, exit codes, bad input, and what it does without."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdaudit.errors import ExitCode
from kdaudit.results.file import MAX_BYTES, load, to_json
from kdaudit.verdict import parse_gate
from tests.commands import check_refused, files_in, kdaudit
from tests.report.reports import LEAKY, attack, write_run

FAILS, PASSES, IS_OPEN = "student.auc <= 0.6", "student.auc <= 0.99", "student.tpr@0.001 <= 0.05"
HEAVY = ("torch", "transformers", "peft", "datasets", "bitsandbytes", "sklearn", "pyarrow", "matplotlib")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_run(Path("run"), LEAKY)


@pytest.mark.parametrize(
    ("gates", "code", "words"),
    [
        ([], ExitCode.PASSED, "Not gated"),
        ([PASSES], ExitCode.PASSED, "Pass, for these attacks on these records: the closest"),
        ([FAILS], ExitCode.GATE_FAILED, "Fail: student.auc is 0.930 under reference"),
        ([IS_OPEN], ExitCode.INCONCLUSIVE, "Inconclusive"),
        ([PASSES, FAILS, IS_OPEN], ExitCode.GATE_FAILED, "Fail (1 of 3 gates)"),
    ],
)
def test_the_verdict_is_the_exit_code_and_the_files_are_written_before(
    gates: list[str], code: ExitCode, words: str, run: Path
) -> None:
    options = [part for gate in gates for part in ("--gate", gate)]
    done = kdaudit("report", run, *options)
    assert done.code == code
    assert words in done.out
    assert sorted(files_in(run)) == ["report.html", "report.md", "results.json"]
    assert words in (run / "report.md").read_text(encoding="utf-8")
    assert "written: run/report.html, run/report.md" in done.err
    assert kdaudit("report", run, *options, "--exit-zero", "--format", "md").code == 0


def test_over_several_runs_a_failure_outweighs_an_open_question(run: Path) -> None:
    small = replace(
        attack(0.5, 0.52), cells={name: replace(cell, unscored=900) for name, cell in attack(0.5, 0.52).cells.items()}
    )
    is_open = write_run(Path("open"), replace(LEAKY, attacks={"loss": small, "zlib": small}))
    better = write_run(Path("better"), replace(LEAKY, attacks={"loss": attack(0.5, 0.5), "zlib": attack(0.5, 0.5)}))
    assert kdaudit("report", better, "--gate", FAILS, "--format", "md").code == 0
    assert kdaudit("report", better, is_open, "--gate", FAILS, "--format", "md").code == ExitCode.INCONCLUSIVE
    done = kdaudit("report", is_open, run, better, "--gate", FAILS, "--format", "md", "--out", "all")
    assert done.code == ExitCode.GATE_FAILED
    assert sorted(files_in(Path("all"))) == ["report.md"]
    for name in ("open", "run", "better"):
        assert f"\n{name}\n" in done.out


def test_only_the_formats_that_are_asked_for_are_written(run: Path) -> None:
    assert kdaudit("report", run, "--format", "json,md", "--format", "md", "--out", "here").code == 0
    assert sorted(files_in(Path("here"))) == ["report.json", "report.md"]
    Path("mine.txt.j2").write_text("{{ page.status }}", encoding="utf-8")
    assert kdaudit("report", run, "--template", "mine.txt.j2", "--out", "there").code == 0
    assert files_in(Path("there")) == {"mine.txt": b"not_gated"}


def test_json_holds_the_figures_as_measured_and_the_verdict_as_judged_now(run: Path) -> None:
    kdaudit("report", run, "--format", "json", "--gate", FAILS)
    content = json.loads((run / "report.json").read_text(encoding="utf-8"))
    measured = json.loads(json.dumps(to_json(load(run / "results.json"))))
    assert (content["schema"], content["status"]) == ("kdaudit.report/1", "fail")
    (one,) = content["runs"]
    assert {**one, "verdict": None} == {**measured, "verdict": None, "name": "run", "path": "run/results.json"}
    assert one["verdict"]["gates"][0]["gate"] == str(parse_gate(FAILS))


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    options = ("--format", "html,md,json", "--gate", FAILS)
    kdaudit("report", run, *options, "--out", "one")
    kdaudit("report", run, *options, "--out", "two")
    assert files_in(Path("one")) == files_in(Path("two"))


def test_gates_and_formats_of_the_file_hold_unless_the_command_line_says_otherwise(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("kdaudit.toml").write_text(
        f'teacher = "t"\nout = "elsewhere"\nformats = ["md"]\ngates = [\n  "{FAILS}",\n]\n', encoding="utf-8"
    )
    assert kdaudit("report", run).code == ExitCode.GATE_FAILED
    assert sorted(files_in(run)) == ["report.md", "results.json"], "`out` is the run folder of `attack`"
    assert "| kdaudit.toml:5 |" in (run / "report.md").read_text(encoding="utf-8")
    done = kdaudit("report", run, "--gate", PASSES)
    assert done.code == 0
    assert "the gates of the command line replace the 1 of" in done.out
    assert "kdaudit.toml" not in (run / "report.md").read_text(encoding="utf-8")
    monkeypatch.setenv("KDAUDIT_GATES", f"{PASSES}; {IS_OPEN}")
    assert kdaudit("report", run).code == ExitCode.INCONCLUSIVE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "pdf"), ("--format: 'pdf' is none of html, md, ",)),
        (("--format", ""), ("--format: an empty value was given",)),
        (("--gate", ""), ("--gate: an empty value was given",)),
        (("--gate", "student.auc < 0.6"), ("operator '<'",)),
        (("--gate", "student-2.auc <= 0.6"), ("run/results.json", "the run has no student-2")),
        (("--template", "none.html.j2"), ("--template: cannot read none.html.j2",)),
        (("--template", "mine.html"), ("does not end in .j2",)),
        (("--config", "none.toml"), ("--config: cannot read none.toml",)),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_is_written(
    options: tuple[str, ...], words: tuple[str, ...], run: Path
) -> None:
    check_refused(kdaudit("report", run, *options), *words)
    assert sorted(files_in(run)) == ["results.json"]


def loss(found: dict[str, Any]) -> dict[str, Any]:
    attack: dict[str, Any] = found["attacks"]["loss"]
    return attack


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text[: len(text) // 2], "not a results file"),
        (lambda text: "", "not a results file"),
        (lambda text: text.replace("0.93", "NaN", 1), "NaN is not a number"),
        (lambda text: text.replace("kdaudit.results/1", "kdaudit.results/9"), "'kdaudit.results/9'"),
        (edited(lambda found: loss(found).pop("student")), "attacks.loss.student is missing"),
        (edited(lambda found: found["models"].pop("teacher")), "models.teacher is missing"),
        (edited(lambda found: found["data"].pop("members")), "data.members is missing"),
        (edited(lambda found: loss(found)["curves"]["teacher"]["fpr"].pop()), "more points on one axis"),
        (edited(lambda found: loss(found)["histograms"]["teacher"]["members"].pop()), "histogram of 10 bins"),
        (edited(lambda found: loss(found)["student"]["auc"].update(quantiles=[0.5] * 106)), "106 bootstrap quantiles"),
        (edited(lambda found: loss(found)["student"]["auc"].update(quantiles="6:107:")), "quantiles: "),
        (edited(lambda found: loss(found)["student"]["auc"].update(value=1.5)), "auc.value is 1.5, outside"),
        (edited(lambda found: loss(found)["comparison"]["student"]["auc"].update(low=-2)), "low is -2, outside -1"),
        (lambda text: "[" * 100_000, "not a results file"),
    ],
)  # fmt: skip
def test_a_broken_results_file_is_named_with_what_is_wrong(edit: Callable[[str], str], words: str, run: Path) -> None:
    path = run / "results.json"
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    check_refused(kdaudit("report", run), str(path), words)
    assert sorted(files_in(run)) == ["results.json"]


def test_a_comparison_that_is_missing_is_shown_as_missing(run: Path) -> None:
    path = run / "results.json"
    path.write_text(
        edited(lambda found: found["attacks"]["reference"]["comparison"].clear())(path.read_text(encoding="utf-8")),
        encoding="utf-8",
    )
    assert kdaudit("report", run, "--gate", "difference.auc <= 0.5").code == ExitCode.INCONCLUSIVE
    row = next(
        line for line in (run / "report.md").read_text(encoding="utf-8").splitlines() if "| reference | 0" in line
    )
    assert row.endswith("| – | – |")


def test_a_file_of_a_hundred_megabytes_is_refused_unread(run: Path) -> None:
    with (run / "results.json").open("ab") as file:
        file.truncate(100 * 1024 * 1024)
    check_refused(kdaudit("report", run), "too large for a results file", str(MAX_BYTES))


@pytest.mark.parametrize("missing", ["nowhere", "nowhere/results.json"])
def test_a_run_that_is_not_there_is_named(missing: str, run: Path) -> None:
    check_refused(kdaudit("report", missing), "nowhere")


def test_an_output_that_cannot_be_written_is_no_traceback(run: Path) -> None:
    Path("file").write_text("", encoding="utf-8")
    check_refused(kdaudit("report", run, "--out", "file/sub"), "--out: ", "cannot be written")


@pytest.mark.parametrize(("formats", "allowed"), [("md,json,sarif,junit", ()), ("html,md,json", ("matplotlib",))])
def test_it_imports_no_torch(formats: str, allowed: tuple[str, ...], run: Path) -> None:
    banned = [name for name in HEAVY if name not in allowed]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({banned!r}))\n"  # importing one of them is an ImportError
        "from kdaudit.cli.main import main\n"
        f"main(['report', 'run', '--format', {formats!r}, '--gate', {FAILS!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.GATE_FAILED, done.stderr
