"""Checkpoints that are stored quantised, and files that hold something else than their config.json says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import load
from tests import tiny

Copied = Callable[[], Path]
IDS = torch.arange(1, 20)[None]

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


def found(folder: Path, **options: Any) -> Checkpoint:
    return find(str(folder), option="--student", **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("whole") / "llama", "llama", seed=3)


@pytest.fixture(scope="module", params=["4bit", "8bit"])
def packed(request: pytest.FixtureRequest, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("packed") / request.param
    load(found(whole, load=request.param), device="cpu", dtype="float32").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder, request.param


def test_what_is_stored_quantised_is_said_counted_and_loaded_as_it_is(packed: tuple[Path, str], whole: Path) -> None:
    folder, how = packed
    stored, plain = found(folder), found(whole)
    assert (stored.load, stored.stored, stored.dtype) == (how, how, "float32")
    assert stored.describe()["load"] == how
    assert stored.n_parameters == plain.n_parameters == sum(w.numel() for w in tiny.model("llama").parameters())
    model = load(stored, device="cpu", dtype="float32")
    assert not any(getattr(module, "support_avx512bf16_for_cpu", False) for module in model.modules())
    with torch.no_grad():
        logits, expected = (
            one(input_ids=IDS).logits for one in (model, load(found(whole, load=how), device="cpu", dtype="float32"))
        )
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_another_quantisation_cannot_be_asked_of_it(packed: tuple[Path, str]) -> None:
    folder, how = packed
    assert found(folder, load=how).load == how
    with pytest.raises(CheckpointError, match=f"stored quantised \\({how}\\)"):
        found(folder, load="8bit" if how == "4bit" else "4bit")


def edit(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("settings", [{"quant_method": "nonesuch", "bits": 4}, {"bits": 4}, {"quant_method": 7}])
def test_an_unknown_quantisation_is_refused(settings: dict[str, object], copied: Copied) -> None:
    folder = copied()
    edit(folder, quantization_config=settings)
    with pytest.raises(CheckpointError, match="quantisation that transformers does not know"):
        found(folder)


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


WEIGHT = "transformer.h.1.mlp.c_fc.weight"


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize("name", [WEIGHT, "transformer.wte.weight", "transformer.h.0.ln_1.bias"])
def test_whole_numbers_are_never_taken_for_weights(kind: torch.dtype, name: str, copied: Copied) -> None:
    folder = copied()
    edit_weights(folder, lambda weights: weights.update({name: weights[name].to(kind)}))
    with pytest.raises(ModelError, match="whole numbers"):
        load(found(folder), device="cpu", dtype="float32")


def bare(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        weights[name.removeprefix("transformer.")] = weights.pop(name)


def test_whole_numbers_are_found_under_the_names_of_the_bare_body_too(copied: Copied) -> None:
    folder = copied()
    edit_weights(folder, bare)
    load(found(folder), device="cpu", dtype="float32")
    edit_weights(folder, lambda weights: weights.update({"h.1.mlp.c_fc.weight": weights["h.1.mlp.c_fc.weight"].char()}))
    with pytest.raises(ModelError, match="whole numbers"):
        load(found(folder), device="cpu", dtype="float32")


@pytest.mark.parametrize(("layers", "what"), [(1, "more layers"), (3, "lacks")])
@pytest.mark.parametrize("is_bare", [False, True])
def test_other_numbers_of_layers_than_said_are_refused(layers: int, what: str, is_bare: bool, copied: Copied) -> None:
    folder = copied()
    edit(folder, n_layer=layers)
    if is_bare:
        edit_weights(folder, bare)
    with pytest.raises(ModelError, match=what):
        load(found(folder), device="cpu", dtype="float32")


def test_weights_of_a_layer_that_the_model_has_no_place_for_are_refused(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "llama")
    name = "model.layers.0.self_attn.q_proj.bias"
    edit_weights(folder, lambda weights: weights.update({name: torch.ones(32)}))
    with pytest.raises(ModelError, match="more weights in its layers"):
        load(found(folder), device="cpu", dtype="float32")


def test_what_older_releases_saved_beside_the_weights_is_no_harm(copied: Copied) -> None:
    folder = copied()
    extras = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.uint8),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4), "score.weight": torch.ones(2, 32),
        "transformer.h.1.attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.bool),
    }  # fmt: skip
    expected = load(found(folder), device="cpu", dtype="float32")(input_ids=IDS).logits
    edit_weights(folder, lambda weights: weights.update(extras))
    assert torch.equal(load(found(folder), device="cpu", dtype="float32")(input_ids=IDS).logits, expected)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ""])
def test_an_index_that_points_outside_of_its_folder_is_refused(name: str, copied: Copied) -> None:
    folder = copied()
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="files of its own folder"):
        found(folder)
