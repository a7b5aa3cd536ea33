"""What config.json and the headers of files tell is refused before a model of the run has read a text."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from kdaudit.errors import CheckpointError, KdauditError, ModelError
from kdaudit.models import altered
from kdaudit.models.checkpoint import find
from kdaudit.models.headers import check_headers
from kdaudit.models.loading import load, load_tokenizer
from tests import encoders, pairs, tiny
from tests.commands import Given, check_refused, counted_loads
from tests.models.test_adapters import save_adapter

Copied = Callable[[], Path]
FAMILIES = (*encoders.FAMILIES, "t5", "bart", "gpt2", "llama", "gpt_neox", "opt")
UNTIED = {"llama", "gpt_neox", "t5"}
HAS_HEAD_APART = {*encoders.FAMILIES, *UNTIED}
"""A body alone lacks weights of the head; GPT-2, OPT and BART read their embeddings as a head."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def config_of(family: str) -> Any:
    if family in encoders.FAMILIES:
        return encoders.config(family, 100)
    return pairs.config(family) if family in pairs.FAMILIES else tiny.config(family)


def check(folder: Path, **options: Any) -> None:
    check_headers(find(str(folder), option="--student", **options), "cpu")


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def edit_config(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    weights = {name: weight.clone() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_body_alone_is_refused_and_a_whole_model_is_not(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    if family in UNTIED:
        config.tie_word_embeddings = False
    auto = {"t5": "Seq2SeqLM", "bart": "Seq2SeqLM"}.get(family, "MaskedLM" if family in encoders.FAMILIES else "")
    whole = getattr(transformers, f"AutoModelFor{auto or 'CausalLM'}").from_config(config)
    check(save(whole, tmp_path / "whole"))
    body = save(transformers.AutoModel.from_config(config), tmp_path / "body")
    if family == "t5":
        edit_config(body, tie_word_embeddings=False)  # as earlier releases wrote it
    if family not in HAS_HEAD_APART:
        check(body)
        return
    with pytest.raises(CheckpointError, match="has no language-model head") as ahead:
        check(body)
    if family == "t5":
        return  # transformers ties the head, and says nothing
    with pytest.raises(CheckpointError) as loading:
        load(find(str(body), option="--student"), device="cpu", dtype="float32")
    assert str(ahead.value) == str(loading.value)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_head_that_is_tied_does_not_lack(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    config.tie_word_embeddings = True
    check(save(transformers.AutoModel.from_config(config), tmp_path))


def test_old_names_of_weights_are_those_that_transformers_knows(tmp_path: Path) -> None:
    model = transformers.BertForMaskedLM(encoders.config("bert", 100))
    folder = save(model, tmp_path)
    old = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))

    def rename(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for new, former in old:
            weights = {name.replace(new, former): weight for name, weight in weights.items()}
        return weights

    edit_weights(folder, rename)
    check(folder)


def test_an_adapter_is_held_against_its_base(base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", str(base))
    check(tmp_path / "adapter")
    check(tmp_path / "adapter", load="4bit")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = {name.replace("h.1", "h.7"): weight.clone() for name, weight in load_file(path).items()}
    save_file(weights, path)
    with pytest.raises(ModelError, match="does not fit its base"):
        check(tmp_path / "adapter")


def test_an_adapter_of_a_body_is_refused_by_its_base(tmp_path: Path) -> None:
    body = save(transformers.LlamaModel(tiny.config("llama")), tmp_path / "body")
    save_adapter(tmp_path / "adapter", str(body))
    with pytest.raises(CheckpointError, match=f"{body} has no language-model head"):
        check(tmp_path / "adapter")


def test_a_changed_architecture_is_built_with_its_changes(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    narrow = {"kind": "bottleneck", "inputs": 32, "width": 5, "outputs": 128}
    altered.alter(model, {"transformer.h.1.mlp.c_fc": narrow})
    altered.save(model, tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    check(tmp_path)
    edit_weights(tmp_path, lambda all_: {name: one for name, one in all_.items() if ".h.1.mlp.c_fc" not in name})
    with pytest.raises(ModelError, match=r"lacks \d+ weights .*transformer\.h\.1\.mlp\.c_fc"):
        check(tmp_path)


@pytest.mark.parametrize("how", ["4bit", "8bit"])
def test_whole_weights_under_a_quantised_configuration_are_told_from_packed_ones(how: str, tmp_path: Path) -> None:
    whole = tiny.save(tmp_path / "whole", "llama")
    check(whole, load=how)
    packed = save(load(find(str(whole), option="--x", load=how), device="cpu", dtype="float32"), tmp_path / "packed")
    check(packed)
    edit_config(whole, quantization_config={"quant_method": "bitsandbytes", f"load_in_{how}": True})
    with pytest.raises(
        CheckpointError, match=f"says that its weights are stored in {how}, and its files hold them"
    ) as e:
        check(whole)
    assert f"--student-load {how}" in e.value.hint


SPOILT: dict[str, Callable[[Path], None]] = {
    "a layer lacks": lambda folder: edit_weights(
        folder, lambda all_: {name: one for name, one in all_.items() if not name.startswith("transformer.h.1.")}
    ),
    "another size": lambda folder: edit_config(folder, n_embd=64),
    "too few layers": lambda folder: edit_config(folder, n_layer=1),
    "heads that divide nothing": lambda folder: edit_config(folder, n_head=3),
    "whole numbers": lambda folder: edit_weights(
        folder, lambda all_: {name: one.to(torch.int8) for name, one in all_.items()}
    ),
}


@pytest.mark.parametrize("change", SPOILT.values(), ids=SPOILT)
def test_what_could_not_be_loaded_is_refused_with_the_words_of_loading(
    change: Callable[[Path], None], copied: Copied
) -> None:
    folder = copied()
    change(folder)
    with pytest.raises(KdauditError) as ahead:
        check(folder)
    with pytest.raises(KdauditError) as loading:
        load(find(str(folder), option="--student"), device="cpu", dtype="float32")
    assert (str(ahead.value), type(ahead.value)) == (str(loading.value), type(loading.value))


@pytest.mark.parametrize("part", ["student", "reference"])
def test_no_model_is_loaded_where_another_one_of_the_run_has_no_head(part: str, given: Given, tmp_path: Path) -> None:
    body = save(transformers.LlamaModel(tiny.config("llama", context=128)), tmp_path / "body")
    options = ("--attack", "loss", *(("--reference", body) if part == "reference" else ()))
    with counted_loads() as loads:
        run = given.having(student=body) if part == "student" else given
        done = run.attack(tmp_path / "run", *options)
    check_refused(done, str(body), "has no language-model head", "lm_head.weight")
    assert not loads


def test_a_token_that_a_model_does_not_know_is_refused_before_any_is_loaded(given: Given, tmp_path: Path) -> None:
    folder = save(tiny.model("gpt2", vocabulary=260, context=128), tmp_path / "small")
    with counted_loads() as loads:
        done = given.having(student=folder).attack(tmp_path / "run", "--attack", "loss")
    check_refused(done, str(folder), "knows 260 tokens")
    assert not loads


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_called_one(name: str, copied: Copied) -> None:
    folder = copied()
    oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n")
    with pytest.raises(CheckpointError, match=rf"{name} is a pointer of Git LFS") as caught:
        find(str(folder), option="--student")
    assert "git lfs pull" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "package"),
    [(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02", "sentencepiece"), (b"IQ== 0\nIg== 1\n", "tiktoken")],
    ids=["sentencepiece", "tiktoken"],
)
def test_a_tokenizer_of_a_library_that_is_not_installed_names_that_library(
    content: bytes, package: str, copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied()
    monkeypatch.setattr("kdaudit.models.tokenizer.find_spec", lambda _: None)
    load_tokenizer(find(str(folder), option="--student"))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "tokenizer.model").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"which {package} reads; not installed: {package}") as caught:
        load_tokenizer(find(str(folder), option="--student"))
    assert f"pip install {package}" in caught.value.hint


def test_pickled_weights_are_left_to_loading(copied: Copied) -> None:
    folder = copied()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    check(folder, allow_pickle=True)


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    model = transformers.BertForMaskedLM(encoders.config("bert", 100))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tiny.tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    check(tmp_path)
    shutil.rmtree(tmp_path)
