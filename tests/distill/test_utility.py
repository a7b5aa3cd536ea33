"""Held-out utility agrees with the models' own losses, computed the plain way."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kdaudit.distill.utility import HeldOut, measure_utility, record_losses
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import loaded
from kdaudit.results.file import encode as encode_result
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import encode
from kdaudit.targets.plan import Frame
from tests import tiny

TEXTS = tiny.texts(40, seed=3)


def measured(folders: dict[str, Path], *, vocabulary: int | None = None) -> dict[str, Any]:
    held_out = HeldOut(tuple(encode(tiny.tokenizer(), TEXTS)), Frame(CAUSAL), vocabulary)
    models = {name: find(str(folder), option="--x") for name, folder in folders.items()}
    opened = partial(loaded, device="cpu", dtype="float32")
    utility = measure_utility(models, held_out, opened=opened, batch_tokens=300, seed=0)
    found: dict[str, Any] = encode_result(utility, "utility")
    return found


@pytest.fixture(scope="module")
def folders(checkpoint: Callable[..., Path]) -> dict[str, Path]:
    return {"teacher": checkpoint(seed=1), "start": checkpoint(seed=3), "student": checkpoint("llama", seed=2)}


@pytest.fixture(scope="module")
def utility(folders: dict[str, Path]) -> dict[str, Any]:
    return measured(folders)


@pytest.mark.parametrize("name", ["teacher", "start", "student"])
def test_the_loss_is_the_models_own_mean_over_all_tokens(
    name: str, folders: dict[str, Path], utility: dict[str, Any]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32).eval()
    nll, n_tokens, n_bytes = 0.0, 0, 0
    for text in TEXTS:
        ids = torch.tensor([tiny.tokenizer()(text)["input_ids"]])
        with torch.no_grad():
            nll += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
        n_tokens += ids.shape[1] - 1
        n_bytes += len(text.encode()) - len(tiny.tokenizer().decode(ids[0, :1]).encode())
    assert utility["n_tokens"] == n_tokens
    assert utility["nll"][name]["value"] == pytest.approx(nll / n_tokens, rel=1e-5)
    assert utility["bits_per_byte"][name]["value"] == pytest.approx(nll / math.log(2) / n_bytes, rel=1e-5)
    assert utility["perplexity"][name]["value"] == pytest.approx(math.exp(nll / n_tokens), rel=1e-4)
    assert utility["nll"][name]["low"] < utility["nll"][name]["value"] < utility["nll"][name]["high"]


def test_agreement_is_taken_over_every_scored_token(folders: dict[str, Path], utility: dict[str, Any]) -> None:
    teacher, student = (
        AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32).eval()
        for name in ("teacher", "student")
    )
    agreed, divergence, n_tokens = 0, 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([tiny.tokenizer()(text)["input_ids"]])
        with torch.no_grad():
            p, q = (model(ids).logits[0, :-1].log_softmax(-1) for model in (teacher, student))
        agreed += int((p.argmax(-1) == q.argmax(-1)).sum())
        divergence += float(torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum"))
        n_tokens += len(p)
    assert utility["agreement"]["top1"]["value"] == pytest.approx(agreed / n_tokens)
    assert utility["agreement"]["forward_kl"]["value"] == pytest.approx(divergence / n_tokens, rel=1e-4)


def test_a_student_that_is_its_teacher_agrees_everywhere(folders: dict[str, Path]) -> None:
    found = measured({**folders, "student": folders["teacher"]})
    assert found["agreement"]["top1"]["value"] == 1
    assert found["agreement"]["forward_kl"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["nll"]["student"] == found["nll"]["teacher"]


def test_only_the_completion_counts(checkpoint: Callable[..., Path]) -> None:
    passages = encode(tiny.tokenizer(), TEXTS, [len(text) // 2 for text in TEXTS])
    whole = encode(tiny.tokenizer(), TEXTS)
    model = AutoModelForCausalLM.from_pretrained(checkpoint(seed=1), dtype=torch.float32).eval()
    part, full = (
        record_losses(model, HeldOut(tuple(shown), Frame(CAUSAL), None), batch_tokens=300)
        for shown in (passages, whole)
    )
    given = [one.n_given for one in passages]
    assert (part.n_tokens == [one.ids.size - n for one, n in zip(passages, given, strict=True)]).all()
    assert (part.nll < full.nll).all()
    assert (
        part.n_bytes
        == [len(t.encode()) - int(p.byte_end[n - 1]) for t, p, n in zip(TEXTS, passages, given, strict=True)]
    ).all()
