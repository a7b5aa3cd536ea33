"""The program itself: help that loads nothing heavy, streams, and errors that become exit codes."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TextIO

import pytest

import kdaudit as package
from kdaudit.attacks import ATTACKS, GROUPS
from kdaudit.attacks.settings import written
from kdaudit.cli.command import Command
from kdaudit.cli.main import COMMANDS, LARGE_PAGES, main
from kdaudit.cli.progress import StageBars
from kdaudit.errors import ExitCode
from tests.commands import FINISHED, Given, check_refused, fewer_resamples, kdaudit

HEAVY = {
    *("torch", "transformers", "peft", "datasets", "bitsandbytes", "sklearn", "numpy", "scipy", "pyarrow"),
    *("matplotlib", "pandas", "jinja2"),
}


@pytest.mark.parametrize("command", [[], *([command.name] for command in COMMANDS)])
def test_help_loads_no_heavy_library(command: list[str]) -> None:
    code = (
        "import sys\nfrom kdaudit.cli.main import main\n"
        f"try: main({[*command, '--help']!r})\n"
        f"except SystemExit as end: print(end.code, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
    assert "Usage: kdaudit" in done.stdout


AUDIT = ("attack", "--teacher", "a", "--student", "b", "--members", "saw.jsonl", "--nonmembers", "unseen.jsonl")
ARMS = ("mitigate", "--teacher", "a", "--student", "b", "--train", "c", "--teacher-saw", "none", "--out", "d")
SLOW = {"torch", "transformers", "sklearn", "scipy.special", "scipy.stats", "pyarrow", "matplotlib", "jinja2"}
"""What an option is never checked by: torch alone takes four seconds of CPU time."""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ((*AUDIT, "--gate", "studnt.auc <= 0.6"), "unknown subject 'studnt'"),
        ((*AUDIT, "--gate", "student-2.auc <= 0.6"), "the run has no student-2"),
        ((*AUDIT, "--attack", "lss"), "unknown attack 'lss'"),
        ((*AUDIT, "--attack", "loss, zlib,lss"), "unknown attack 'lss'"),
        ((*AUDIT, "--attack", "loss,"), "--attack: an empty value was given"),
        ((*AUDIT, "--device", "tpu"), "--device: 'tpu'"),
        ((*AUDIT, "--config", "nowhere.toml"), "--config: cannot read nowhere.toml"),
        (("attack", "--teacher", "a"), "--student"),
        ((*ARMS, "--method", "lss"), "unknown method 'lss'"),
        ((*ARMS, "--method", "lora", "--gate", "studnt.auc <= 0.6"), "unknown subject 'studnt'"),
        (("report", "nowhere", "--gate", "studnt.auc <= 0.6"), "unknown subject 'studnt'"),
        (("report", "nowhere"), "nowhere: cannot be read"),
        (AUDIT, "--members saw.jsonl: no such file"),
        ((*AUDIT[:2], "./a", *AUDIT[3:]), "--teacher: there is no folder ./a"),
        ((*ARMS, "--method", "lora"), "--train c: no such file"),
        (("distill", *ARMS[1:]), "--train c: no such file"),
        ((*AUDIT, "--set", "min-k.fractoin=0.1"), "min-k has no parameter 'fractoin'"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_a_usage_error_is_said_before_anything_slow_is_loaded(line: Sequence[str], words: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom kdaudit.cli.main import main\n"
        f"try: main({[*line]!r})\n"
        f"except SystemExit as end: print(end.code, sorted({SLOW!r} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert words in " ".join(done.stderr.split())
    assert done.stdout == "2 []\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_is_printed(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = kdaudit("--show-completion", shell)
    assert done.code == 0
    assert f"_KDAUDIT_COMPLETE=complete_{shell}" in done.out


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ("bash", {"COMP_WORDS": "kdaudit attack --att", "COMP_CWORD": "2"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "kdaudit attack --att"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "kdaudit attack --att", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_a_shell_is_offered_the_option_that_was_begun(shell: str, asked: dict[str, str]) -> None:
    environment = {**os.environ, **asked, "_KDAUDIT_COMPLETE": f"complete_{shell}"}
    command = [sys.executable, "-m", "kdaudit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--attack" in done.stdout
    assert "--teacher" not in done.stdout


def test_help_names_every_exit_code_and_every_option() -> None:
    shown = kdaudit("attack", "--help").out
    for code in (0, 1, 2, 3, 4):
        assert f"{code} " in shown
    for option in ("--teacher", "--student", "--gate", "--reference", "--out", "--json", "--config", "--overwrite"):
        assert option in shown


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_example_of_a_help_page_names_options_that_the_command_has(command: Command) -> None:
    shown = kdaudit(command.name, "--help").out
    assert command.example in " ".join(shown.split())
    for option in re.findall(r"--[a-z-]+", command.example):
        assert re.search(rf"{option}\b", shown.split("Example:")[0])


@pytest.mark.parametrize("chosen", [None, "0"])
def test_memory_is_asked_for_in_large_pages_unless_the_user_says_otherwise(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LARGE_PAGES, raising=False)
    if chosen is not None:
        monkeypatch.setenv(LARGE_PAGES, chosen)
    assert kdaudit("--version").code == ExitCode.PASSED
    assert os.environ[LARGE_PAGES] == (chosen or "1")


def test_version_is_the_packages() -> None:
    done = kdaudit("--version")
    assert (done.code, done.out, done.err) == (0, f"kdaudit {package.__version__}\n", "")


def test_list_attacks_shows_every_attack_with_its_needs_cost_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    done = kdaudit("attack", "--list-attacks")
    assert (done.code, done.err) == (0, "")
    rows = {line.split()[0]: line for line in done.out.splitlines() if line.split()[:1] and line.split()[0] in ATTACKS}
    assert list(rows) == list(ATTACKS)
    for name, attack in ATTACKS.items():
        assert attack.source in rows[name]
        assert ("reference" in rows[name].split(attack.described)[0].removeprefix(name)) == attack.needs_reference
        assert f"{len(attack.views)} pass" in rows[name]
        assert all(f"{one.name}={written(one.default)}" in rows[name] for one in attack.parameters)
        assert ("paper" in rows[name]) == (name in GROUPS["paper"])


@pytest.mark.parametrize(
    "environment", [{"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"COLUMNS": ""}, {"COLUMNS": "0"}, {"COLUMNS": "x"}]
)
def test_a_table_in_a_log_is_as_wide_as_its_text_whatever_ci_sets(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    plain = kdaudit("attack", "--list-attacks").out
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert re.sub(r"\x1b\[[0-9;]*m", "", kdaudit("attack", "--list-attacks").out) == plain
    assert max(map(len, plain.splitlines())) > 80
    with redirect_stderr(io.StringIO()) as err, StageBars(is_shown=True) as bars:
        bars.update("measuring", 1, 2)
    assert err.getvalue() == ""


def test_a_wrong_command_is_a_usage_error() -> None:
    done = kdaudit("atack")
    assert done.code == ExitCode.BAD_INPUT
    assert "attack" in done.err


def test_a_bug_shows_its_traceback_and_is_no_finding(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall_over(*_: object, **options: object) -> None:
        raise RuntimeError("[boom] with [/red] brackets")

    monkeypatch.setattr("kdaudit.audit.run.run_audit", fall_over)
    done = given.attack(tmp_path, "--attack", "loss")
    assert done.code == ExitCode.FAILED
    assert "Traceback" in done.err
    assert "RuntimeError: [boom] with [/red] brackets" in done.err
    assert "this is a bug in kdaudit" in done.err
    assert done.out == ""


def test_json_prints_the_results_file_and_nothing_else(given: Given, finished: Path) -> None:
    done = given.attack(finished, *FINISHED, "--reference", given.start, "--json")
    assert done.code == 0
    assert done.out == (finished / "results.json").read_text(encoding="utf-8")
    assert done.err == ""


def test_quiet_leaves_the_whole_result_and_nothing_else(given: Given, finished: Path) -> None:
    done = given.attack(finished, *FINISHED, "--reference", given.start, "--quiet")
    assert done.err == ""
    assert done.out == given.attack(finished, *FINISHED, "--reference", given.start).out


@pytest.mark.parametrize("gates", [("",), (" ",), ("student.auc <= 0.9", "")])
def test_an_empty_gate_is_refused_and_gates_nothing_away(given: Given, tmp_path: Path, gates: tuple[str, ...]) -> None:
    options = [part for gate in gates for part in ("--gate", gate)]
    check_refused(given.attack(tmp_path, *options), "--gate: an empty value was given")


@pytest.mark.parametrize(
    ("option", "value", "kind"), [("--limit", "abc", "a whole number"), ("--calibration-share", "half", "a number")]
)
def test_a_value_of_another_type_is_shown_with_what_is_needed(option: str, value: str, kind: str) -> None:
    done = kdaudit(*AUDIT, option, value)
    assert done.code == ExitCode.BAD_INPUT
    assert f"Invalid value for '{option}': '{value}' is not {kind}" in " ".join(done.err.replace("│", " ").split())


def test_a_variable_that_nearly_is_one_is_said_and_others_are_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDAUDIT_GATE", "student.auc <= 0.6")
    monkeypatch.setenv("KDAUDIT_COLOUR_OF_THE_SKY", "blue")
    done = kdaudit("attack", "--list-attacks")
    assert done.err == "kdaudit does not read the variable KDAUDIT_GATE: did you mean 'KDAUDIT_GATES'?\n"


@pytest.mark.parametrize("value", ["", " ", ";", "; ;", "student.auc <= 0.9;;student.auc <= 0.8"])
def test_an_empty_variable_for_gates_is_refused(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("KDAUDIT_GATES", value)
    check_refused(given.attack(tmp_path), "--gate: an empty value was given")


def test_the_result_goes_to_stdout_and_the_rest_to_stderr(given: Given, finished: Path) -> None:
    done = given.attack(finished, *FINISHED, "--reference", given.start)
    for words in ("AUC with 95 % interval", "student − teacher", "blind baseline", "Not gated: no limit"):
        assert words in done.out
        assert words not in done.err
    for words in ("Plan: 24 members, 24 non-members", "3 forward passes", "written: ", "results.json"):
        assert words in done.err
        assert words not in done.out
    assert done.out.lower().count("not gated") == 1, "the verdict is said once"


def test_no_bar_is_drawn_where_stderr_is_no_terminal(given: Given, tmp_path: Path) -> None:
    done = given.attack(tmp_path, "--attack", "loss", "--limit", 6)
    assert done.code == 0
    assert not set("━╸\r\x1b") & set(done.out + done.err)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_shown", [True, False])
def test_a_terminal_gets_a_bar_unless_it_is_quiet(is_shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with StageBars(is_shown=is_shown) as bars:
        bars.update("teacher, plain", 0, 2000)
        bars.update("teacher, plain", 2000, 2000)
    drawn = terminal.getvalue()
    assert ("teacher, plain" in drawn and "2,000/2,000" in drawn) == is_shown


@pytest.fixture
def closed_pipe() -> Iterator[TextIO]:
    """A stream whose reader has gone, as `| head -1` leaves it."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
@pytest.mark.parametrize(("gate", "code"), [("student.auc <= 0.9", 3), ("student.auc <= high", 2)])
def test_a_closed_pipe_does_not_change_the_exit_code(
    closed: str, gate: str, code: int, closed_pipe: TextIO, given: Given, finished: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, closed, closed_pipe)
    arguments = ["attack", *given.arguments(), "--out", finished, *FINISHED, "--reference", given.start, "--gate", gate]
    with fewer_resamples(), pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == code


def test_a_stream_that_knows_few_letters_shows_the_rest_as_question_marks(
    given: Given, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    narrow = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    with fewer_resamples(), pytest.raises(SystemExit) as end:
        main(["attack", *given.arguments(), "--out", str(finished), *FINISHED, "--reference", str(given.start)])
    assert end.value.code == 0
    assert b"student ? teacher" in written.getvalue()


ESCAPE = "a\x1b[2J\x1b]0;title\x07\u202eb"


@pytest.mark.parametrize(
    "arguments",
    [
        ("attack", "--teacher", ESCAPE, "--student", ESCAPE, "--members", "m.jsonl", "--nonmembers", "n.jsonl"),
        ("attack", "--config", ESCAPE),
        ("attack", "--gate", f"student.auc[{ESCAPE}] <= 0.5"),
        ("attack", f"--{ESCAPE}"),
        ("attack", "--attacks", ESCAPE),
        ("mitigate", "--methods", ESCAPE),
        ("report", ESCAPE),
        ("report", ".", "--format", ESCAPE),
        (ESCAPE,),
    ],
)
def test_no_control_character_of_a_name_reaches_the_terminal(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = kdaudit(*arguments)
    assert done.code == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(done.out + done.err)


def test_what_libraries_log_and_warn_of_reaches_the_terminal_without_control_characters() -> None:
    code = (
        "import logging, sys, warnings\n"
        "from kdaudit.cli.progress import hush_libraries\n"
        "hush_libraries()\n"
        "import kdaudit.metrics.validity\n"
        "assert not {'datasets', 'sklearn', 'scipy.stats'} & {*sys.modules}\n"
        "import datasets\n"
        "assert datasets.are_progress_bars_disabled()\n"
        "names = ('transformers', 'datasets', 'huggingface_hub', 'any')\n"
        "for name in names: logging.getLogger(name).error('%s', sys.argv[1])\n"
        "warnings.warn(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, ESCAPE], capture_output=True, text=True, check=True)
    assert done.stderr.count("⟨U+001B⟩]0;title") == 5
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stderr)


def test_a_reader_that_has_seen_enough_of_a_help_is_no_error() -> None:
    """The reader closes its end before anything is written, as `| head -0` does."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "kdaudit", "mitigate", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
