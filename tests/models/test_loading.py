"""A checkpoint is loaded as it was saved, whole or not at all, and gone when it is done with."""

import json
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from kdaudit.errors import CheckpointError, ConfigError, ExitCode, ModelError
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import choose_device, choose_dtype, load, load_tokenizer, loaded
from kdaudit.signals.engine import measure
from kdaudit.signals.tokens import TokenSignals
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import encode
from kdaudit.targets.plan import Frame
from tests import tiny

Copied = Callable[[], Path]
IDS = torch.arange(1, 20)[None]

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


def found(folder: Path, **options: Any) -> Checkpoint:
    return find(str(folder), option="--teacher", **options)


def signals(checkpoint: Checkpoint) -> list[TokenSignals]:
    shard = encode(tiny.tokenizer(), tiny.texts(8, seed=3, n_words=8))
    with loaded(checkpoint, device="cpu", dtype="float32") as model:
        return next(measure(model, [shard], Frame(CAUSAL, (0,)), batch_tokens=200))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_what_is_loaded_is_what_was_saved(architecture: str, tmp_path: Path) -> None:
    checkpoint = found(tiny.save(tmp_path, architecture, seed=4))
    expected = tiny.model(architecture, seed=4)
    with loaded(checkpoint, device="cpu", dtype="float32") as model, torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, expected(input_ids=IDS).logits)
        assert not model.training
        assert not any(weight.requires_grad for weight in model.parameters())


def test_the_dtype_is_the_one_asked_for(base: Path) -> None:
    with loaded(found(base), device="cpu", dtype="bfloat16") as model:
        assert model.dtype == torch.bfloat16


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_lack_are_never_made_up(copied: Copied) -> None:
    folder = copied()
    edit_weights(folder, lambda weights: weights.pop("transformer.h.1.mlp.c_fc.weight"))
    with pytest.raises(ModelError, match=r"lacks 1 weights .*: transformer\.h\.1\.mlp\.c_fc\.weight"):
        signals(found(folder))


def test_weights_of_another_shape_are_never_made_up(copied: Copied) -> None:
    folder = copied()
    edit_weights(folder, lambda weights: weights.update({"transformer.wpe.weight": torch.zeros(32, 32)}))
    with pytest.raises(ModelError, match=str(folder)):
        signals(found(folder))


def test_a_model_without_a_language_head_is_refused(tmp_path: Path) -> None:
    transformers.LlamaModel(tiny.config("llama")).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no language-model head: 1 weights .*: lm_head\.weight"):
        signals(found(tmp_path))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["cuda", "cpu"])
def test_a_model_too_large_for_memory_says_what_to_try(
    base: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ModelError, match="does not fit into memory") as caught:
        signals(found(base))
    assert "4bit" in caught.value.hint
    assert caught.value.exit_code == ExitCode.FAILED


@pytest.mark.parametrize("load", [None, "8bit", "4bit"])
def test_a_models_memory_is_free_afterwards_though_its_name_lives_on(
    wide: dict[str, Path], load: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="bitsandbytes")  # a log that pytest keeps would hold on to frames
    with loaded(found(wide["gpt2"], load=load), device="cpu", dtype="float32") as model:
        shard = encode(tiny.tokenizer(), tiny.texts(2, seed=0, n_words=4))
        next(measure(model, [shard], Frame(CAUSAL), batch_tokens=99))
        parts: list[Any] = [*model.parameters(), *(module for module in model.modules() if module is not model)]
        held = [weakref.ref(part) for part in parts]
        del parts
    assert model is not None
    assert all(part() is None for part in held)


def test_a_models_memory_is_free_after_an_error_too(base: Path) -> None:
    with pytest.raises(ZeroDivisionError), loaded(found(base), device="cpu", dtype="float32") as model:  # noqa: PT012
        weight = weakref.ref(next(model.parameters()))
        raise ZeroDivisionError
    assert weight() is None


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of 64 states: quantisation works in blocks of 64 weights. Llama's have outlier features."""
    folders = {}
    for architecture in ("gpt2", "llama"):
        config = tiny.config(architecture)
        config.hidden_size, config.head_dim = 64, 32
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        if architecture == "llama":
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(8 if weight.ndim > 1 else 1)
        folders[architecture] = tmp_path_factory.mktemp("wide") / architecture
        model.save_pretrained(folders[architecture])
        tiny.tokenizer().save_pretrained(folders[architecture])
    return folders


@pytest.mark.parametrize(("load", "tolerance"), [("8bit", 0.02), ("4bit", 0.2)])
def test_quantised_weights_give_nearly_the_same_signals(wide: dict[str, Path], load: str, tolerance: float) -> None:
    expected = signals(found(wide["gpt2"]))
    for one, other in zip(signals(found(wide["gpt2"], load=load)), expected, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=tolerance)
        assert not np.array_equal(one.logprob, other.logprob)


@pytest.mark.parametrize(("load", "correlation"), [("8bit", 0.99), ("4bit", 0.9)])
def test_outlier_features_do_not_make_a_quantised_model_look_acausal(
    wide: dict[str, Path], load: str, correlation: float
) -> None:
    found_values, expected = (
        np.concatenate([one.logprob for one in signals(found(wide["llama"], load=how))]) for how in (load, None)
    )
    assert np.isfinite(found_values).all()
    assert np.corrcoef(found_values, expected)[0, 1] > correlation


def test_a_tokenizer_comes_from_its_checkpoint(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(found(tiny.save(tmp_path, bos=True, tokenizer_seed=3)))
    expected = tiny.tokenizer(bos=True, seed=3)
    assert [tokenizer(text)["input_ids"] for text in tiny.texts(3, seed=0)] == [
        expected(text)["input_ids"] for text in tiny.texts(3, seed=0)
    ]


@pytest.mark.parametrize("content", ["{", "{}", ""])
def test_a_damaged_tokenizer_is_refused(copied: Copied, content: str) -> None:
    folder = copied()
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"the tokenizer of {folder}"):
        load_tokenizer(found(folder))


def test_a_tokenizer_whose_settings_no_text_survives_is_refused_when_it_is_loaded(copied: Copied) -> None:
    folder = copied()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": "x"}))
    with pytest.raises(CheckpointError, match=f"the tokenizer of {folder} cannot be loaded: .*'int' and 'str'"):
        load_tokenizer(found(folder))


def test_a_tokenizer_that_brings_code_is_not_run_unasked(copied: Copied, tmp_path: Path) -> None:
    folder, mark = copied(), tmp_path / "was-run"
    (folder / "theirs.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    path = folder / "tokenizer_config.json"
    settings = {
        **json.loads(path.read_text()),
        "tokenizer_class": "T",
        "auto_map": {"AutoTokenizer": [None, "theirs.T"]},
    }
    path.write_text(json.dumps(settings))
    try:
        load_tokenizer(found(folder))
    except CheckpointError as error:
        assert "--trust-remote-code" in error.hint  # noqa: PT017 - reading it without the code is fine too
    assert not mark.exists()


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"there is no {device} device"):
        choose_device(device)
    assert choose_device("auto") == choose_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "expected"), [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps")]
)
def test_an_accelerator_is_taken_where_there_is_one(
    has_cuda: bool, has_mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert choose_device("auto") == expected
    assert choose_device(expected) == expected
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("wanted", "device", "stored", "expected"),
    [
        ("auto", "cpu", ["bfloat16", "bfloat16"], "float32"),
        ("auto", "cuda", ["bfloat16", "bfloat16"], "bfloat16"),
        ("auto", "cuda", ["bfloat16", "float16"], "float32"),
        ("auto", "cuda", ["float32"], "float32"),
        ("float16", "cpu", ["float32"], "float16"),
        ("float32", "cuda", ["bfloat16"], "float32"),
    ],
)
def test_one_dtype_serves_all_models(base: Path, wanted: str, device: str, stored: list[str], expected: str) -> None:
    checkpoints = {str(i): replace(found(base), dtype=dtype) for i, dtype in enumerate(stored)}
    assert choose_dtype(wanted, device, checkpoints) == expected


def test_a_4bit_model_that_was_asked_first_still_passes_gradients(checkpoint: Callable[..., Path]) -> None:
    """bitsandbytes repacks weights in eval mode on some CPUs; after that the layers below would learn nothing."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn.modules import Linear4bit

    ids = torch.arange(1, 13).unsqueeze(0)
    gradients = []
    found = find(str(checkpoint("llama", seed=1)), option="--x", load="4bit")
    for is_plain in (False, True):
        model = load(found, device="cpu", dtype="float32")
        with torch.no_grad():
            asked = model(ids).logits
        for name, module in list(model.named_modules()):
            if is_plain and isinstance(module, Linear4bit):
                plain = torch.nn.Linear(module.in_features, module.out_features, bias=False)
                packed: Any = module.weight
                plain.weight.data = dequantize_4bit(packed.data, packed.quant_state).float()
                model.set_submodule(name, plain)
        embeddings = model.get_input_embeddings().weight.requires_grad_(True)
        logits = model(ids).logits
        torch.testing.assert_close(logits.detach(), asked, rtol=1e-3, atol=1e-3)
        logits.square().mean().backward()
        gradients.append(embeddings.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
