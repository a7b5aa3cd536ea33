"""Logits in float32 exist for a chunk of tokens at a time: never for all tokens of a batch."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdaudit.distill import cache, losses, utility
from kdaudit.distill.batches import Inputs, collate, inputs_of
from kdaudit.distill.cache import CacheKey, open_cache
from kdaudit.distill.student import speaker
from kdaudit.distill.utility import HeldOut, record_agreement, record_losses
from kdaudit.signals import vocabulary
from kdaudit.signals.engine import PROBE_PASSAGES
from kdaudit.signals.running import PROBE_TOKENS
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import encode
from kdaudit.targets.plan import Frame
from tests import families, tiny
from tests.distill.training import PROBE, SETTINGS, plan_of, run, some_examples

CHUNK = 40  # tokens; the hidden states have 32 numbers, so that transposed weights of the head are narrower
CPU = torch.device("cpu")
EXAMPLES = some_examples(24)


class MostRows(TorchDispatchMode):
    """The most rows of numbers in float32, one for each word of the vocabulary, that any operation gave."""

    def __init__(self, n_words: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_words, self.found = n_words, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for one in tree_leaves(given):
            if isinstance(one, torch.Tensor) and one.dtype == torch.float32 and one.shape[-1:] == (self.n_words,):
                self.found = max(self.found, one.numel() // self.n_words)
        return given


@pytest.fixture(autouse=True)
def _chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (losses, cache, utility, vocabulary):
        monkeypatch.setattr(module, "CHUNK_ELEMENTS", {"cpu": CHUNK * tiny.VOCABULARY})


def check(mode: MostRows) -> None:
    assert 0 < mode.found <= max(CHUNK * tiny.VOCABULARY // mode.n_words, PROBE_TOKENS)


def test_the_watch_sees_logits_of_all_tokens() -> None:
    with MostRows(tiny.VOCABULARY) as mode:
        tiny.model("llama")(torch.ones((8, 16), dtype=torch.int64))
    assert mode.found == 8 * 16


@pytest.mark.parametrize(
    ("architecture", "precision"), [("llama", "no"), ("gemma2", "no"), ("gpt2", "bf16"), ("gemma2", "bf16")]
)
def test_in_training(architecture: str, precision: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, mixed_precision=precision)
    student, teacher = (tiny.model(architecture, seed=seed) for seed in (1, 2))
    plan = plan_of(EXAMPLES, epochs=1, step_tokens=600)
    with MostRows(tiny.VOCABULARY) as mode:
        run(student, tmp_path, teacher=teacher, settings=settings, examples=EXAMPLES, plan=plan)
    check(mode)


@pytest.mark.parametrize("objective", ["forward-kl", "reverse-kl", "jsd", "skew-kl"])
def test_under_every_objective_with_the_teacher_written_down(objective: str, tmp_path: Path) -> None:
    key = CacheKey(1, "t", "float32", 2.0, 16, None, ())
    teacher, student = tiny.model("llama", seed=1), tiny.model("llama", seed=2).requires_grad_(True)
    speak, batch = speaker(student, PROBE), collate([(i, 0, one) for i, one in enumerate(EXAMPLES)], CAUSAL)
    with MostRows(tiny.VOCABULARY) as mode:
        written = open_cache(
            tmp_path, key, EXAMPLES, partial(speaker, teacher, PROBE), kind=CAUSAL, n_epochs=1, device=CPU,
            batch_tokens=400,
        )  # fmt: skip
        said = speak(inputs_of(batch, CPU)).outputs
        taught = written.read(range(len(EXAMPLES)), 0, CPU)
        losses.distillation_loss(
            said, taught, batch["targets"], objective=objective, hard_weight=0.5, temperature=2.0, n_targets=1,
            label_smoothing=0.1,
        ).backward()  # fmt: skip
    check(mode)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_in_the_utility(architecture: str) -> None:
    student, teacher = (tiny.model(architecture, seed=seed).requires_grad_(False) for seed in (1, 2))
    held_out = HeldOut(tuple(encode(tiny.tokenizer(), tiny.texts(40, seed=3, n_words=8))), Frame(CAUSAL), None)
    with MostRows(tiny.VOCABULARY) as mode:
        record_losses(student, held_out, batch_tokens=400)
        record_agreement(student, teacher, held_out, batch_tokens=400)
    assert 0 < mode.found <= PROBE_PASSAGES * PROBE_TOKENS  # the engine settles on some passages together


@pytest.mark.parametrize("family", ["bert", "modernbert", "t5", "bart"])
def test_in_training_of_other_kinds(family: str) -> None:
    frame, shown = families.showings(family, 48, seed=1)
    tables = families.inputs(family, 48, seed=1)
    student, teacher = (families.untrained(family, seed=seed).requires_grad_(True) for seed in (1, 2))
    read = Inputs(tables, torch.tensor([one.size for one in shown]))
    first = Inputs({name: table[:1] for name, table in tables.items()}, read.sizes[:1])
    targets = torch.full(tables["decoder_input_ids" if frame.kind.is_paired else "input_ids"].shape, losses.IGNORED)
    for line, one in zip(targets, shown, strict=True):
        line[torch.from_numpy(one.columns).long()] = torch.from_numpy(one.targets).long()
    ask = [speaker(model, first) for model in (student, teacher)]
    with MostRows(student.config.vocab_size) as mode:
        said = ask[0](read).outputs
        with torch.no_grad():
            taught = ask[1](read).outputs
        losses.distillation_loss(
            said, taught, targets, objective="forward-kl", hard_weight=0.5, temperature=2.0, n_targets=1
        ).backward()
    assert targets.numel() > 3 * max(CHUNK, PROBE_TOKENS)
    check(mode)
