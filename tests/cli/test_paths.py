"""One rule for paths: expanded wherever they come from, relative to whoever names them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdaudit.config import AuditConfig
from kdaudit.distill.settings import DistillConfig
from tests.commands import Done, check_refused, kdaudit

Stopped = Callable[..., tuple[Any, Done]]


class StoppedError(Exception):
    """Where a command would begin to work."""


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stopped:
    """Runs a command up to where its work would begin: its configuration, and what was printed."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DATA", "some data")
    found: list[Any] = []

    def stop(config: Any, *_: Any, **options: Any) -> object:
        found.append(config)
        raise StoppedError

    monkeypatch.setattr("kdaudit.cli.attack.audit_with_progress", stop)
    monkeypatch.setattr("kdaudit.distill.run.run_distill", stop)
    monkeypatch.setattr("kdaudit.report.mitigation.read_mitigation", stop)

    def run(*arguments: object) -> tuple[Any, Done]:
        found.clear()
        done = kdaudit(*arguments)
        return (found[0] if found else None), done

    return run


GIVEN = {"teacher": "~/teacher", "student": "$DATA/student", "members": "~/m.jsonl", "nonmembers": "${DATA}/n.jsonl",
         "shots": "hub:acme/notes:train", "out": "~/run", "student_reference": "acme/start@main",
         "key_file": "~/key"}  # fmt: skip


def meant(config: AuditConfig, home: Path) -> None:
    assert config.teacher == str(home / "teacher")
    assert config.students == ("some data/student",)
    assert (config.members, config.nonmembers) == ((str(home / "m.jsonl"),), ("some data/n.jsonl",))
    assert config.shots == ("hub:acme/notes:train",)
    assert (config.out, config.student_references) == (home / "run", ("acme/start@main",))


def test_home_and_variables_are_expanded_wherever_a_path_comes_from(
    stopped: Stopped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: value for name, value in GIVEN.items() if name != "key_file"}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    meant(stopped("attack", *options)[0], tmp_path / "home")
    listed = {"student": "students", "student_reference": "student_references"}
    keys = {listed.get(name, name): [value] if name in listed else value for name, value in given.items()}
    Path("kdaudit.toml").write_text("".join(f"{name} = {value!r}\n" for name, value in keys.items()), encoding="utf-8")
    meant(stopped("attack")[0], tmp_path / "home")
    Path("kdaudit.toml").unlink()
    for name, value in given.items():
        monkeypatch.setenv(f"KDAUDIT_{listed.get(name, name).upper()}", value)
    meant(stopped("attack")[0], tmp_path / "home")


def test_a_configuration_file_names_paths_as_seen_from_its_own_folder(stopped: Stopped, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "models" / "teacher").mkdir(parents=True)
    (folder / "kdaudit.toml").write_text(
        'teacher = "models/teacher"\nstudents = ["./student", "acme/student@4c1b", "../other"]\nmembers = "m.jsonl"\n'
        'nonmembers = "/data/n.jsonl"\nout = "run"\ntemplate = "board.html.j2"\nbaseline = "../main"\n',
        encoding="utf-8",
    )
    config, done = stopped("attack", "--config", "project/kdaudit.toml")
    assert config is not None, done.err
    assert (config.teacher, config.members, config.out) == (
        "project/models/teacher", ("project/m.jsonl",), Path("project/run"),
    )  # fmt: skip
    assert config.students == ("project/student", "acme/student@4c1b", "project/../other")
    assert config.nonmembers == ("/data/n.jsonl",)
    config, _ = stopped("attack", "--config", "project/kdaudit.toml", "--members", "m.jsonl", "--out", "here")
    assert (config.members, config.out) == (("m.jsonl",), Path("here")), (
        "the command line is seen from the current folder"
    )
    report, _ = stopped("report", "run", "--config", "~/../project/kdaudit.toml")
    assert report.template == tmp_path / "home/../project/board.html.j2"
    assert report.baseline == tmp_path / "home/../project/../main"


def test_every_command_expands_its_paths(stopped: Stopped, tmp_path: Path) -> None:
    options = ("--teacher", "~/t", "--student", "~/s", "--train", "~/r.jsonl", "--teacher-saw", "none", "--out", "~/o",
               "--key-file", "$DATA/key", "--manifest-out", "~/m.json", "--teacher-cache", "~/c")  # fmt: skip
    home = tmp_path / "home"
    for name in ("t", "s"):
        (home / name).mkdir()
    (home / "r.jsonl").touch()
    config: DistillConfig = stopped("distill", *options)[0]
    assert (config.teacher, config.student, config.train) == (
        str(home / "t"),
        str(home / "s"),
        (str(home / "r.jsonl"),),
    )
    assert (config.out, config.key_file, config.manifest_out) == (home / "o", Path("some data/key"), home / "m.json")
    assert config.teacher_cache == home / "c"
    report, _ = stopped("report", "~/a", "$DATA/b", "--model-card", "~/README.md", "--out", "~/out")
    assert report is None, "a card is about one run"
    report, _ = stopped("report", "~/a", "--model-card", "~/README.md", "--out", "~/out")
    assert (report.runs, report.model_card, report.out) == ((home / "a",), home / "README.md", home / "out")


def test_what_cannot_be_expanded_is_refused_and_what_is_called_so_is_taken(stopped: Stopped) -> None:
    options = ("attack", "--teacher", "t", "--student", "s")
    check_refused(stopped(*options, "--members", "$NO_SUCH/m")[1], "--members: $NO_SUCH/m names the variable NO_SUCH")
    check_refused(stopped("attack", "--teacher", "t", "--student", "$NO_SUCH/s")[1], "--student: $NO_SUCH/s names")
    check_refused(stopped(*options, "--out", "~nosuchuser/run")[1], "--out: ~nosuchuser/run", "./~nosuchuser/run")
    Path("kdaudit.toml").write_text('nonmembers = "${NO_SUCH}"', encoding="utf-8")
    check_refused(stopped(*options, "--members", "m")[1], "${NO_SUCH} names the variable NO_SUCH")
    Path("kdaudit.toml").unlink()
    check_refused(stopped("report", "$NO_SUCH/run")[1], "RUN…: $NO_SUCH/run names the variable NO_SUCH")
    for name in ("in $US.csv", "~m.csv", "5$.csv", "$5.csv"):
        Path(name).write_text("text\none\n", encoding="utf-8")
        config, done = stopped(*options, "--members", name, "--nonmembers", "n")
        assert config is not None, done.err
        assert config.members == (name,)
