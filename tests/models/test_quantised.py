"""Checkpoints in the formats of other quantisers: what lacks is named ahead, and what can be read is exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from safetensors.torch import load_file, save_file

from kdaudit.errors import CheckpointError
from kdaudit.models import quantised
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.headers import check_headers, is_dequantised
from kdaudit.models.loading import load
from kdaudit.models.quantised import METHODS
from tests import tiny
from tests.commands import Given, check_refused, counted_loads

Copied = Callable[[], Path]
IDS = torch.arange(1, 20)[None]
OF_TRANSFORMERS = {"bitsandbytes_4bit", "bitsandbytes_8bit", "bitnet", "gemma", "gguf", "metal"}
"""What needs nothing beside transformers and the packages that kdaudit brings."""


def found(folder: Path) -> Checkpoint:
    return find(str(folder), option="--student")


def packed(folder: Path, settings: dict[str, Any], *names: str) -> Path:
    """A checkpoint whose config.json names a quantisation, and whose file has further tensors of some names."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": settings}))
    weights = load_file(folder / "model.safetensors")
    extra = {f"transformer.h.0.mlp.c_fc{name}": torch.ones(2) for name in names}
    save_file(weights | extra, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_every_quantisation_that_transformers_knows_has_its_line() -> None:
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    assert METHODS.keys() | OF_TRANSFORMERS == AUTO_QUANTIZER_MAPPING.keys()
    assert not METHODS.keys() & OF_TRANSFORMERS


@pytest.mark.parametrize("method", METHODS)
def test_what_a_quantisation_needs_and_is_not_here_is_named_before_the_first_pass(
    method: str, copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "_is_installed", lambda _: False)
    needs = METHODS[method]
    checkpoint = found(packed(copied(), {"quant_method": method}, *needs.marks[:1]))
    if needs.is_readable and not needs.packages and not needs.on_gpu:
        quantised.check_readable_here(method, checkpoint.name, "cpu")
        return
    with pytest.raises(CheckpointError, match=rf"is stored quantised \({method}\), which") as caught:
        check_headers(checkpoint, "cpu")
    said = f"{caught.value} {caught.value.hint}"
    assert "as it was before it was quantised" in said
    if needs.on_gpu:
        assert "computes on a GPU (CUDA) alone, and the device is cpu" in said
    for package in needs.packages:
        assert package in caught.value.hint.partition("pip install ")[2]
        Requirement(package)


def test_a_package_counts_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"optimum": "1.23.0", "gptqmodel": "7.7.0"}
    monkeypatch.setattr(quantised, "version", versions.__getitem__)
    with pytest.raises(CheckpointError, match=r"needs optimum>=1\.24\.0, not installed here") as caught:
        quantised.check_readable_here("gptq", "x", "cpu")
    assert caught.value.hint.startswith("pip install 'optimum>=1.24.0'; or")
    versions["optimum"] = "2.3.0"
    quantised.check_readable_here("gptq", "x", "cpu")


@pytest.mark.parametrize("method", [name for name, needs in METHODS.items() if needs.marks])
def test_whole_weights_under_the_name_of_a_quantisation_are_told_from_packed_ones(method: str, copied: Copied) -> None:
    checkpoint = found(packed(copied(), {"quant_method": method}))
    with pytest.raises(CheckpointError, match=rf"stored quantised \({method}\), and its files hold no \*") as caught:
        check_headers(checkpoint, "cpu")
    assert "take quantization_config out" in caught.value.hint


def test_a_student_that_cannot_be_read_is_refused_before_its_teacher_has_read_a_text(
    given: Given, copied: Copied, tmp_path: Path
) -> None:
    student = packed(copied(), {"quant_method": "eetq"}, ".weight_scales")
    with counted_loads() as loads:
        done = given.having(student=student).attack(tmp_path / "run", "--attack", "loss")
    check_refused(done, "eetq", "a GPU (CUDA) alone", "pip install 'kernels")
    assert not loads


def fp8(folder: Path) -> tuple[Any, Any]:
    """A LLaMA in FP8, and the model of the very numbers that are in its file."""
    tiny.save(folder, "llama", seed=3)
    weights, whole = load_file(folder / "model.safetensors"), tiny.model("llama", seed=3)
    for name, weight in list(weights.items()):
        if "proj" in name:
            scale = weight.abs().max() / 448
            weights[name] = (weight / scale).to(torch.float8_e4m3fn)
            weights[name.replace(".weight", ".weight_scale_inv")] = scale.reshape(1, 1)
            whole.get_parameter(name).data = weights[name].float() * scale
    return weights, whole


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""The sixteen numbers of E2M1 by their code (OCP Microscaling Formats 1.0)."""


def mxfp4(folder: Path) -> tuple[Any, Any]:
    """A tiny gpt-oss in MXFP4: 32 codes and an exponent a block."""
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, num_local_experts=2, num_experts_per_tok=1, max_position_embeddings=64,
        bos_token_id=0, eos_token_id=0, pad_token_id=0, layer_types=["full_attention"] * 2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    torch.manual_seed(0)
    whole = GptOssForCausalLM(config).eval()
    whole.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for name, weight in list(weights.items()):
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, inputs, outputs = weight.shape
            codes = torch.randint(0, 16, (experts, outputs, inputs // 32, 32))
            scales = torch.randint(124, 128, codes.shape[:3], dtype=torch.uint8)
            del weights[name]
            weights[f"{name}_blocks"] = (codes[..., 0::2] | (codes[..., 1::2] << 4)).to(torch.uint8)
            weights[f"{name}_scales"] = scales
            values = FP4[codes] * torch.exp2(scales.float() - 127)[..., None]
            whole.get_parameter(name).data = values.reshape(experts, outputs, inputs).transpose(1, 2).contiguous()
    return weights, whole


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (fp8, {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}),
        (mxfp4, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head", "model.embed_tokens"]}),
    ],
    ids=["fp8", "mxfp4"],
)
def test_what_is_dequantised_on_a_cpu_is_said_and_computes_with_the_very_numbers_of_the_file(
    make: Callable[[Path], tuple[dict[str, torch.Tensor], Any]], settings: dict[str, Any], tmp_path: Path
) -> None:
    weights, whole = make(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    packed(tmp_path, settings)
    checkpoint = found(tmp_path)
    check_headers(checkpoint, "cpu")
    assert is_dequantised(checkpoint, "cpu")
    assert checkpoint.n_parameters == sum(weight.numel() for weight in whole.parameters())
    assert checkpoint.memory_bytes("float32", is_dequantised=True) == 4 * checkpoint.n_parameters
    model = load(checkpoint, device="cpu", dtype="float32")
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, whole(input_ids=IDS).logits, atol=1e-6, rtol=0)


def test_the_plan_says_that_packed_weights_are_dequantised(given: Given, tmp_path: Path) -> None:
    weights, _ = fp8(tmp_path / "fp8")
    save_file(weights, tmp_path / "fp8" / "model.safetensors", metadata={"format": "pt"})
    packed(tmp_path / "fp8", {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"})
    done = given.having(student=tmp_path / "fp8").attack(tmp_path / "run", "--attack", "loss", "--plan-only")
    assert done.code == 0, done.err
    assert "(fp8, dequantised)" in done.out
    assert "are dequantised: here they compute as whole numbers of the dtype of the run" in done.out
