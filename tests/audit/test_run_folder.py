"""--out: what is continued, what is replaced, and what is refused before anything in it changes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny
from tests.commands import FINISHED, Given, check_refused, counted_loads, files_in, halves, lines, results, texts


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return shutil.copytree(finished, tmp_path / "run")


def test_the_same_command_confirms_a_finished_run_without_a_forward_pass(given: Given, out: Path) -> None:
    before = files_in(out)
    with counted_loads() as loads:
        done = given.attack(out, *FINISHED, "--reference", given.start)
    assert done.code == 0, done.err
    assert loads == []
    after = files_in(out)
    for files in (before, after):
        del files["manifest.json"]  # it holds the command
    assert after == before


def test_new_gates_alone_cost_no_forward_pass_and_change_no_figure(given: Given, out: Path) -> None:
    before = results(out)
    with counted_loads() as loads:
        done = given.attack(out, *FINISHED, "--reference", given.start, "--gate", "student.auc[loss] <= 0.9")
    assert done.code == 3, done.err
    assert loads == []
    after = results(out)
    assert [gate["gate"] for gate in after.pop("verdict")["gates"]] == ["student.auc[loss]<=0.9"]
    assert before.pop("verdict")["status"] == "not_gated"
    cells = [found.pop("power")["cells"] for found in (before, after)]  # without gates every cell shares the level
    assert cells == [4, 1]
    assert after == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", 3), "seed was 0 and is now 3"),
        (("--limit", 10), "limit was not given and is now 10"),
        (("--max-tokens", 20), "max tokens was not given and is now 20"),
        (("--attack", "zlib"), "attacks was"),
        (("--seed", 3, "--limit", 10), "(and 1 more)"),
        (("--student-load", "8bit"), "student load was not given and is now 8bit"),
    ],
)
def test_another_configuration_is_refused_and_named(
    options: tuple[object, ...], words: str, given: Given, finished: Path
) -> None:
    before = files_in(finished)
    done = given.attack(finished, *FINISHED, "--reference", given.start, *options)
    check_refused(done, str(finished), words, "--overwrite")
    assert files_in(finished) == before


def test_other_models_are_refused_and_named(given: Given, finished: Path, checkpoint: Callable[..., Path]) -> None:
    before = files_in(finished)
    other = checkpoint(seed=8)
    reference = ("--reference", given.start)
    for done, words in (
        (given.having(teacher=other).attack(finished, *FINISHED, *reference), "teacher fingerprint"),
        (given.having(student=other).attack(finished, *FINISHED, *reference), "student fingerprint"),
        (given.attack(finished, *FINISHED, "--reference", other), "teacher reference fingerprint"),
        (given.attack(finished, *FINISHED, "--student-reference", given.start), "teacher reference fingerprint"),
        (given.attack(finished, *FINISHED, *reference, "--student", other), "student-2 fingerprint"),
    ):
        check_refused(done, f"holds a run with other settings: {words}")
    assert files_in(finished) == before


def test_a_run_with_fewer_students_is_another_run(
    given: Given, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    options = ("--attack", "loss", "--limit", 6)
    assert given.attack(tmp_path, *options, "--student", checkpoint(seed=8)).code == 0
    check_refused(given.attack(tmp_path, *options), "student-2 fingerprint was")


def test_other_texts_under_the_same_name_are_refused(given: Given, tmp_path: Path) -> None:
    members, nonmembers = halves(tmp_path / "data", 6)
    mine = given.having(members=members, nonmembers=nonmembers)
    assert mine.attack(tmp_path / "run", "--attack", "loss").code == 0
    tiny.write_jsonl(members, texts(6, seed=5), prefix="m")
    check_refused(mine.attack(tmp_path / "run", "--attack", "loss"), "data sha256 was")


def test_other_weights_under_the_same_path_are_refused(given: Given, tmp_path: Path) -> None:
    mine = given.having(student=tiny.save(tmp_path / "student", seed=21, lines=lines()))
    options = ("--attack", "loss", "--limit", 6)
    assert mine.attack(tmp_path / "run", *options).code == 0
    tiny.save(tmp_path / "student", seed=22, lines=lines())
    check_refused(mine.attack(tmp_path / "run", *options), "student fingerprint was")


def test_the_same_files_under_other_names_continue_the_run(given: Given, finished: Path, tmp_path: Path) -> None:
    moved = given.having(
        student=shutil.copytree(given.student, tmp_path / "moved"),
        members=Path(shutil.copy(given.members, tmp_path / "moved.jsonl")),
    )
    out = shutil.copytree(finished, tmp_path / "run")
    with counted_loads() as loads:
        done = moved.attack(out, *FINISHED, "--reference", given.start)
    assert done.code == 0, done.err
    assert loads == []


def test_overwrite_replaces_another_run(given: Given, out: Path) -> None:
    done = given.attack(out, "--attack", "loss", "--seed", 3, "--overwrite")
    assert done.code == 0, done.err
    found = results(out)
    assert (found["data"]["seed"], list(found["attacks"])) == (3, ["loss"])
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["identity"]["seed"] == 3


def test_an_interrupted_overwrite_leaves_no_findings_of_the_replaced_run(
    given: Given, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kdaudit.audit.stages.blind_baseline", interrupt)
    assert given.attack(out, "--attack", "loss", "--seed", 3, "--overwrite").code == 130
    assert not (out / "results.json").exists()
    assert not (out / "summary.md").exists()


def test_a_folder_of_something_else_is_left_alone(given: Given, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    done = given.attack(tmp_path, "--attack", "loss")
    check_refused(done, str(tmp_path), "is not empty and holds no earlier run (thesis.tex)", "--overwrite")
    assert files_in(tmp_path) == {"thesis.tex": b"mine"}
    assert given.attack(tmp_path, "--attack", "loss", "--limit", 6, "--overwrite").code == 0
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("content", ["{}", '{"name": "a web page"}', "[]", "{", '{"identity": 3}'])
def test_a_manifest_that_no_run_wrote_is_refused(content: str, given: Given, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    check_refused(given.attack(tmp_path, "--attack", "loss"), "manifest.json", "--overwrite")


def test_what_a_killed_run_left_of_its_first_file_is_no_stranger(given: Given, tmp_path: Path) -> None:
    (tmp_path / "manifest.json.4711.tmp").write_text("{", encoding="utf-8")
    (tmp_path / "signals").mkdir()
    done = given.attack(tmp_path, "--attack", "loss", "--limit", 6)
    assert done.code == 0, done.err


def test_a_place_where_no_folder_can_be_made_is_refused(given: Given, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    for out in (file, file / "below" / "it"):
        check_refused(given.attack(out, "--attack", "loss"), f"--out: {out} cannot be written")
    assert file.read_text(encoding="utf-8") == "mine"
