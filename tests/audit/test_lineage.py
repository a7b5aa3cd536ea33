"""An audit that is told nothing of records: it finds them through the student's manifest, or refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdaudit.manifest import KEY_SUFFIX, record_id
from tests import tiny
from tests.commands import check_refused, read_texts, results, texts
from tests.distill.students import Recipe, manifest_of


@pytest.fixture
def student(recipe: Recipe, tmp_path: Path) -> Path:
    """A student with held-out records, of a teacher that saw none of the records."""
    out = tmp_path / "student"
    done = recipe.distill(out)
    assert done.code == 0, done.err
    return out


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def scored(run: Path) -> dict[str, bool]:
    """Id to whether the record was a member."""
    import pyarrow.parquet as pq

    table = pq.read_table(run / "scores.parquet").to_pydict()
    return dict(zip(table["id"], table["member"], strict=True))


def test_members_and_held_out_records_are_those_of_the_manifest(recipe: Recipe, student: Path, tmp_path: Path) -> None:
    done = recipe.attack(student, tmp_path / "run")
    assert done.code == 0, done.err
    key = bytes.fromhex(Path(f"{recipe.train}{KEY_SUFFIX}").read_text(encoding="ascii"))
    data = manifest_of(student)["data"]
    expected = {
        name: record_id(key, text) in data["members"] for name, text in read_texts(recipe.train).items()
    }  # fmt: skip
    assert scored(tmp_path / "run") == expected
    assert sum(expected.values()) == 48
    found = results(tmp_path / "run")
    assert found["models"]["student"]["reference"]["name"] == str(recipe.start)
    assert found["attacks"]["loss"]["teacher"]["status"] == "ok"


@pytest.mark.parametrize("saw", ["train", "unknown"])
def test_nothing_is_said_of_a_teacher_that_may_know_the_held_out_records(
    saw: str, recipe: Recipe, tmp_path: Path
) -> None:
    assert recipe.distill(tmp_path / "student", "--teacher-saw", saw).code == 0
    done = recipe.attack(tmp_path / "student", tmp_path / "run", "--gate", "teacher.auc <= 0.9")
    assert done.code == 3, done.err
    found = results(tmp_path / "run")
    loss = found["attacks"]["loss"]
    assert [loss[model]["status"] for model in ("teacher", "student")] == ["not_applicable", "ok"]
    assert "may be members of the teacher" in loss["teacher"]["reason"]
    assert loss["comparison"]["student"]["status"] == "not_applicable"
    assert any("the student's figures are lower bounds" in line for line in found["validity"]["warnings"])
    assert "lower bounds" in done.out


def test_nonmembers_of_their_own_are_found_too(recipe: Recipe, tmp_path: Path) -> None:
    others = tiny.write_jsonl(tmp_path / "others.jsonl", texts(80)[60:], prefix="o")
    assert recipe.distill(tmp_path / "student", "--nonmembers", others).code == 0
    done = recipe.attack(tmp_path / "student", tmp_path / "run")
    assert done.code == 0, done.err
    assert sum(scored(tmp_path / "run").values()) == 60
    assert len(scored(tmp_path / "run")) == 80
    assert results(tmp_path / "run")["attacks"]["loss"]["teacher"]["status"] == "ok"
    moved = shutil.move(others, tmp_path / "moved.jsonl")
    check_refused(recipe.attack(tmp_path / "student", tmp_path / "again"), "there is none", "--nonmembers FILE")
    again = recipe.attack(
        tmp_path / "student", tmp_path / "again", "--train", recipe.train, "--nonmembers", moved
    )  # fmt: skip
    assert again.code == 0, again.err


def test_data_that_moved_is_named_by_train(recipe: Recipe, student: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    moved = shutil.move(recipe.train, tmp_path / "new" / "data.jsonl")
    check_refused(recipe.attack(student, tmp_path / "run"), "there is none", "--train FILE")
    done = recipe.attack(student, tmp_path / "run", "--train", moved)
    assert done.code == 0, done.err  # the key still lies where distill put it
    shutil.move(f"{recipe.train}{KEY_SUFFIX}", f"{moved}{KEY_SUFFIX}")
    done = recipe.attack(student, tmp_path / "run", "--train", moved)
    assert done.code == 0, done.err


def test_a_changed_file_is_refused_plainly(recipe: Recipe, student: Path, tmp_path: Path) -> None:
    with recipe.train.open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "text": "one more"}\n')
    check_refused(
        recipe.attack(student, tmp_path / "run"),
        "has changed since the student was distilled",
        "61 records",
        "60 records",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["data"]["members"].append(content["data"]["held_out"].pop()),
        lambda content: content["data"].update(teacher_saw="train"),
        lambda content: content["start"].update(name="elsewhere"),
        lambda content: content["utility"]["nll"]["student"].update(value=1.0),
    ],
)
def test_a_manifest_edited_by_hand_is_refused(
    change: Callable[[dict[str, Any]], object], recipe: Recipe, student: Path, tmp_path: Path
) -> None:
    edit(student / "kdaudit.json", change)
    check_refused(recipe.attack(student, tmp_path / "run"), "was changed after distill wrote it")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(schema="kdaudit.distillation/9"), "this version reads"),
        (lambda content: content["data"].pop("members"), "data.members is missing"),
        (lambda content: content.pop("start"), "start.name is missing"),
        (lambda content: content.pop("student"), "student.weights_sha256 is missing"),
        (lambda content: content.pop("signature"), "signature is missing"),
    ],
)
def test_a_manifest_that_lacks_a_part_is_refused(
    change: Callable[[dict[str, Any]], object], words: str, recipe: Recipe, student: Path, tmp_path: Path
) -> None:
    edit(student / "kdaudit.json", change)
    check_refused(recipe.attack(student, tmp_path / "run"), words)


def test_no_json_and_no_key_are_refused(recipe: Recipe, student: Path, tmp_path: Path) -> None:
    key = Path(f"{recipe.train}{KEY_SUFFIX}")
    assert key.stat().st_mode & 0o077 == 0
    own = key.read_text(encoding="ascii")
    key.write_text("00" * 32, encoding="ascii")
    check_refused(recipe.attack(student, tmp_path / "run"), "is not its key")
    key.write_text("no key", encoding="ascii")
    check_refused(recipe.attack(student, tmp_path / "run"), "holds no key")
    key.unlink()
    check_refused(recipe.attack(student, tmp_path / "run"), "key of the record ids cannot be read", "--key-file")
    (tmp_path / "kept").write_text(own, encoding="ascii")
    done = recipe.attack(student, tmp_path / "run", "--key-file", tmp_path / "kept")
    assert done.code == 0, done.err
    (student / "kdaudit.json").write_text("{", encoding="utf-8")
    check_refused(recipe.attack(student, tmp_path / "run2"), "not a readable manifest")


def test_a_student_whose_weights_were_changed_is_refused(recipe: Recipe, student: Path, tmp_path: Path) -> None:
    tiny.model(seed=8, context=128).save_pretrained(student)
    check_refused(recipe.attack(student, tmp_path / "run"), "are not those that")


def test_a_start_that_is_gone_is_said_and_one_that_changed_is_refused(
    recipe: Recipe, student: Path, tmp_path: Path
) -> None:
    start = Path(shutil.copytree(recipe.start, tmp_path / "start"))
    own = Recipe(recipe.teacher, start, recipe.train)
    assert own.distill(tmp_path / "other").code == 0
    tiny.save(start, seed=8, context=128)
    check_refused(own.attack(tmp_path / "other", tmp_path / "run"), "has changed since", "--student-reference")
    shutil.rmtree(start)
    done = own.attack(tmp_path / "other", tmp_path / "run")
    assert done.code == 0, done.err
    assert "is not there" in done.out
    check_refused(own.attack(tmp_path / "other", tmp_path / "run2", "--attack", "reference"), "no reference model")


def test_students_of_the_same_records_are_audited_together_and_others_are_not(
    recipe: Recipe, student: Path, tmp_path: Path
) -> None:
    twin, stranger = tmp_path / "twin", tmp_path / "stranger"
    assert recipe.distill(twin, "--objective", "hard").code == 0
    assert recipe.distill(stranger, "--seed", 1).code == 0
    done = recipe.attack(student, tmp_path / "run", "--student", twin)
    assert done.code == 0, done.err
    assert set(results(tmp_path / "run")["models"]) == {"teacher", "student", "student-2"}
    check_refused(
        recipe.attack(student, tmp_path / "run2", "--student", stranger), "student-2 was distilled on other records"
    )


def test_records_given_by_hand_come_first(recipe: Recipe, student: Path, tmp_path: Path) -> None:
    members, nonmembers = (
        tiny.write_jsonl(tmp_path / f"{name}.jsonl", texts(40, seed=5)[part], prefix=name)
        for name, part in (("m", slice(0, 20)), ("n", slice(20, 40)))
    )
    done = recipe.attack(student, tmp_path / "run", "--members", members, "--nonmembers", nonmembers)
    assert done.code == 0, done.err
    assert len(scored(tmp_path / "run")) == 40
    assert results(tmp_path / "run")["models"]["student"]["reference"]["name"] == str(recipe.start)


def test_a_manifest_speaks_of_its_own_teacher_alone(recipe: Recipe, student: Path, tmp_path: Path) -> None:
    other = tiny.save(tmp_path / "other-teacher", seed=7, context=128)
    stranger = Recipe(other, recipe.start, recipe.train)
    check_refused(stranger.attack(student, tmp_path / "run"), "is not the teacher of the student", str(recipe.teacher))


def test_an_unfinished_student_is_said_to_be(recipe: Recipe, tmp_path: Path) -> None:
    work = tmp_path / "student" / "training"
    work.mkdir(parents=True)
    (work / "identity.json").write_text("{}", encoding="utf-8")
    check_refused(recipe.attack(tmp_path / "student", tmp_path / "run"), "is not finished", "it continues")
    check_refused(recipe.distill(tmp_path / "student"), "an unfinished run with other settings", "--no-resume")
    done = recipe.distill(tmp_path / "student", "--no-resume")
    assert done.code == 0, done.err


def test_a_reference_that_is_missing_is_accounted_for_model_by_model(recipe: Recipe, tmp_path: Path) -> None:
    done = recipe.distill(tmp_path / "student", "--teacher-saw", "train", start=("--student-layers", "0,1"))
    assert done.code == 0, done.err
    check_refused(
        recipe.attack(tmp_path / "student", tmp_path / "run", "--attack", "reference"),
        "teacher: the held-out records may be members", "student: it started from layers of a teacher",
    )  # fmt: skip


def test_records_with_prompts_beside_records_without_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    rows = [{"id": f"p{i}", "prompt": text[:8], "completion": text[8:]} for i, text in enumerate(texts(30, seed=4))]
    prompted = tmp_path / "prompted.jsonl"
    prompted.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ("holds prompts, of which the completions alone are scored", "holds none")
    check_refused(recipe.distill(tmp_path / "student", "--nonmembers", prompted), *words)
    check_refused(
        recipe.attack(recipe.start, tmp_path / "run", "--members", recipe.train, "--nonmembers", prompted), *words
    )
