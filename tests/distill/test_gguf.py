"""GGUF files as teachers and as starts of students, which are written as safetensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdaudit.models.checkpoint import find
from kdaudit.models.loading import loaded
from tests.commands import kdaudit, lines, results
from tests.distill.students import Recipe, manifest_of
from tests.gguf_files import save_both

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
IDS = torch.arange(1, 20)[None]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GGUF file and a folder with the weights that are in it."""
    return save_both(tmp_path_factory.mktemp("teacher"), seed=5, lines=lines())


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_both(tmp_path_factory.mktemp("start"), seed=6, lines=lines())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    with loaded(find(str(folder), option="--student"), device="cpu", dtype="float32") as model:
        return {name: weight.clone() for name, weight in model.named_parameters()}


def test_a_student_of_gguf_files_is_the_one_of_the_same_weights_in_folders(
    teacher: tuple[Path, Path], start: tuple[Path, Path], recipe: Recipe, tmp_path: Path
) -> None:
    for k, out in enumerate(("packed", "whole")):
        done = Recipe(teacher[k], start[k], recipe.train).distill(tmp_path / out)
        assert done.code == 0, done.err
    student = tmp_path / "packed"
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= {path.name for path in student.iterdir()}
    assert "quantization_config" not in (student / "config.json").read_text()
    own, other = weights(student), weights(tmp_path / "whole")
    assert own.keys() == other.keys()
    for name, weight in own.items():
        torch.testing.assert_close(weight, other[name], atol=1e-5, rtol=0)
    content = manifest_of(student)
    assert (content["teacher"]["name"], content["teacher"]["stored_dtype"]) == (str(teacher[0]), "Q8_0")
    assert (content["start"]["name"], content["start"]["origin"]) == (str(start[0]), "checkpoint")

    done = Recipe(teacher[0], start[0], recipe.train).attack(student, tmp_path / "run", "--attack", "reference")
    assert done.code == 0, done.err
    assert results(tmp_path / "run")["models"]["student"]["reference"]["name"] == str(start[0])

    again = ("--from", student, "--method", "soft-only", "--seeds", 1, "--epochs", 2, "--plain-epochs", 1)
    done = kdaudit("mitigate", *again, "--out", tmp_path / "compared", "--quiet")
    assert done.code in {0, 3}, done.err


def test_layers_of_a_gguf_teacher_are_a_start_in_safetensors(
    teacher: tuple[Path, Path], recipe: Recipe, tmp_path: Path
) -> None:
    layers = ("--student-layers", "1")
    done = Recipe(teacher[0], recipe.start, recipe.train).distill(tmp_path / "student", start=layers)
    assert done.code == 0, done.err
    made = tmp_path / "student" / "start"
    assert (made / "model.safetensors").is_file()
    taken, whole = weights(made), weights(teacher[1])
    for name, weight in taken.items():
        assert torch.equal(weight, whole[name.replace("layers.0.", "layers.1.")]), name


def test_an_adapter_on_a_gguf_start_is_audited_with_its_base(
    teacher: tuple[Path, Path], start: tuple[Path, Path], recipe: Recipe, tmp_path: Path
) -> None:
    on_files = Recipe(teacher[0], start[0], recipe.train)
    done = on_files.distill(tmp_path / "student", "--lora", 2)
    assert done.code == 0, done.err
    done = on_files.attack(tmp_path / "student", tmp_path / "run")
    assert done.code == 0, done.err
    assert results(tmp_path / "run")["models"]["student"]["base"]["name"] == str(start[0])
