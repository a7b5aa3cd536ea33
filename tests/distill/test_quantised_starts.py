"""A student on a quantised base learns as on a whole one, and is audited as it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdaudit.models.checkpoint import find
from kdaudit.models.loading import load
from tests import tiny
from tests.commands import check_refused, results
from tests.distill.students import Recipe, manifest_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@pytest.fixture
def packed(checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    folder = tmp_path / "packed"
    start = find(str(checkpoint("llama", seed=3)), option="--student", load="4bit")
    load(start, device="cpu", dtype="float32").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_a_student_on_weights_in_4_bits_is_audited_in_4_bits_without_being_asked(
    recipe: Recipe, tmp_path: Path, checkpoint: Callable[..., Path]
) -> None:
    student = tmp_path / "student"
    start = ("--student", checkpoint("llama", seed=3))
    done = recipe.distill(student, "--lora", 2, "--student-load", "4bit", start=start)
    assert done.code == 0, done.err
    silent, asked = tmp_path / "silent", tmp_path / "asked"
    for out, options in ((silent, ()), (asked, ("--student-load", "4bit"))):
        done = recipe.attack(student, out, *options)
        assert done.code == 0, done.err
    found = results(silent)
    assert found["models"]["student"]["load"] == "4bit"
    assert found["models"]["student"]["reference"]["load"] == "4bit"
    assert any("is audited so" in warning for warning in found["validity"]["warnings"])
    assert found["attacks"] == results(asked)["attacks"]


def test_a_start_that_is_stored_quantised_is_adapted_but_not_trained_whole(
    recipe: Recipe, tmp_path: Path, packed: Path
) -> None:
    done = recipe.distill(tmp_path / "refused", start=("--student", packed))
    check_refused(done, "stored quantised (4bit)", "--lora")
    student = tmp_path / "student"
    done = recipe.distill(student, "--lora", 2, start=("--student", packed))
    assert done.code == 0, done.err
    manifest = manifest_of(student)
    assert (manifest["start"]["load"], manifest["student"]["load"]) == ("4bit", "4bit")
    from safetensors.torch import load_file

    adapter = load_file(student / "adapter_model.safetensors")
    learnt = {name: weight for name, weight in adapter.items() if "lora_B" in name}
    assert all(bool(torch.any(weight != 0)) for weight in learnt.values())
    assert any("layers.0." in name for name in learnt)
    done = recipe.attack(student, tmp_path / "run")
    assert done.code == 0, done.err
    assert results(tmp_path / "run")["models"]["student"]["load"] == "4bit"
