"""Masked models: what is hidden in which pass, and its signals against a loop that knows nothing of the engine."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kdaudit.errors import CheckpointError
from kdaudit.signals.engine import measure
from kdaudit.signals.running import Rest, settle
from kdaudit.signals.tokens import TokenSignals
from kdaudit.targets.frames import frame_of
from kdaudit.targets.masked import Masking, masked_frame, passes
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Frame
from tests import encoders, tiny

TEXTS = [*tiny.texts(4, seed=0, n_words=9), "knee", "left knee swelling", ""]
TOKENIZERS = {"word pieces": encoders.word_pieces, "byte pairs": encoders.byte_pairs}


def signals(model: Any, frame: Frame, shard: list[Passage], batch_tokens: int = 200) -> list[TokenSignals]:
    return next(measure(model, [shard], frame, batch_tokens=batch_tokens))


def hidden_in(passage: Passage, masking: Masking) -> list[list[int]]:
    return [hidden.tolist() for hidden, _ in passes(passage, masking)]


def alone(model: Any, ids: list[int], hidden: list[int], mask: int) -> NDArray[np.float64]:
    """(S, 4): log-probability of the text's own token, and mean, deviation and maximum; one text, no padding."""
    shown = torch.tensor([ids])
    shown[0, hidden] = mask
    with torch.no_grad():
        scores = model(input_ids=shown).logits[0].double().log_softmax(-1)
    weights = scores.exp()
    mean = (weights * scores).sum(-1)
    deviation = (weights * (scores - mean[:, None]) ** 2).sum(-1).sqrt()
    own = scores.gather(1, torch.tensor(ids)[:, None])[:, 0]
    return torch.stack([own, mean, deviation, scores.amax(-1)], dim=1).numpy()


def table(found: TokenSignals) -> NDArray[np.float64]:
    columns = (found.logprob, found.logprob_mean, found.logprob_std, found.logprob_top)
    return np.stack(columns, axis=1).astype(np.float64)


@pytest.mark.parametrize("family", encoders.FAMILIES)
def test_pll_equals_a_loop_over_one_token_at_a_time(family: str) -> None:
    tokenizer = encoders.byte_pairs() if family == "roberta" else encoders.word_pieces()
    lead, tail = ([0], [2]) if family == "roberta" else ([encoders.CLS], [encoders.SEP])
    model = encoders.model(family, n_words=len(tokenizer))
    shard = encode(tokenizer, TEXTS)
    frame = masked_frame(tokenizer, Masking("pll"))
    assert isinstance(settle(model, shard[:3], frame).head, Rest), "the head is never applied to all positions"
    for passage, found in zip(shard, signals(model, frame, shard), strict=True):
        ids = [*lead, *passage.ids.tolist(), *tail]
        places = range(1, 1 + passage.ids.size)
        expected = [alone(model, ids, [i], tokenizer.mask_token_id)[i] for i in places]
        assert table(found) == pytest.approx(np.reshape(expected, (-1, 4)), abs=1e-4)
        assert found.n_bytes == (passage.byte_end[-1] if passage.ids.size else 0)


@pytest.mark.parametrize("plan", ["partition", "pll-word", "random:3"])
def test_every_plan_equals_a_loop_over_its_own_passes(plan: str) -> None:
    tokenizer, model = encoders.word_pieces(), encoders.model("bert", n_words=len(encoders.word_pieces()))
    masking = Masking(plan, seed=3)
    shard = encode(tokenizer, TEXTS)
    for passage, found in zip(shard, signals(model, masked_frame(tokenizer, masking), shard), strict=True):
        ids = [encoders.CLS, *passage.ids.tolist(), encoders.SEP]
        sums, counts = np.zeros((passage.ids.size, 4)), np.zeros(passage.ids.size)
        for hidden, scored in passes(passage, masking):
            sums[scored] += alone(model, ids, (1 + hidden).tolist(), encoders.MASK)[1 + scored]
            counts[scored] += 1
        is_scored = counts > 0
        assert table(found) == pytest.approx(sums[is_scored] / counts[is_scored, None], abs=1e-4)
        spelled = np.diff(passage.byte_end, prepend=0)[is_scored].sum()
        assert found.n_bytes == spelled, "bytes of tokens that are never hidden do not count"


@pytest.mark.parametrize("family", ["bert", "modernbert", "roberta"])
def test_a_partition_does_not_depend_on_batch_mates_padding_or_order(family: str) -> None:
    tokenizer = encoders.byte_pairs() if family == "roberta" else encoders.word_pieces()
    model, frame = encoders.model(family, n_words=len(tokenizer)), masked_frame(tokenizer, Masking())
    shard = encode(tokenizer, TEXTS)
    together, backwards = signals(model, frame, shard, 10_000), signals(model, frame, shard[::-1], 150)[::-1]
    for passage, one, other in zip(shard, together, backwards, strict=True):
        (by_itself,) = signals(model, frame, [passage], 1)
        assert table(one) == pytest.approx(table(other), abs=2e-5)
        assert table(one) == pytest.approx(table(by_itself), abs=2e-5)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("groups", [2, 7])
def test_a_partition_hides_every_token_once_and_words_whole(name: str, groups: int) -> None:
    for passage in encode(TOKENIZERS[name](), TEXTS):
        found = hidden_in(passage, Masking(n_groups=groups))
        assert sorted(place for group in found for place in group) == list(range(passage.ids.size))
        assert passage.words is not None
        words = [{int(passage.words[place]) for place in group} for group in found]
        assert sum(map(len, words)) == len(set(passage.words.tolist())), "no word is split over two passes"
        assert max(map(len, words), default=0) - min(map(len, words), default=0) <= 1
        assert len(found) == min(groups, len(set(passage.words.tolist())))


def test_a_text_of_one_word_has_one_pass_and_one_of_fewer_words_than_groups_one_for_each() -> None:
    one, three, none = encode(encoders.word_pieces(), ["knee", "left knee swelling", ""])
    assert len(hidden_in(one, Masking())) == 1
    assert len(hidden_in(three, Masking())) == 3
    assert hidden_in(none, Masking()) == []
    assert all(len(hidden_in(one, Masking(plan))) == one.ids.size for plan in ("pll", "pll-word"))


def test_pll_word_hides_what_follows_of_a_word_and_scores_the_token() -> None:
    (passage,) = encode(encoders.word_pieces(), ["left swelling Zorblaxian knee"])
    assert passage.words is not None
    for k, (hidden, scored) in enumerate(passes(passage, Masking("pll-word"))):
        assert scored.tolist() == [k]
        assert hidden.tolist() == [i for i in range(k, passage.ids.size) if passage.words[i] == passage.words[k]]


def test_random_masks_hide_fifteen_percent_of_the_words_each_time() -> None:
    (passage,) = encode(encoders.word_pieces(), [" ".join(["knee", "left", "pain", "fever"] * 10)])
    found = hidden_in(passage, Masking("random:20"))
    assert passage.words is not None
    assert [len({int(passage.words[i]) for i in group}) for group in found] == [6] * 20
    assert len({tuple(group) for group in found}) > 15


def test_what_is_hidden_depends_on_text_words_and_seed_alone() -> None:
    tokenizer = encoders.word_pieces()
    (passage, other) = encode(tokenizer, TEXTS[:2])
    assert hidden_in(passage, Masking()) == hidden_in(encode(tokenizer, TEXTS[:1])[0], Masking())
    assert hidden_in(passage, Masking()) != hidden_in(passage, Masking(seed=1))
    assert hidden_in(passage, Masking()) != hidden_in(other, Masking())


def test_tokenizers_that_see_the_same_words_hide_the_same_words() -> None:
    text = "the patient reports pain in left knee since Monday and takes aspirin at night"
    found = []
    for make in TOKENIZERS.values():
        (passage,) = encode(make(), [text])
        groups = hidden_in(passage, Masking())
        found.append([sorted({int(passage.char_end[i]) for i in group} & word_ends(text)) for group in groups])
    assert found[0] == found[1]


def word_ends(text: str) -> set[int]:
    return {i for i, (char, after) in enumerate(pairwise(text + " "), start=1) if char != " " and after == " "}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(2, 9), st.integers(0, 30))
def test_a_partition_covers_what_follows_the_prompt_whatever_the_words(
    lengths: list[int], groups: int, n_given: int
) -> None:
    words = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    ends = np.arange(1, words.size + 1, dtype=np.int32)
    passage = Passage(ends, ends, ends, min(n_given, words.size), words, "key")
    found = hidden_in(passage, Masking(n_groups=groups))
    assert sorted(place for group in found for place in group) == list(range(passage.n_given, words.size))
    assert all(found)


def test_a_prompt_is_read_and_never_hidden() -> None:
    text = "left knee: swelling and fever"
    (passage,) = encode(encoders.word_pieces(), [text], [len("left knee:")])
    for plan in ("partition", "pll", "pll-word", "random:9"):
        shown = masked_frame(encoders.word_pieces(), Masking(plan)).plan(passage).showings
        assert all(one.tokens.min() >= passage.n_given for one in shown)
        assert all((one.ids[1 : 1 + passage.n_given] == passage.ids[: passage.n_given]).all() for one in shown)


def test_a_prefix_is_the_first_text_of_a_pair() -> None:
    (passage,) = encode(encoders.word_pieces(), ["knee"])
    frame = replace(masked_frame(encoders.word_pieces(), Masking()), prefix=(20, 21))
    (shown,) = frame.plan(passage).showings
    assert shown.ids.tolist() == [encoders.CLS, 20, 21, encoders.SEP, encoders.MASK, encoders.SEP]
    assert (shown.second, frame.room(10, passage)) == (4, 5)
    read = frame.kind.inputs([shown])
    assert read["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]
    roberta = replace(masked_frame(encoders.byte_pairs(), Masking()), prefix=(20,))
    assert roberta.before == (0, 20, 2, 2)
    model = encoders.model("bert", n_words=len(encoders.word_pieces()))
    (found,) = signals(model, frame, [passage])
    with torch.no_grad():
        pair = {name: torch.from_numpy(value) for name, value in read.items()}
        logits = model(**pair).logits[0, 4].double().log_softmax(-1)
    assert found.logprob[0] == pytest.approx(float(logits[passage.ids[0]]), abs=1e-4)
    distil = encoders.model("distilbert", n_words=len(encoders.word_pieces()))
    assert np.isfinite(signals(distil, frame, [passage])[0].logprob).all(), "a model without segments reads it too"


def test_a_tokenizer_without_a_mask_token_is_refused() -> None:
    with pytest.raises(CheckpointError, match="has no mask token"):
        frame_of("masked", tiny.tokenizer())
