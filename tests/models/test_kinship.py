"""A copy is known by its tensors, however it was saved; what was trained is no copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.kinship import holds_same_tensors, relative_distance
from tests.commands import Given, check_refused, results

Weights = dict[str, torch.Tensor]


def found(folder: Path) -> Checkpoint:
    return find(str(folder), option="--reference")


def rewritten(folder: Path, to: Path, change: Callable[[Weights], Weights]) -> Path:
    shutil.copytree(folder, to)
    save_file(change(load_file(folder / "model.safetensors")), to / "model.safetensors", metadata={"format": "pt"})
    return to


def split(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    weights = load_file(to / "model.safetensors")
    (to / "model.safetensors").unlink()
    names = sorted(weights)
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for place in set(places.values()):
        save_file({name: weights[name] for name in names if places[name] == place}, to / place)
    (to / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return to


def cast(dtype: torch.dtype) -> Callable[[Weights], Weights]:
    return lambda weights: {name: weight.to(dtype) for name, weight in weights.items()}


def bare(weights: Weights) -> Weights:
    return {name.removeprefix("transformer."): weight for name, weight in weights.items()}


COPIES: dict[str, Callable[[Weights], Weights]] = {
    "again": lambda weights: dict(reversed(list(weights.items()))),
    "bfloat16": cast(torch.bfloat16),
    "float16": cast(torch.float16),
    "float64": cast(torch.float64),
    "there and back": lambda weights: cast(torch.float32)(cast(torch.bfloat16)(weights)),
    "bare body": bare,
}


@pytest.mark.parametrize("how", [*COPIES, "split"])
def test_a_copy_is_a_copy_however_it_was_saved(how: str, base: Path, tmp_path: Path) -> None:
    copy = split(base, tmp_path / "x") if how == "split" else rewritten(base, tmp_path / "x", COPIES[how])
    assert found(copy).weights_sha256 != found(base).weights_sha256
    assert holds_same_tensors(found(copy), found(base))
    assert holds_same_tensors(found(base), found(copy))


def moved(share: float) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        rng = torch.Generator().manual_seed(0)
        return {
            name: weight + share * weight.norm() / weight.numel() ** 0.5 * torch.randn(weight.shape, generator=rng)
            for name, weight in weights.items()
        }

    return change


def test_a_checkpoint_that_was_trained_on_is_no_copy_and_its_distance_is_measured(base: Path, tmp_path: Path) -> None:
    near = rewritten(base, tmp_path / "near", moved(0.01))
    assert not holds_same_tensors(found(near), found(base))
    expected, below = load_file(near / "model.safetensors"), load_file(base / "model.safetensors")
    names = [name for name in expected if name != "lm_head.weight"]
    gap = sum(float((expected[name] - below[name]).square().sum()) for name in names) ** 0.5
    size = sum(float(below[name].square().sum()) for name in names) ** 0.5
    assert relative_distance(found(base), found(near)) == pytest.approx(gap / size, rel=0.1)


def test_another_architecture_has_no_distance(given: Given, base: Path, checkpoint: Callable[..., Path]) -> None:
    llama = found(checkpoint("llama", seed=3))
    assert not holds_same_tensors(llama, found(base))
    assert relative_distance(llama, found(base)) is None


@pytest.mark.parametrize("how", ["again", "bfloat16"])
@pytest.mark.parametrize("of", ["teacher", "student"])
def test_a_copy_of_an_audited_model_is_refused_as_a_reference(of: str, how: str, given: Given, tmp_path: Path) -> None:
    copy = rewritten(getattr(given, of), tmp_path / "x", COPIES[how])
    for option in ("--student-reference", "--reference"):
        done = given.attack(tmp_path / "run", "--attack", "reference", option, copy)
        check_refused(
            done, "--student-reference" if "student" in option else "--reference", f"copy of the audited {of}"
        )


def test_a_reference_that_is_hardly_another_model_is_named(given: Given, tmp_path: Path) -> None:
    near = rewritten(given.teacher, tmp_path / "near", moved(0.0005))
    done = given.attack(tmp_path / "run", "--attack", "loss", "--attack", "reference", "--student-reference", near)
    assert done.code == 0, done.err
    (warning,) = [one for one in results(tmp_path / "run")["validity"]["warnings"] if "are within" in one]
    assert "of those of the teacher" in warning
