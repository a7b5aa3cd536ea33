"""`--student-layers` takes the teacher's layers as they are, or says why it cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from kdaudit.distill.layers import apply_layers, check_taken, find_stack
from kdaudit.distill.settings import DistillConfig
from kdaudit.distill.start import find_start
from kdaudit.errors import ConfigError
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import load
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

SHARED: dict[str, Any] = {
    "vocab_size": tiny.VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
KINDS = ["sliding_attention", "full_attention"]
SETTINGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 1, 0, 1, 0, 1]}),
    "llama4": ("llama4_text", {"no_rope_layers": [1, 0, 1, 1, 0, 1], "num_local_experts": 2, "moe_layers": [1, 3, 4],
                               "intermediate_size_mlp": 64, "attention_chunk_size": 8}),
    "gpt2": ("gpt2", {"n_layer": 6, "n_embd": 32, "n_head": 2, "n_positions": 64}),
    "gpt_neo": ("gpt_neo", {"num_layers": 6, "num_heads": 2, "window_size": 8,
                            "attention_types": [[["global", "local"], 3]]}),
    "gemma3": ("gemma3_text", {"sliding_window": 8, "layer_types": [*KINDS, *KINDS, *KINDS]}),
    "cohere2": ("cohere2", {"sliding_window": 8, "layer_types": [*KINDS, *KINDS, *KINDS]}),
    "qwen3_moe": ("qwen3_moe", {**MOE, "decoder_sparse_step": 2, "mlp_only_layers": [3]}),
    "qwen2_moe": ("qwen2_moe", {**MOE, "num_experts": 6, "shared_expert_intermediate_size": 32,
                                "decoder_sparse_step": 1, "mlp_only_layers": [0, 4]}),
    "deepseek_v3": ("deepseek_v3", {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32,
        "first_k_dense_replace": 2, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 16, "head_dim": 8}),
    "ernie4_5_moe": ("ernie4_5_moe", {
        "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32, "moe_layer_start_index": 2}),
    "qwen2": ("qwen2", {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 30}),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "gpt_neox": ("gpt_neox", {}),
}  # fmt: skip
LAYERS = (1, 2, 4)


def saved(folder: Path, kind: str, **changes: Any) -> Path:
    model_type, own = SETTINGS[kind]
    config = transformers.CONFIG_MAPPING[model_type](**{**SHARED, **own, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(0, 0.3) if weight.ndim > 1 else weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def start_of(teacher: Path, folder: Path, layers: str) -> Path:
    config = DistillConfig(
        teacher=str(teacher), student_layers=layers, train=("train.jsonl",), out=folder, teacher_saw="none"
    )
    return find_start(config, find(str(teacher), option="--teacher"), folder / "start").folder


def stack_of(model: Any) -> Any:
    body = getattr(model, "model", model.base_model)
    body = getattr(body, "decoder", body)
    return body.h if hasattr(body, "h") else body.layers


def layer_inputs(model: Any, ids: torch.Tensor) -> tuple[list[Any], list[Any]]:
    """How every layer is called in a pass over `ids`, and the states that leave the last one."""
    calls: list[Any] = []
    outputs: list[Any] = []
    for layer in stack_of(model):
        layer.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
        layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    return calls, [one if isinstance(one, torch.Tensor) else one[0] for one in outputs]


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_start_is_the_kept_layers_one_after_the_other(kind: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "teacher", kind)
    start = start_of(folder, tmp_path / "out", ",".join(map(str, LAYERS)))
    assert not list((tmp_path / "out").glob("*.tmp"))
    teacher, made = (load(find(str(one), option="--x"), device="cpu", dtype="float32") for one in (folder, start))
    ids = torch.arange(1, 41)[None]  # longer than the windows, and than what the product itself tries
    calls, _ = layer_inputs(teacher, ids)
    states = calls[0][0][0] if calls[0][0] else calls[0][1]["hidden_states"]
    layers = [*stack_of(teacher)]
    expected = []
    for number in LAYERS:
        args, kwargs = calls[number]
        args, kwargs = ((states, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": states})
        with torch.no_grad():
            output = layers[number].forward(*args, **kwargs)
        states = output if isinstance(output, torch.Tensor) else output[0]
        expected.append(states)
    _, found = layer_inputs(made, ids)
    assert len(found) == len(LAYERS)
    for own, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(own, wanted, atol=1e-4, rtol=1e-4)


def test_a_layer_that_counts_the_layers_below_it_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "teacher", "gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(ConfigError, match=r"depends on its place among all layers: attn\.scaling is"):
        start_of(folder, tmp_path / "out", "1,3")
    assert not list((tmp_path / "out").glob("*")), "nothing is left that a second run would take for the start"
    assert start_of(folder, tmp_path / "out", "0,1").is_dir()


def test_layers_that_a_configuration_cannot_describe_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    config = transformers.JambaConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=2, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1,
        num_experts=2, num_experts_per_tok=1, mamba_d_state=4, mamba_dt_rank=4, use_mamba_kernels=False,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    with pytest.raises(
        ConfigError, match=r"cannot say it of these layers: in the student model\.layers\.0\."
    ) as caught:
        start_of(folder, tmp_path / "out", "1,2")
    assert caught.value.hint == "choose other layers, or make the start yourself and give it by --student"
    assert not list((tmp_path / "out").glob("*"))


def test_a_layer_whose_strength_follows_its_depth_is_refused(tmp_path: Path) -> None:
    config = transformers.DiffLlamaConfig(**SHARED)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "teacher")
    tiny.tokenizer().save_pretrained(tmp_path / "teacher")
    with pytest.raises(ConfigError, match=r"self_attn\.lambda_init is 0\.35\d+ in the teacher and would be 0\.2"):
        start_of(tmp_path / "teacher", tmp_path / "out", "1,2")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (0, "other states go into the first one than in the teacher"),
        (1, "layer 0 of the student gives other states than the teacher's"),
        (2, "layer 1 of the student gives other states than the teacher's"),
        ("logits", "what GPT2LMHeadModel does after its last layer depends on the layers that would be left out"),
        ("settings", "num_heads is 7 in the teacher and would be 2 in layer 1 of the student"),
    ],
)
def test_each_difference_from_the_teacher_is_named(part: int | str, message: str) -> None:
    model = tiny.model("gpt2")
    _, stack = find_stack(model, 2)
    expected = apply_layers(model, stack, (0, 1))
    check_taken(model, expected)
    if part == "logits":
        expected = replace(expected, logits=expected.logits * 1.01)
    elif part == "settings":
        second = {**expected.settings[1], "attn.num_heads": 7}
        expected = replace(expected, settings=(expected.settings[0], second))
    else:
        changed = (state * (1.01 if number == part else 1) for number, state in enumerate(expected.states))
        expected = replace(expected, states=tuple(changed))
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_taken(model, expected)


def test_a_layer_that_is_applied_twice_cannot_be_taken_by_itself() -> None:
    model = tiny.model("gpt2")
    model.transformer.h[1] = model.transformer.h[0]
    model.config.num_hidden_layers = 2
    with pytest.raises(ConfigError, match=r"cannot be applied one after the other: layer 0 is applied 2 times"):
        apply_layers(model, model.transformer.h, (0,))


def test_a_model_without_one_list_of_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"0 stacks of 3 layers in GPT2LMHeadModel"):
        find_stack(tiny.model("gpt2"), 3)
