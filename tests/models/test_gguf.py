"""GGUF files, audited by the reader of transformers, and what is said where it cannot read one."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import kdaudit as package
from tests import tiny
from tests.commands import Given, check_refused, kdaudit, lines, results
from tests.gguf_files import save_both


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GGUF file and a folder with the weights that are in it."""
    return save_both(tmp_path_factory.mktemp("gguf"), seed=5, lines=lines())


def attack(model: Path, given: Given, out: Path, *options: object) -> list[object]:
    records = ("--members", given.members, "--nonmembers", given.nonmembers)
    return ["attack", "--model", model, *records, "--attack", "loss", "--out", out, *options]


def test_a_gguf_file_scores_as_the_checkpoint_with_its_weights_wherever_the_command_runs(
    pair: tuple[Path, Path], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, whole = pair
    monkeypatch.chdir(tmp_path)
    (tmp_path / packed.name).write_bytes(b"GGUF another file of that name in the current folder")
    done = kdaudit(*attack(packed, given, tmp_path / "packed"))
    assert done.code == 0, done.err
    assert "GGUF, Q8_0, dequantised" in done.err
    assert kdaudit(*attack(whole, given, tmp_path / "whole")).code == 0
    one, other = (package.load_scores(tmp_path / name)["score"].to_numpy() for name in ("packed", "whole"))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    found = results(tmp_path / "packed")
    assert found["models"]["model"]["stored_dtype"] == "Q8_0"
    assert found["models"]["model"]["n_parameters"] == results(tmp_path / "whole")["models"]["model"]["n_parameters"]
    assert any("dequantised" in warning for warning in found["validity"]["warnings"])


def test_another_content_is_another_fingerprint_and_a_cut_file_is_refused(
    pair: tuple[Path, Path], given: Given, tmp_path: Path
) -> None:
    content = pair[0].read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(content[:-64])
    check_refused(kdaudit(*attack(cut, given, tmp_path / "run")), "cut.gguf", "damaged or incomplete", code=4)
    other = tmp_path / "other.gguf"
    other.write_bytes(b"no such file")
    check_refused(kdaudit(*attack(other, given, tmp_path / "run")), "other.gguf", "no GGUF file", code=4)


def test_a_gguf_file_is_not_quantised_once_more(pair: tuple[Path, Path], given: Given, tmp_path: Path) -> None:
    done = kdaudit(*attack(pair[0], given, tmp_path / "run", "--model-load", "4bit"))
    check_refused(done, "stored quantised (gguf)", "--model-load")


def test_an_architecture_that_needs_the_package_names_it(
    pair: tuple[Path, Path], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdaudit.models.gguf.find_spec", lambda name: None if name == "gguf" else find_spec(name))
    other = tmp_path / "llama.gguf"
    other.write_bytes(pair[0].read_bytes().replace(b"lfm2", b"gpt2"))
    check_refused(kdaudit(*attack(other, given, tmp_path / "run")), "package gguf", "pip install 'gguf>=0.10.0'")


def test_a_llama_in_a_gguf_file_scores_as_its_checkpoint(given: Given, tmp_path: Path) -> None:
    import gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = tiny.save(tmp_path / "whole", "llama", context=128, lines=lines())
    model, split = AutoModelForCausalLM.from_pretrained(whole), AutoTokenizer.from_pretrained(whole)
    backend = split.backend_tokenizer
    tokens = [str(backend.id_to_token(i)) for i in range(len(split))]
    writer = gguf.GGUFWriter(str(tmp_path / "model.gguf"), "llama")
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<s>" else 1 for token in tokens])
    merges = json.loads(backend.to_str())["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        if "q_proj" in name or "k_proj" in name:  # as llama.cpp's converter turns them
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(str(names.get_name(name, try_suffixes=(".weight",))), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for model_path, out in ((tmp_path / "model.gguf", "run-packed"), (whole, "run-whole")):
        done = kdaudit(*attack(model_path, given, tmp_path / out))
        assert done.code == 0, done.err
        assert "de-quantizing GGUF tensors" not in done.err  # a bar of the library's own
    one, other = (package.load_scores(tmp_path / name)["score"].to_numpy() for name in ("run-packed", "run-whole"))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
