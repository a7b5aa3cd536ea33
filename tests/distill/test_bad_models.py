"""Nothing that is finished is lost to a bad start, and what cannot be learnt is refused before it is tried."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from kdaudit.distill.utility import OVERFLOW, perplexity
from kdaudit.errors import ModelError
from kdaudit.metrics.estimate import Estimate
from kdaudit.models.checkpoint import find
from kdaudit.signals.engine import measure
from kdaudit.signals.likelihoods import Likelihoods
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame
from tests import tiny
from tests.commands import check_refused, kdaudit
from tests.distill.students import Recipe, manifest_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@pytest.mark.parametrize(
    ("nll", "expected"),
    [
        (Estimate(1.0, 0.5, 2.0), (math.e, math.exp(0.5), math.exp(2.0), "")),
        (Estimate(700.0, 690.0, 720.0), (math.exp(700.0), None, None, OVERFLOW)),
        (Estimate(1e5, 1e4, 1e6), (None, None, None, OVERFLOW)),
        (Estimate(None, reason="none"), (None, None, None, "none")),
    ],
)
def test_a_perplexity_beyond_all_numbers_is_none_and_says_so(nll: Estimate, expected: tuple[object, ...]) -> None:
    found = perplexity(nll)
    assert (found.value, found.low, found.high, found.reason) == expected


@pytest.mark.parametrize(("factor", "reason"), [(1e5, OVERFLOW), (math.inf, "of the start on 12 held-out records are")])
def test_a_start_without_a_perplexity_does_not_end_a_finished_training(
    factor: float, reason: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdaudit.distill import utility

    original = utility.record_losses

    def worsened(model: torch.nn.Module, *args: object, **options: object) -> Likelihoods:
        found = original(model, *args, **options)  # type: ignore[arg-type]
        calls.append(1)
        return found if len(calls) != 3 else replace(found, nll=found.nll * factor)

    calls: list[int] = []
    monkeypatch.setattr(utility, "record_losses", worsened)
    done = recipe.distill(tmp_path / "student")
    assert done.code == 0, done.err
    found = manifest_of(tmp_path / "student")["utility"]
    assert found["perplexity"]["start"]["value"] is None
    assert reason in found["perplexity"]["start"]["reason"]
    assert reason in done.out + done.err
    assert found["perplexity"]["student"]["value"] > 1
    assert reason in (tmp_path / "student" / "README.md").read_text()
    assert recipe.attack(tmp_path / "student", tmp_path / "run").code == 0
    done = kdaudit("report", tmp_path / "run", "--format", "html,md,json")
    assert done.code == 0, done.err


def test_tokens_beyond_the_embeddings_are_refused_before_training(recipe: Recipe, tmp_path: Path) -> None:
    models = []
    for name in ("teacher", "start"):
        folder = tmp_path / name
        tiny.model("gpt2", vocabulary=120, context=128).save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        models.append(folder)
    done = Recipe(models[0], models[1], recipe.train).distill(tmp_path / "student")
    check_refused(done, "the tokenizer gives token", "knows 120 tokens")
    assert not (tmp_path / "student" / "model.safetensors").exists()


def test_the_context_of_roberta_is_counted_from_its_padding_token(tmp_path: Path) -> None:
    config = transformers.RobertaConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=34, is_decoder=True, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    model = transformers.RobertaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    context = find(str(tmp_path), option="--teacher").context
    assert context == 32
    model(input_ids=torch.full((1, context), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, context + 1), 5))


def test_a_model_that_reads_less_than_it_says_ends_with_a_message() -> None:
    ends = np.arange(1, 41, dtype=np.int32)
    shard = [Passage(np.full(40, 5, np.int32), ends, ends)]
    with pytest.raises(ModelError) as caught:
        list(measure(tiny.model("gpt2", context=16), [shard], Frame(CAUSAL, (0,)), batch_tokens=100))
    assert "--max-tokens" in caught.value.hint


def test_positions_in_files_that_are_fewer_than_said_are_refused(tmp_path: Path) -> None:
    from kdaudit.models.loading import load

    folder = tiny.save(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["transformer.wpe.weight"] = weights["transformer.wpe.weight"][:20].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"transformer\.wpe\.weight is 20 x 32 in the files, .* describes 64 x 32"):
        load(find(str(folder), option="--teacher"), device="cpu", dtype="float32")


def test_a_start_that_gives_no_numbers_does_not_end_a_finished_training(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdaudit.distill import utility

    def refusing(*args: object, **options: object) -> Likelihoods:
        calls.append(1)
        if len(calls) == 3:
            raise ModelError("the logits hold NaN")
        return original(*args, **options)  # type: ignore[arg-type]

    calls: list[int] = []
    original = utility.record_losses
    monkeypatch.setattr(utility, "record_losses", refusing)
    assert recipe.distill(tmp_path / "student").code == 0
    found = manifest_of(tmp_path / "student")["utility"]
    for figure in ("nll", "bits_per_byte", "perplexity"):
        assert found[figure]["start"]["value"] is None
        assert found[figure]["start"]["reason"] == "the start gives no figures: the logits hold NaN"


@pytest.mark.parametrize("options", [("--on-policy", 1), ("--sequence-level",)])
def test_nobody_writes_words_that_the_other_model_cannot_read(
    options: tuple[object, ...], recipe: Recipe, tmp_path: Path
) -> None:
    """Random weights take a word of the longer tail nearly every time."""
    wide = tiny.save(tmp_path / "wide", context=128)
    tiny.model("gpt2", vocabulary=2 * tiny.VOCABULARY, context=128).save_pretrained(wide)
    teacher, start = (recipe.teacher, wide) if options[0] == "--on-policy" else (wide, recipe.start)
    done = Recipe(teacher, start, recipe.train).distill(tmp_path / "student", *options)
    assert done.code == 0, done.err
