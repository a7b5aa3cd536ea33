"""Gaps in texts: T5 is asked for every word once, and answers as its own loss on the same gaps says."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from kdaudit.signals.engine import measure
from kdaudit.signals.running import settle
from kdaudit.targets.masked import Masking, passes
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Frame
from kdaudit.targets.seq2seq import pair_frame
from kdaudit.targets.spans import span_frame
from tests import pairs, tiny

TEXTS = ["knee", "pain knee", *tiny.texts(6, seed=3, n_words=9)]
PLANS = [Masking(), Masking(n_groups=2, seed=4), Masking("pll"), Masking("pll-word"), Masking("random:3")]


@cache
def model() -> Any:
    return pairs.model("t5")


def frame_of(masking: Masking) -> Frame:
    split = pairs.tokenizer("t5")
    found = span_frame(split, pair_frame(split, 0, "t5"), masking)
    assert found is not None
    return found


def passages() -> list[Passage]:
    return encode(pairs.tokenizer("t5"), TEXTS)


def told(ids: list[int], hidden: list[int], sentinels: list[int]) -> tuple[list[int], list[int], list[int]]:
    """What the encoder reads, what the decoder writes, and which place each written token has (-1: a sentinel)."""
    read, written, places = [], [], []
    n_used = 0
    for place, token in enumerate(ids):
        if place not in hidden:
            read.append(token)
            continue
        if place - 1 not in hidden:
            read.append(sentinels[n_used])
            written.append(sentinels[n_used])
            places.append(-1)
            n_used += 1
        written.append(token)
        places.append(place)
    return [*read, 1], written, places


@pytest.mark.parametrize("masking", PLANS, ids=lambda one: one.name)
def test_gaps_are_scored_as_the_loss_of_the_model_on_the_same_gaps(masking: Masking) -> None:
    split, shard = pairs.tokenizer("t5"), passages()
    sentinels = split.convert_tokens_to_ids(list(pairs.SENTINELS))
    found = next(measure(model(), [shard], frame_of(masking), batch_tokens=300))
    for passage, signals in zip(shard, found, strict=True):
        expected: dict[int, list[float]] = {}
        for hidden, scored in passes(passage, masking):
            assert np.flatnonzero(np.diff(hidden) > 1).size < len(sentinels)
            read, written, places = told(passage.ids.tolist(), hidden.tolist(), sentinels)
            for place in scored.tolist():
                labels = [token if at == place else -100 for token, at in zip(written, places, strict=True)]
                with torch.no_grad():
                    loss = model()(
                        input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([[0, *written[:-1]]]),
                        labels=torch.tensor([labels]),
                    ).loss  # fmt: skip
                expected.setdefault(place, []).append(-float(loss))
        assert signals.logprob == pytest.approx([np.mean(expected[place]) for place in sorted(expected)], abs=1e-4)


def test_every_token_is_scored_once_and_neither_batch_nor_order_matters() -> None:
    shard, frame = passages(), frame_of(Masking())
    alone = next(measure(model(), [shard], frame, batch_tokens=1))
    together = next(measure(model(), [shard[::-1]], frame, batch_tokens=10_000))[::-1]
    for passage, one, other in zip(shard, alone, together, strict=True):
        assert one.logprob.size == passage.ids.size
        assert one.n_bytes == passage.byte_end[-1]
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_more_gaps_than_sentinels_take_more_passes() -> None:
    (long,) = encode(pairs.tokenizer("t5"), [" ".join(tiny.WORDS * 3)])
    frame = frame_of(Masking(n_groups=2))
    plan = frame.plan(long)
    assert plan.n_passes > 2
    shown = np.concatenate([one.tokens for one in plan.showings])
    assert sorted(shown.tolist()) == list(range(long.ids.size))
    sentinels = pairs.tokenizer("t5").convert_tokens_to_ids(list(pairs.SENTINELS))
    for one in plan.showings:
        used = one.source[np.isin(one.source, sentinels)].tolist()
        assert used == sentinels[: len(used)]
        assert not np.isin(one.targets, sentinels).any()


@pytest.mark.parametrize("n_groups", [1, 2, 7])
def test_both_sides_fit_into_the_window(n_groups: int) -> None:
    frame, window = frame_of(Masking(n_groups=n_groups)), 20
    for passage in encode(pairs.tokenizer("t5"), [" ".join(tiny.WORDS), *TEXTS]):
        for one in frame.plan(passage.first(frame.room(window, passage))).showings:
            assert max(one.ids.size, one.source.size) <= window


def test_the_head_of_t5_is_split_off_for_gaps_too() -> None:
    assert settle(model(), passages()[2:4], frame_of(Masking())).head is not None


def test_a_tokenizer_without_sentinels_has_no_gaps() -> None:
    split = pairs.tokenizer("bart")
    assert span_frame(split, pair_frame(split, 1, "bart"), Masking()) is None
