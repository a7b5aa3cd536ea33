"""Two commands in one folder: the second one is told so, and what a killed one leaves stops nobody."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdaudit.errors import ConfigError
from kdaudit.lock import FILE_NAME, claim, locked, refuse_other_settings
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


def test_a_folder_is_taken_where_it_is_new_empty_or_ours_and_refused_where_it_holds_something_else(
    tmp_path: Path,
) -> None:
    claim(tmp_path / "new" / "deep", is_ours=False, holds_no="earlier run")
    assert list((tmp_path / "new" / "deep").iterdir()) == []
    used = tmp_path / "used"
    used.mkdir()
    for name in ("signals", f"{FILE_NAME}", "x.tmp"):
        (used / name).touch()
    claim(used, is_ours=False, holds_no="earlier run", leftovers=("signals",))
    (used / "thesis.tex").touch()
    before = files_in(used)
    with pytest.raises(ConfigError, match=r"used is not empty and holds no earlier run \(thesis.tex\)") as caught:
        claim(used, is_ours=False, holds_no="earlier run", leftovers=("signals",))
    assert "--overwrite" in caught.value.hint
    claim(used, is_ours=True, holds_no="earlier run")
    claim(used, is_ours=False, holds_no="earlier run", overwrite=True)
    assert files_in(used) == before
    with pytest.raises(ConfigError, match=r"thesis.tex is a file"):
        claim(used / "thesis.tex", is_ours=False, holds_no="earlier run", overwrite=True)


def test_other_settings_are_refused_with_the_first_of_them_in_words(tmp_path: Path) -> None:
    def refused(earlier: dict[str, object], now: dict[str, object]) -> str:
        with pytest.raises(ConfigError) as caught:
            refuse_other_settings(tmp_path, earlier, now, holds="a run", hint="h")
        return str(caught.value).partition("with other settings: ")[2]

    same = {"attacks": ["loss"], "seed": 1, "limit": None}
    refuse_other_settings(tmp_path, same, {**same, "attacks": ("loss",)}, holds="a run", hint="h")
    assert refused(same, {**same, "seed": 2}) == "seed was 1 and is now 2"
    assert refused(same, {**same, "limit": 5, "seed": 2}) == "seed was 1 and is now 2 (and 1 more)"
    assert refused({"n_shots": 1, "is_on": True}, {"n_shots": 1}) == "is on was on and is now not given"
    assert refused({"attacks": []}, {"attacks": ["loss", "zlib"]}) == "attacks was not given and is now loss, zlib"
    assert refused({"hash": "a" * 64}, {"hash": "b" * 64}) == f"hash was {'a' * 12}… and is now {'b' * 12}…"
