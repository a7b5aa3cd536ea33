"""The ids of tokenizer.json count, whatever class its checkpoint names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from kdaudit.distill.folder import save_student
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import load, load_tokenizer
from kdaudit.targets.passage import encode, lead_ids
from tests import tiny

Copied = Callable[[], Path]
TEXTS = [
    *tiny.texts(20, seed=5),
    "  Numbers 123456 and 2024-11-25,  DOUBLE  spaces \n\n and tabs\t.",
    "café CAFÉ ﬁne 中文 <s>x</s> Don't we'll",
    "Aspirin <|note|> at 0800",
    " leading and trailing  ",
]
CLASSES = (
    "GPT2Tokenizer", "GPTNeoXTokenizer", "RobertaTokenizer", "Qwen2Tokenizer", "LlamaTokenizer", "GemmaTokenizer",
    "PreTrainedTokenizerFast", "LlamaTokenizerFast", "CohereTokenizer", "NoSuchTokenizer",
)  # fmt: skip


def digits() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return made


def lowercased() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return made


def prefixed() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return made


def metaspaced() -> Tokenizer:
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    return made


def word_level() -> Tokenizer:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


TRAINERS = {"BPE": trainers.BpeTrainer, "WordLevel": trainers.WordLevelTrainer, "Unigram": trainers.UnigramTrainer}
PIPELINES = [digits, lowercased, prefixed, metaspaced, word_level, unigram]


def filed(folder: Path, pipeline: Callable[[], Tokenizer], *, lead: bool = True) -> Path:
    """Gives a checkpoint a tokenizer.json that holds a pipeline of its own, truncation and padding."""
    backend = pipeline()
    special: dict[str, Any] = {"special_tokens": ["<s>", "</s>", "<unk>", "<|note|>"], "show_progress": False}
    if isinstance(backend.model, models.BPE):
        special["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    if isinstance(backend.model, models.Unigram):
        special["unk_token"] = "<unk>"
    backend.train_from_iterator(
        tiny.texts(200, seed=9), TRAINERS[type(backend.model).__name__](vocab_size=300, **special)
    )
    if lead:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    backend.enable_truncation(5)
    backend.enable_padding(length=40, pad_id=1, pad_token="</s>")
    for old in folder.glob("*token*"):
        old.unlink()
    backend.save(str(folder / "tokenizer.json"))
    return folder


def write_settings(folder: Path, **settings: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def ids_of(folder: Path, *, special: bool = True) -> list[list[int]]:
    """What the tokenizers library makes of the file, without its truncation and padding."""
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.no_truncation()
    backend.no_padding()
    return [backend.encode(text, add_special_tokens=special).ids for text in TEXTS]


def check(folder: Path, **options: Any) -> Any:
    tokenizer = load_tokenizer(find(str(folder), option="--teacher", **options))
    assert [tokenizer(text)["input_ids"] for text in TEXTS] == ids_of(folder)
    bare = ids_of(folder, special=False)
    assert [passage.ids.tolist() for passage in encode(tokenizer, TEXTS)] == bare
    assert lead_ids(tokenizer) == ((0,) if ids_of(folder)[0][0] == 0 else ())
    return tokenizer


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_ids_are_those_of_the_file_whatever_class_is_named(pipeline: Callable[[], Tokenizer], copied: Copied) -> None:
    folder = filed(copied(), pipeline)
    for named in CLASSES:
        write_settings(folder, tokenizer_class=named, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        assert check(folder).eos_token_id == 1, named


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": True, "add_bos_token": True, "add_eos_token": True},
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": True},
        {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "add_bos_token": True},
        {"model_max_length": 3, "split_special_tokens": True, "padding_side": "left"},
        {},
    ],
    ids=str,
)
def test_settings_beside_the_file_do_not_change_its_ids(settings: dict[str, object], copied: Copied) -> None:
    folder = filed(copied(), digits, lead=False)
    write_settings(folder, **{"bos_token": "<s>", "eos_token": "</s>", **settings})
    check(folder)


def test_a_special_token_that_the_file_does_not_know_is_none(copied: Copied) -> None:
    folder = filed(copied(), digits)
    write_settings(folder, tokenizer_class="GPT2Tokenizer", bos_token="<s>", eos_token="<|nowhere|>", chat_template="x")
    tokenizer = check(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.chat_template) == (0, None, "x")


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_what_is_saved_beside_a_student_gives_the_same_ids_in_plain_transformers(
    copied: Copied, tmp_path: Path
) -> None:
    folder = filed(copied(), digits)
    write_settings(folder, tokenizer_class="GPT2Tokenizer", bos_token="<s>", eos_token="</s>")
    found = find(str(folder), option="--teacher")
    save_student(load(found, device="cpu", dtype="float32"), load_tokenizer(found), tmp_path / "student")
    again = check(tmp_path / "student")
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path / "student")
    assert plain(TEXTS)["input_ids"] == again(TEXTS)["input_ids"] == ids_of(folder)


def test_an_adapters_own_file_counts_and_else_its_bases(copied: Copied, base: Path, tmp_path: Path) -> None:
    on = filed(copied(), lowercased)
    write_settings(on, tokenizer_class="GPT2Tokenizer")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    weights = {"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": torch.zeros(1, 32)}
    save_file(weights, adapter / "adapter_model.safetensors")
    settings = {"base_model_name_or_path": str(on), "peft_type": "LORA", "r": 1, "target_modules": ["c_attn"]}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    expected = ids_of(on)
    tokenizer = load_tokenizer(find(str(adapter), option="--student"))
    assert tokenizer(TEXTS)["input_ids"] == expected
    own = filed(shutil.copytree(base, tmp_path / "own"), digits)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy((on if name.endswith("config.json") else own) / name, adapter / name)
    tokenizer = load_tokenizer(find(str(adapter), option="--student"))
    assert tokenizer(TEXTS)["input_ids"] == ids_of(own) != expected
