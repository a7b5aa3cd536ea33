"""Which kind of language model a checkpoint is: by its architecture, or as the user says."""

from pathlib import Path
from typing import Any

import pytest
import transformers as t

from kdaudit.errors import CheckpointError
from kdaudit.models.checkpoint import find
from kdaudit.models.kinds import kind_of, same_kind
from tests import tiny
from tests.commands import Given, check_refused


def kind(config: Any, *architectures: str, wanted: str | None = None) -> str:
    config.architectures = list(architectures)
    return kind_of(config, "model", "--teacher", wanted=wanted)


@pytest.mark.parametrize(
    ("config", "architecture", "expected"),
    [
        (t.GPT2Config(), "GPT2LMHeadModel", "causal"),
        (t.GPT2Config(), "GPT2Model", "causal"),
        (t.BertConfig(), "BertForMaskedLM", "masked"),
        (t.BertConfig(), "BertForPreTraining", "masked"),
        (t.BertConfig(), "BertModel", "masked"),
        (t.BertConfig(is_decoder=True), "BertModel", "causal"),
        (t.BertConfig(), "BertLMHeadModel", "causal"),
        (t.DistilBertConfig(), "DistilBertForMaskedLM", "masked"),
        (t.XLMConfig(), "XLMWithLMHeadModel", "masked"),
        (t.BartConfig(), "BartForConditionalGeneration", "seq2seq"),
        (t.BartConfig(), "BartForCausalLM", "causal"),
        (t.BartConfig(), "BartModel", "seq2seq"),
        (t.T5Config(), "T5ForConditionalGeneration", "seq2seq"),
    ],
)
def test_the_architecture_says_the_kind(config: Any, architecture: str, expected: str) -> None:
    assert kind(config, architecture) == expected


def test_a_config_without_an_architecture_goes_by_its_type() -> None:
    assert [kind(one) for one in (t.BertConfig(), t.T5Config(), t.GPT2Config())] == ["masked", "seq2seq", "causal"]


def test_the_user_overrides_the_architecture_where_there_is_such_a_model() -> None:
    assert kind(t.BertConfig(), "BertLMHeadModel", wanted="masked") == "masked"
    assert kind(t.BertConfig(is_decoder=True), "BertForMaskedLM", wanted="causal") == "causal"
    with pytest.raises(CheckpointError, match="reads both sides of a token"):
        kind(t.BertConfig(), "BertForMaskedLM", wanted="causal")
    with pytest.raises(CheckpointError, match="is a GPT2LMHeadModel, which cannot be loaded as a masked") as refused:
        kind(t.GPT2Config(), "GPT2LMHeadModel", wanted="masked")
    assert "--as causal" in refused.value.hint


def test_code_that_a_checkpoint_brings_may_hold_any_kind() -> None:
    config = t.GPT2Config()
    config.auto_map = {"AutoModelForMaskedLM": "modeling.Own"}
    assert kind(config, "Own", wanted="masked") == "masked"


def test_a_model_read_as_another_kind_has_another_fingerprint(tmp_path: Path) -> None:
    config = tiny.config("bert")
    config.is_decoder = True  # its masks hide later tokens: it may be meant as a causal model
    t.BertForMaskedLM(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    one, other = (find(str(tmp_path), option="--teacher", kind=kind) for kind in (None, "causal"))
    assert (one.kind, other.kind) == ("masked", "causal")
    assert one.fingerprint != other.fingerprint


def test_kinds_are_not_mixed(given: Given, checkpoint: Any, tmp_path: Path) -> None:
    assert same_kind([("teacher", "a", "masked"), ("student", "b", "masked")]) == "masked"
    encoder = tmp_path / "encoder"
    t.BertForMaskedLM(tiny.config("bert")).save_pretrained(encoder)
    tiny.tokenizer().save_pretrained(encoder)
    mixed = given.having(teacher=encoder)
    words = ("the teacher", str(encoder), "a masked language model", "the student", str(given.student), "a causal")
    check_refused(mixed.attack(tmp_path / "run"), *words)
    check_refused(given.attack(tmp_path / "run", "--reference", encoder), "the reference of the teacher", "a masked")
    check_refused(given.attack(tmp_path / "run", "--as", "masked"), "cannot be loaded as a masked", "leave --as out")
    check_refused(given.attack(tmp_path / "run", "--as", "prefix"), "--as: 'prefix'")
    as_causal = given.having(teacher=encoder, student=encoder).attack(tmp_path / "run", "--as", "causal")
    check_refused(as_causal, "is a BertForMaskedLM that reads both sides of a token", "leave --as out")
    assert not (tmp_path / "run").exists()
