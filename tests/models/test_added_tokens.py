"""Adapters that add tokens to their base: scored as plain peft scores them, or refused where rows would be random."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.headers import check_headers
from kdaudit.models.loading import load_tokenizer, loaded
from tests import tiny

N_BASE, N_ADDED = tiny.VOCABULARY, 3
N_TOKENS = N_BASE + N_ADDED
IDS = torch.tensor([[5, 17, *range(N_BASE, N_TOKENS), 40, 8]])
EMBEDDINGS = {"llama": "embed_tokens", "gpt2": "wte"}
LAYERS = {"llama": "q_proj", "gpt2": "c_attn"}
NEW = list(range(N_BASE, N_TOKENS))

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*ensure_weight_tying.*:UserWarning"),
]

Settings = Callable[[str], dict[str, Any]]
WAYS: dict[str, tuple[Settings, dict[str, Any]]] = {
    "embeddings and head are trained": (lambda name: {"modules_to_save": [name, "lm_head"]}, {}),
    "embeddings are trained": (lambda name: {"modules_to_save": [name]}, {}),
    "embeddings are saved as they are": (lambda name: {}, {"save_embedding_layers": True}),
    "peft notices the new size": (lambda name: {}, {}),
    "single tokens are trained": (lambda name: {"trainable_token_indices": NEW}, {}),
    "single tokens of both are trained": (lambda name: {"trainable_token_indices": {name: NEW, "lm_head": NEW}}, {}),
    "single tokens alone are saved": (
        lambda name: {"trainable_token_indices": {name: NEW, "lm_head": NEW}}, {"save_embedding_layers": False},
    ),
}  # fmt: skip


BASES = [("llama", False), ("llama", True), ("gpt2", True)]
"""Architecture, and whether its head is its embeddings."""
SOME = ("embeddings and head are trained", "embeddings are trained", "single tokens are trained")


@pytest.fixture(scope="module", params=[("llama", False)], ids=str)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    architecture, is_tied = request.param
    folder = tmp_path_factory.mktemp(architecture)
    config = tiny.config(architecture)
    config.tie_word_embeddings = is_tied
    torch.manual_seed(1)
    type(tiny.model(architecture))(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return architecture, folder


def resized(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(N_TOKENS)
    return model


def with_tokens() -> Any:
    from transformers import PreTrainedTokenizerFast

    split = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer().backend_tokenizer, eos_token="<s>")
    split.add_tokens([f"<|added-{k}|>" for k in range(N_ADDED)], special_tokens=True)
    return split


def save(folder: Path, base: tuple[str, Path], settings: dict[str, Any], saving: dict[str, Any]) -> torch.Tensor:
    """Save an adapter as a trainer does, with its tokenizer; the logits of plain peft."""
    from peft import LoraConfig, PeftModel, get_peft_model

    architecture, base_folder = base
    torch.manual_seed(0)
    config = LoraConfig(
        r=2, target_modules=[LAYERS[architecture]], task_type="CAUSAL_LM", init_lora_weights=False,
        fan_in_fan_out=architecture == "gpt2", **settings,
    )  # fmt: skip
    adapted = get_peft_model(resized(base_folder), config)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad or weight.shape[0] == N_TOKENS:
                weight.add_(torch.randn_like(weight) * 0.3)
    adapted.peft_config["default"].base_model_name_or_path = str(base_folder)
    adapted.save_pretrained(str(folder), **saving)
    with_tokens().save_pretrained(folder)
    with torch.no_grad():
        logits: torch.Tensor = PeftModel.from_pretrained(resized(base_folder), str(folder)).eval()(input_ids=IDS).logits
    return logits


def found(folder: Path) -> Checkpoint:
    return find(str(folder), option="--student")


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    check_headers(checkpoint, "cpu")
    with loaded(checkpoint, device="cpu", dtype="float32") as model, torch.no_grad():
        return model(input_ids=IDS).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("base", "way"), [(BASES[1], way) for way in WAYS] + [(one, way) for one in BASES[::2] for way in SOME],
    indirect=["base"], ids=str,
)  # fmt: skip
def test_an_adapter_that_added_tokens_scores_as_plain_peft(base: tuple[str, Path], way: str, tmp_path: Path) -> None:
    settings, saving = WAYS[way]
    expected = save(tmp_path / "adapter", base, settings(EMBEDDINGS[base[0]]), saving)
    adapter = found(tmp_path / "adapter")
    assert (adapter.vocab_size, found(base[1]).vocab_size) == (N_TOKENS, N_BASE)
    assert load_tokenizer(adapter)("<|added-2|>")["input_ids"] == [N_TOKENS - 1]
    torch.testing.assert_close(logits(adapter), expected, atol=1e-5, rtol=0)


@pytest.fixture
def adapter(base: tuple[str, Path], tmp_path: Path) -> Path:
    settings, saving = WAYS["embeddings and head are trained"]
    save(tmp_path / "adapter", base, settings(EMBEDDINGS[base[0]]), saving)
    return tmp_path / "adapter"


Weights = dict[str, torch.Tensor]


def edit(adapter: Path, change: Callable[[Weights], Weights]) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({name: weight.clone() for name, weight in change(load_file(path)).items()}, path)


def test_a_second_copy_that_is_another_weight_is_never_left_out_in_silence(adapter: Path) -> None:
    name = "base_model.model.lm_head.modules_to_save.weight"
    edit(adapter, lambda weights: weights | {name: weights[name] + 1e-3})
    with pytest.raises(ModelError, match="does not fit its base") as caught:
        logits(found(adapter))
    assert name in str(caught.value)


@pytest.mark.parametrize("base", [("llama", True)], indirect=True, ids=str)
def test_tied_embeddings_that_are_stored_twice_and_differ_are_refused(base: tuple[str, Path], tmp_path: Path) -> None:
    save(tmp_path / "adapter", base, {}, {"save_embedding_layers": True})
    name = "base_model.model.lm_head.weight"
    edit(tmp_path / "adapter", lambda weights: weights | {name: weights[name] + 1e-3})
    with pytest.raises(ModelError, match="does not fit its base"):
        logits(found(tmp_path / "adapter"))


def test_an_embedding_that_the_settings_promise_and_the_file_lacks_is_named(adapter: Path) -> None:
    edit(adapter, lambda weights: {name: one for name, one in weights.items() if "lm_head" not in name})
    with pytest.raises(ModelError, match=r"promises \S*lm_head\.weight, and its file does not"):
        check_headers(found(adapter), "cpu")


def test_embeddings_and_a_head_of_different_sizes_are_refused(adapter: Path) -> None:
    name = "base_model.model.lm_head.weight"
    edit(adapter, lambda weights: weights | {name: weights[name][:-1]})
    with pytest.raises(CheckpointError, match=r"has 302 tokens.* has 303"):
        found(adapter)


def test_new_rows_that_are_in_no_file_are_refused_before_anything_is_scored(
    base: tuple[str, Path], tmp_path: Path
) -> None:
    save(tmp_path / "adapter", base, {"trainable_token_indices": NEW}, {"save_embedding_layers": False})
    with pytest.raises(ModelError, match=r"3 of the new rows of lm_head\.weight are not in its file") as caught:
        check_headers(found(tmp_path / "adapter"), "cpu")
    assert "save_embedding_layers" in caught.value.hint


def test_tokens_that_no_model_can_have_are_refused(adapter: Path) -> None:
    edit(adapter, lambda weights: {name: one for name, one in weights.items() if ".lora_" in name})
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "trainable_token_indices": [10**12]}))
    with pytest.raises(CheckpointError, match="trainable_token_indices"):
        found(adapter)
