"""References, tokenizers and several students: what can be compared, what cannot, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.commands import Given, check_refused, results

Checkpoints = Callable[..., Path]


@pytest.fixture(scope="module")
def other_tokenizer(checkpoint: Checkpoints) -> Path:
    """A model that splits texts into other tokens than `given`'s."""
    return checkpoint("llama", seed=5, vocabulary=280)


def test_a_reference_with_another_tokenizer_is_compared_by_bytes_alone(
    given: Given, other_tokenizer: Path, tmp_path: Path
) -> None:
    done = given.attack(
        tmp_path, "--attack", "all", "--teacher-reference", given.start, "--student-reference", other_tokenizer
    )
    assert done.code == 0, done.err
    attacks = results(tmp_path)["attacks"]
    assert attacks["reference"]["student"]["status"] == "ok"
    scores = pq.read_table(tmp_path / "scores.parquet", filters=[("attack", "==", "reference")])["score"]
    assert scores.null_count == 0
    for name in ("ez", "wbc"):
        assert attacks[name]["teacher"]["status"] == "ok"
        assert attacks[name]["student"] == {
            "status": "not_applicable",
            "reason": "the reference model has another tokenizer, so its tokens cannot be compared one by one",
            "unscored": 0,
        }
        assert attacks[name]["comparison"]["student"]["status"] == "not_applicable"
    assert "ez on student, wbc on student: the reference model has another tokenizer" in done.out


def test_teacher_and_student_with_different_tokenizers_are_audited_on_the_same_bytes(
    given: Given, other_tokenizer: Path, tmp_path: Path
) -> None:
    done = given.having(student=other_tokenizer).attack(tmp_path, "--max-tokens", 8, "--reference", given.start)
    assert done.code == 0, done.err
    found = results(tmp_path)
    assert {found["attacks"][name]["student"]["status"] for name in ("loss", "zlib", "reference", "min-k")} == {"ok"}
    assert found["data"]["cut"] > 0


def test_a_token_wise_attack_asked_for_by_name_across_tokenizers_is_refused(
    given: Given, other_tokenizer: Path, tmp_path: Path
) -> None:
    for name in ("ez", "wbc"):
        done = given.attack(tmp_path / "run", "--attack", name, "--reference", other_tokenizer)
        check_refused(done, f"--attack {name}", "another tokenizer", "--list-attacks")
    assert not (tmp_path / "run").exists()


def test_without_a_reference_the_default_attacks_say_why_and_named_ones_are_refused(
    given: Given, tmp_path: Path
) -> None:
    done = given.attack(tmp_path / "run")
    assert done.code == 0, done.err
    cells = results(tmp_path / "run")["attacks"]["reference"]
    assert cells["teacher"]["reason"] == "no reference model was given (--teacher-reference)"
    assert cells["student"]["reason"] == "no reference model was given (--student-reference)"
    for name in ("reference", "ez", "wbc"):
        check_refused(given.attack(tmp_path / "other", "--attack", name), f"--attack {name}", "no reference")


@pytest.mark.parametrize("option", ["--teacher-reference", "--student-reference", "--reference"])
@pytest.mark.parametrize("model", ["teacher", "student"])
@pytest.mark.parametrize("is_copied", [False, True])
def test_a_reference_with_the_weights_of_an_audited_model_is_refused(
    option: str, model: str, is_copied: bool, given: Given, tmp_path: Path
) -> None:
    reference = getattr(given, model)
    if is_copied:
        reference = shutil.copytree(reference, tmp_path / "a copy")
    done = given.attack(tmp_path / "run", option, reference)
    check_refused(done, "same weights as the", model, "must not have seen the records")


def test_several_students_share_one_reference_or_bring_one_each(
    given: Given, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    second, second_start = checkpoint(seed=7), checkpoint(seed=8)
    students = ("--student", second, "--attack", "loss", "--attack", "reference")

    done = given.attack(tmp_path / "one", *students, "--student-reference", given.start)
    assert done.code == 0, done.err
    found = results(tmp_path / "one")
    assert list(found["models"]) == ["teacher", "student", "student-2"]
    assert list(found["attacks"]["reference"]["comparison"]) == ["student", "student-2"]
    starts = [found["models"][name]["reference"]["name"] for name in ("student", "student-2")]
    assert starts == [str(given.start)] * 2
    assert list(found["mixed_supervision"]) == ["student", "student-2"]

    each = ("--student-reference", given.start, "--student-reference", second_start)
    done = given.attack(tmp_path / "each", *students, *each, "--teacher-reference", given.start)
    assert done.code == 0, done.err
    found = results(tmp_path / "each")
    starts = [found["models"][name]["reference"]["name"] for name in ("student", "student-2")]
    assert starts == [str(given.start), str(second_start)]

    # Holm's family is attacks x students: four p-values, the smallest times four.
    p_values = {
        (attack, student): figures["auc"]["p_value"]
        for attack, cells in found["attacks"].items()
        for student, figures in cells["comparison"].items()
    }
    attack, student = min(p_values, key=lambda cell: p_values[cell])
    adjusted = found["attacks"][attack]["comparison"][student]["auc"]["p_value_holm"]
    assert adjusted == pytest.approx(min(1.0, 4 * p_values[attack, student]))


def test_a_wrong_number_of_references_is_refused(given: Given, checkpoint: Checkpoints, tmp_path: Path) -> None:
    references = ("--student-reference", given.start, "--student-reference", given.start)
    done = given.attack(tmp_path / "run", *references)
    check_refused(done, "--student-reference: 2 given, but 1 of --student", "one for all")


def test_one_checkpoint_in_two_roles_is_refused(given: Given, tmp_path: Path) -> None:
    copied = shutil.copytree(given.teacher, tmp_path / "copy")
    check_refused(given.attack(tmp_path / "a", "--student", copied), "the same checkpoint as the teacher")
    check_refused(given.attack(tmp_path / "b", "--student", given.student), "the same checkpoint as the student")
