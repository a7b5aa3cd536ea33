"""In training and in the utility too, a sequence is read by the rules of its own length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div

from kdaudit.distill.batches import collate, inputs_of
from kdaudit.distill.student import speaker
from kdaudit.distill.utility import HeldOut, record_agreement
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.plan import Example, Frame
from tests.distill.training import read
from tests.signals.test_lengths import LENGTHS, made, passages

PROBE = read(torch.arange(1, 12)[None])
EXAMPLES = [Example(passage.ids, 0) for passage in passages(LENGTHS)]


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
@pytest.mark.parametrize("with_hidden", [False, True])
def test_what_a_model_says_of_a_sequence_does_not_depend_on_its_batch(kind: str, with_hidden: bool) -> None:
    model = made("llama", kind)
    speak = speaker(model, PROBE, with_hidden=with_hidden)
    batch = inputs_of(collate([(row, 0, example) for row, example in enumerate(EXAMPLES)], CAUSAL), torch.device("cpu"))
    said = speak(batch)
    said.outputs.states.sum().backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0
    for row, example in enumerate(EXAMPLES):
        alone = speak(read(torch.from_numpy(example.ids.astype("int64"))[None]))
        n = example.ids.size
        torch.testing.assert_close(said.outputs.states[row, :n], alone.outputs.states[0], atol=1e-5, rtol=1e-5)
        for layer, own in zip(said.hidden, alone.hidden, strict=True):
            torch.testing.assert_close(layer[row, :n], own[0], atol=1e-5, rtol=1e-5)


def test_agreement_with_the_teacher_is_that_of_every_record_alone() -> None:
    teacher, student = made("llama", "longrope"), made("phi3", "longrope")
    held_out = HeldOut(tuple(p for p in passages(LENGTHS) if p.ids.size > 1), Frame(CAUSAL, (0,)), None)
    _, divergence = record_agreement(student, teacher, held_out, batch_tokens=10_000)
    for passage, found in zip(held_out.passages, divergence, strict=True):
        ids = torch.tensor([[0, *passage.ids.tolist()]])
        with torch.no_grad():
            said, taught = (
                model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1) for model in (student, teacher)
            )
        expected = kl_div(said, taught, log_target=True, reduction="sum")
        assert found == pytest.approx(float(expected), rel=1e-3)
    assert np.isfinite(divergence).all()
