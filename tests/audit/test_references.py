"""References, tokenizers and several students: what can be compared, what cannot, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from kdaudit.models.checkpoint import find
from kdaudit.models.kinship import holds_same_tensors, relative_distance
from tests import tiny
from tests.commands import Given, check_refused, results, texts
from tests.distill.students import Recipe
from tests.models.copies import Weights, cast, rewritten

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


def test_a_reference_nearer_to_the_student_than_to_its_start_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    student, later = tmp_path / "student", tmp_path / "later"
    for out, options in ((student, ()), (later, ("--epochs", 2))):
        done = recipe.distill(out, *options)
        assert done.code == 0, done.err
    (later / "kdaudit.json").unlink()  # else it says itself what it saw
    done = recipe.attack(student, tmp_path / "run", "--student-reference", later)
    check_refused(done, "lies nearer to the student (", "so it has learnt from the records too", f"give {recipe.start}")

    resaved = rewritten(recipe.start, tmp_path / "resaved", cast(torch.bfloat16))
    for name, reference in (("itself", recipe.start), ("cast", resaved)):
        done = recipe.attack(student, tmp_path / name, "--student-reference", reference)
        assert done.code == 0, done.err
        assert "learnt from the records too" not in done.err + done.out

    half_way = rewritten(student, tmp_path / "half", between(recipe.start, 0.515))
    done = recipe.attack(student, tmp_path / "half run", "--student-reference", half_way)
    assert done.code == 0, done.err
    (warning,) = [one for one in results(tmp_path / "half run")["validity"]["warnings"] if "lies nearer" in one]
    assert warning.startswith("the reference ")
    assert "the reference attacks show nothing" in warning


def test_the_start_of_a_student_that_hardly_learnt_is_its_reference(recipe: Recipe, tmp_path: Path) -> None:
    start = rewritten(recipe.start, tmp_path / "start", cast(torch.bfloat16))
    student = tmp_path / "student"
    done = Recipe(recipe.teacher, start, recipe.train).distill(student, "--lr", 1e-15)
    assert done.code == 0, done.err
    assert holds_same_tensors(find(str(student), option="--s"), find(str(start), option="--s")), "a case worth trying"
    for name, options in (("own", ()), ("given", ("--student-reference", start))):
        done = recipe.attack(student, tmp_path / name, "--attack", "reference", *options)
        assert done.code == 0, done.err
        assert not [one for one in results(tmp_path / name)["validity"]["warnings"] if "learnt from" in one]


def test_a_student_of_a_teacher_that_saw_nothing_may_start_from_the_teacher(recipe: Recipe, tmp_path: Path) -> None:
    own = Recipe(recipe.teacher, recipe.teacher, recipe.train)
    assert own.distill(tmp_path / "same").code == 0
    done = own.attack(tmp_path / "same", tmp_path / "same run", "--attack", "reference")
    assert done.code == 0, done.err
    rounded = rewritten(recipe.teacher, tmp_path / "rounded", cast(torch.bfloat16))
    for saw, code in (("none", 0), ("train", 2)):
        own = Recipe(recipe.teacher, rounded, recipe.train)
        assert own.distill(tmp_path / saw, "--teacher-saw", saw).code == 0
        done = own.attack(tmp_path / saw, tmp_path / f"{saw} run")
        assert done.code == code, done.err
    check_refused(done, "is a copy of the audited teacher, saved again", "must not have seen the records")


def test_a_reference_that_is_kin_to_the_teacher_is_named(recipe: Recipe, tmp_path: Path) -> None:
    """It may be what the teacher started from, which is a reference: nobody can tell."""
    student = tmp_path / "student"
    assert recipe.distill(student, "--teacher-saw", "train").code == 0
    kin = rewritten(recipe.teacher, tmp_path / "kin", lambda own: {name: 1.01 * weight for name, weight in own.items()})
    done = recipe.attack(student, tmp_path / "run", "--student-reference", kin)
    assert done.code == 0, done.err
    (warning,) = [one for one in results(tmp_path / "run")["validity"]["warnings"] if "lies nearer" in one]
    assert "kin lies nearer to the teacher (0.99% of its weights) than to what the student started from" in warning


def test_one_model_saved_twice_is_not_compared_with_itself(given: Given, tmp_path: Path) -> None:
    again = rewritten(given.teacher, tmp_path / "again", lambda weights: weights, note="saved twice")
    check_refused(given.having(student=again).attack(tmp_path / "run"), "the same checkpoint as the teacher")
    rounded = rewritten(given.teacher, tmp_path / "rounded", cast(torch.bfloat16))
    assert given.having(student=rounded).attack(tmp_path / "run", "--attack", "loss").code == 0


@pytest.mark.filterwarnings("ignore")
def test_a_merged_copy_of_an_adapter_is_refused_as_a_reference(
    given: Given, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for architecture in ("gpt2", "llama"):
        base = checkpoint(architecture, seed=3)
        adapted: Any = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(r=4, lora_alpha=1, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False),
        )
        adapter, merged = tmp_path / architecture, tmp_path / f"{architecture} merged"
        adapted.save_pretrained(adapter)
        adapted.merge_and_unload().save_pretrained(merged)
        tiny.tokenizer().save_pretrained(merged)
        pair = [find(str(one), option="--x") for one in (adapter, merged)]
        assert relative_distance(pair[0], pair[1]) == pytest.approx(0, abs=1e-6)
        options = ("--attack", "loss", "--student-reference")
        one = given.having(student=adapter)
        done = one.attack(tmp_path / "run", *options, merged)
        check_refused(done, "is a copy of the audited student")
        further = rewritten(merged, tmp_path / f"{architecture} further", between(base, 1.5))
        done = one.attack(tmp_path / "run", *options, further)
        check_refused(done, "so it has learnt from the records too", f"give {base}")
        done = given.having(student=merged).attack(tmp_path / "run", *options, adapter)
        check_refused(done, "is a copy of the audited student")
        assert one.attack(tmp_path / f"{architecture} run", *options, base).code == 0


def between(other: Path, share: float) -> Callable[[Weights], Weights]:
    """`share` of the way from the weights of `other` to those that are given."""
    start = load_file(other / "model.safetensors")
    return lambda own: {name: share * weight + (1 - share) * start[name] for name, weight in own.items()}


def test_a_teacher_that_may_have_seen_the_members_is_no_reference_of_its_layers(recipe: Recipe, tmp_path: Path) -> None:
    others = tiny.write_jsonl(tmp_path / "others.jsonl", texts(60, seed=3), prefix="o")
    student = tmp_path / "student"
    done = recipe.distill(student, "--nonmembers", others, start=("--student-layers", "0"))
    assert done.code == 0, done.err
    for reference, why in ((recipe.teacher, "has the same weights as the audited teacher"),
                           (student / "start", "made of layers of the teacher of student")):  # fmt: skip
        refused = recipe.attack(student, tmp_path / "run", "--student-reference", reference)
        check_refused(refused, "--student-reference", why, "must not have seen the records")


def test_a_reference_that_was_trained_on_the_members_is_refused_by_its_own_manifest(
    recipe: Recipe, tmp_path: Path
) -> None:
    student, other = tmp_path / "student", tmp_path / "other"
    for out, seed in ((student, 0), (other, 1)):
        assert recipe.distill(out, "--seed", seed, "--split-seed", 0).code == 0
    refused = recipe.attack(student, tmp_path / "run", "--student-reference", other)
    check_refused(refused, "--student-reference", "was trained on 48 of the members of student")
