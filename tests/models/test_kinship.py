"""A copy is known by its tensors, however it was saved; what was trained is no copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdaudit.models import kinship
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.kinship import holds_same_tensors, relative_distance
from tests.commands import Given, check_refused, results
from tests.models.copies import Weights, cast, pickled, rewritten, split


def found(folder: Path) -> Checkpoint:
    return find(str(folder), option="--reference", allow_pickle=True)


def bare(weights: Weights) -> Weights:
    return {name.removeprefix("transformer."): weight for name, weight in weights.items()}


def padded(weights: Weights) -> Weights:
    return {
        name: torch.cat([weight, torch.zeros(84, weight.shape[1])]) if name.endswith("wte.weight") else weight
        for name, weight in weights.items()
    }


def same(weights: Weights) -> Weights:
    return weights


def mixed(weights: Weights) -> Weights:
    return {name: weight.to(torch.float16 if weight.ndim == 1 else torch.bfloat16) for name, weight in weights.items()}


def wrapped(weights: Weights) -> Weights:
    return {f"module.{name}": weight for name, weight in weights.items()}


def with_a_mask(weights: Weights) -> Weights:
    return weights | {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}


COPIES: dict[str, Callable[[Weights], Weights]] = {
    "again": same,
    "with a mask": with_a_mask,
    "bfloat16": cast(torch.bfloat16),
    "float16": cast(torch.float16),
    "float64": cast(torch.float64),
    "float8": cast(torch.float8_e4m3fn),
    "there and back": lambda weights: cast(torch.float32)(cast(torch.bfloat16)(weights)),
    "mixed": mixed,
    "bare body": bare,
    "wrapped": wrapped,
    "larger vocabulary": padded,
}
FILES = {"split": split, "pickled": pickled}


@pytest.mark.parametrize("how", [*COPIES, *FILES])
def test_a_copy_is_a_copy_however_it_was_saved(how: str, base: Path, tmp_path: Path) -> None:
    to = tmp_path / "x"
    copy = FILES[how](base, to) if how in FILES else rewritten(base, to, COPIES[how])
    assert found(copy).weights_sha256 != found(base).weights_sha256
    assert holds_same_tensors(found(copy), found(base))
    assert holds_same_tensors(found(base), found(copy))
    is_other = how in {"bfloat16", "float16", "float8", "there and back", "mixed", "larger vocabulary"}
    assert holds_same_tensors(found(base), found(copy), exactly=True) != is_other


def test_copies_of_which_one_is_rounded_otherwise_than_the_other_are_near(base: Path, tmp_path: Path) -> None:
    twice = rewritten(base, tmp_path / "x", lambda weights: cast(torch.bfloat16)(cast(torch.float16)(weights)))
    distance = relative_distance(found(base), found(twice))
    assert distance is not None
    assert 0.001 < distance < 0.0025


def moved(share: float) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        rng = torch.Generator().manual_seed(0)
        return {
            name: weight + share * weight.norm() / weight.numel() ** 0.5 * torch.randn(weight.shape, generator=rng)
            for name, weight in weights.items()
        }

    return change


def test_the_distance_is_that_of_all_weights(base: Path, tmp_path: Path) -> None:
    near = rewritten(base, tmp_path / "near", moved(0.01))
    assert not holds_same_tensors(found(near), found(base))
    expected, below = load_file(near / "model.safetensors"), load_file(base / "model.safetensors")
    gap = sum(float((expected[name] - below[name]).square().sum()) for name in below) ** 0.5
    size = sum(float(below[name].square().sum()) for name in below) ** 0.5
    assert relative_distance(found(base), found(near)) == pytest.approx(gap / size, rel=0.05)


@pytest.mark.parametrize("at", ["transformer.h.1.mlp.c_fc.weight", "transformer.wte.weight", "transformer.ln_f.bias"])
def test_one_number_of_one_tensor_makes_another_model(at: str, base: Path, tmp_path: Path) -> None:
    """Also where it lies in a row that is not among the few that are read first."""

    def change(weights: Weights) -> Weights:
        weights[at].view(-1)[weights[at].numel() // 2] += 0.5
        return weights

    assert not holds_same_tensors(found(rewritten(base, tmp_path / "x", change)), found(base))


def test_a_model_that_was_trained_a_little_is_no_copy_of_its_start_in_bfloat16(base: Path, tmp_path: Path) -> None:
    start = rewritten(base, tmp_path / "start", cast(torch.bfloat16))
    trained = rewritten(start, tmp_path / "student", lambda weights: moved(1e-4)(cast(torch.float32)(weights)))
    assert not holds_same_tensors(found(trained), found(start))


def test_another_architecture_has_no_distance_and_no_tensor_of_it_is_read(
    base: Path, checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, ...]] = []
    original = kinship._numbers

    def noting(pair: Any, parts: Any) -> Any:
        read.append(pair[0].shape)
        return original(pair, parts)

    monkeypatch.setattr(kinship, "_numbers", noting)
    assert relative_distance(found(checkpoint("llama", seed=3)), found(base)) is None
    assert read == []
    other_words = relative_distance(found(checkpoint("gpt2", context=32, vocabulary=280)), found(base))
    assert other_words is not None
    assert other_words > 0.5  # drawn by another seed
    assert read
    assert not [shape for shape in read if shape[0] == 280]  # embeddings of another vocabulary are not compared


def test_large_tensors_are_read_in_parts_that_cover_them() -> None:
    for shape in ((7,), (5000, 3000), (3, 4000, 2000), (40, 50, 60), (2, 3, 4, 5)):
        read = torch.zeros(shape, dtype=torch.uint8)
        for part in kinship._all(shape):
            read[part] += 1
            assert read[part].numel() <= max(kinship.CHUNK, shape[-1])
        assert bool((read == 1).all())
        for part in kinship._some(shape):
            assert 0 < read[part].numel() <= max(7, shape[-1])


@pytest.mark.parametrize("how", ["again", "bfloat16"])
@pytest.mark.parametrize("of", ["teacher", "student"])
def test_a_copy_of_an_audited_model_is_refused_as_a_reference(of: str, how: str, given: Given, tmp_path: Path) -> None:
    copy = rewritten(getattr(given, of), tmp_path / "x", COPIES[how])
    for option in ("--student-reference", "--teacher-reference", "--reference"):
        done = given.attack(tmp_path / "run", "--attack", "reference", option, copy)
        check_refused(done, f"is a copy of the audited {of}, saved again", "reference (or --reference)")


def test_a_reference_that_is_hardly_another_model_is_named(given: Given, tmp_path: Path) -> None:
    near = rewritten(given.teacher, tmp_path / "near", moved(0.0005))
    done = given.attack(tmp_path / "run", "--attack", "loss", "--attack", "reference", "--student-reference", near)
    assert done.code == 0, done.err
    (warning,) = [one for one in results(tmp_path / "run")["validity"]["warnings"] if "are within" in one]
    assert "of those of the teacher" in warning


def test_a_file_that_cannot_be_read_in_parts_says_nothing(base: Path, tmp_path: Path) -> None:
    old = pickled(base, tmp_path / "old")
    weights = load_file(base / "model.safetensors")
    torch.save(weights, old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert not holds_same_tensors(found(old), found(base))
    assert relative_distance(found(old), found(base)) is None
