"""Batches without padding give what padded ones give, and are taken where attention supports them alone.

Flash attention needs a GPU: here the same inputs go through torch's attention, whose mask follows the same positions.
"""

from typing import Any

import numpy as np
import pytest

from kdaudit.signals import running
from kdaudit.signals.batch import make_packed_batch
from kdaudit.signals.engine import measure
from kdaudit.signals.running import packs, settle
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Frame
from tests import tiny

LENGTHS = (23, 2, 9, 1, 0, 17, 23, 5, 12, 3)
BUDGET = 60


def passages() -> list[Passage]:
    whole = encode(tiny.tokenizer(), tiny.texts(len(LENGTHS), seed=0, n_words=100))
    return [Passage(p.ids[:n], p.char_end[:n], p.byte_end[:n]) for p, n in zip(whole, LENGTHS, strict=True)]


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "packs", lambda _: True)


@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize("lead", [(), (0,)])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_packed_batches_give_what_padded_ones_give(
    architecture: str, lead: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, frame = tiny.model(architecture), Frame(CAUSAL, lead)
    widths: list[int] = []

    def counting(*given: Any) -> Any:
        made = make_packed_batch(*given)
        assert made.inputs["input_ids"].shape[0] == 1
        widths.append(made.inputs["input_ids"].shape[1])
        return made

    monkeypatch.setattr(running, "make_packed_batch", counting)
    found = next(measure(model, [passages()], frame, batch_tokens=BUDGET, probe=passages()[:2]))
    read = widths[1:]  # after the one that was tried
    n_read = sum(one.size for passage in passages() for one in frame.plan(passage).showings)
    assert sum(read) == n_read, "no token is padding"
    assert max(read) <= BUDGET
    assert len(read) == -(-n_read // BUDGET)
    monkeypatch.setattr(running, "packs", lambda _: False)
    padded = next(measure(model, [passages()], frame, batch_tokens=BUDGET, probe=passages()[:2]))
    for one, other in zip(found, padded, strict=True):
        for name in ("logprob", "logprob_mean", "logprob_std", "logprob_top"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4)
        assert np.array_equal(one.byte_end, other.byte_end)


@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize("texts", [1, 2])
def test_a_model_that_carries_a_state_from_text_to_text_is_not_packed(texts: int) -> None:
    assert not settle(tiny.model("mamba"), passages()[:texts], Frame(CAUSAL)).is_packed
    assert settle(tiny.model("llama"), passages()[:texts], Frame(CAUSAL)).is_packed


def test_flash_attention_alone_is_packed() -> None:
    model = tiny.model("llama")
    assert not packs(model)
    assert not settle(model, passages()[:2], Frame(CAUSAL)).is_packed
    for attention, expected in (("flash_attention_2", True), ("flash_attention_3", True), ("eager", False)):
        model.config._attn_implementation_internal = attention
        assert packs(model) is expected


@pytest.mark.usefixtures("packed")
def test_a_cached_prefix_stays_padded() -> None:
    prefix = tuple(passages()[0].ids.tolist()[:6])
    found = settle(tiny.model("llama"), passages()[:2], Frame(CAUSAL, (0,), prefix))
    assert found.n_cached
    assert not found.is_packed
    assert found.without_cache is not None
    assert found.without_cache.is_packed


def test_a_packed_batch_says_where_each_text_begins_and_what_predicts_its_tokens() -> None:
    shown = [Frame(CAUSAL).plan(passages()[k]).showings[0] for k in (1, 2)]
    batch = make_packed_batch(shown, tiny.model("llama").device)
    assert batch.inputs["position_ids"].tolist() == [[0, 1, *range(9)]]
    assert batch.inputs["input_ids"].tolist() == [[*shown[0].ids.tolist(), *shown[1].ids.tolist()]]
    assert batch.rows.tolist() == [0] * 9
    assert batch.columns.tolist() == [0, *range(2, 10)]
    assert batch.targets.tolist() == [*shown[0].targets.tolist(), *shown[1].targets.tolist()]
