"""Two commands in one folder: the second one is told so, and what a killed one leaves stops nobody."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdaudit.errors import ConfigError
from kdaudit.lock import FILE_NAME, locked
from tests.commands import FINISHED, Given, check_refused, files_in, kdaudit
from tests.distill.students import Recipe

HOLD = """
import sys
from pathlib import Path
from kdaudit.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_is_held_by_one_process_and_free_again_when_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    with held(folder) as process:
        with pytest.raises(ConfigError, match="another kdaudit command is at work"), locked(folder):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (folder / FILE_NAME).exists()  # what it left
        with locked(folder):
            pass
    assert files_in(folder) == {}


def test_a_folder_can_be_held_again_by_the_process_that_holds_it(tmp_path: Path) -> None:
    with locked(tmp_path):
        with locked(tmp_path / ".." / tmp_path.name):
            pass
        assert (tmp_path / FILE_NAME).exists()
        with locked(tmp_path / "inside"):
            pass
    assert files_in(tmp_path) == {}


def test_a_failure_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    with locked(tmp_path):
        pass


def _attack(given: Given, recipe: Recipe, out: Path) -> tuple[object, ...]:
    return ("attack", *given.arguments(), *FINISHED, "--reference", given.start, "--out", out)


def _distill(given: Given, recipe: Recipe, out: Path) -> tuple[object, ...]:
    models = ("--teacher", recipe.teacher, "--student", recipe.start)
    return ("distill", *models, "--train", recipe.train, "--teacher-saw", "none", "--out", out)


def _mitigate(given: Given, recipe: Recipe, out: Path) -> tuple[object, ...]:
    return ("mitigate", "--method", "lora", *_distill(given, recipe, out)[1:])


COMMANDS: dict[str, Callable[[Given, Recipe, Path], tuple[object, ...]]] = {
    "attack": _attack,
    "distill": _distill,
    "mitigate": _mitigate,
    "demo": lambda given, recipe, out: ("demo", "--out", out),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_second_command_in_a_folder_is_refused_and_leaves_it_alone(
    command: str, given: Given, recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with held(out):
        check_refused(kdaudit(*COMMANDS[command](given, recipe, out)), f"at work in {out}")
        assert {*files_in(out)} <= {FILE_NAME, "kdaudit-demo"}


def test_a_report_is_not_written_into_a_folder_that_another_command_holds(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held(out):
        check_refused(kdaudit("report", finished, "--out", out, "--format", "json"), f"at work in {out}")
    assert kdaudit("report", finished, "--out", out, "--format", "json").code == 0
    assert [*files_in(out)] == ["report.json"]
