"""The passages of an audit: the same cut for all models in every view, and shards that cover every text once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.attacks.lowercase import LOWERCASED
from kdaudit.attacks.recall import PREFIXED
from kdaudit.targets.causal import causal_frame
from kdaudit.targets.passage import encode
from kdaudit.targets.script import Script
from kdaudit.views import build as building
from kdaudit.views.build import SHOT_SEPARATOR, Passages, Shown, build
from kdaudit.views.view import PLAIN, View
from tests import tiny

SHORT, LONG, WINDOW = tiny.texts(3, seed=1, n_words=3), tiny.texts(3, seed=2, n_words=60), 48
TEXTS = [*SHORT, *LONG, "", "İİİİ İSTANBUL " * 20, "中文" * 40, "a"]
TOKENIZERS = (tiny.tokenizer(), tiny.tokenizer(vocabulary=400, bos=True, seed=3))
VIEWS = (PLAIN, LOWERCASED, PREFIXED)
SHOTS = tiny.texts(6, seed=9, n_words=1)


def built(
    texts: Sequence[str] = TEXTS,
    tokenizers: Sequence[Any] = TOKENIZERS,
    *,
    window: int = WINDOW,
    shots: Sequence[str] = SHOTS,
    views: Sequence[View] = VIEWS,
    seed: int = 0,
) -> Passages:
    frames = [causal_frame(tokenizer) for tokenizer in tokenizers]
    return build([*map(Script, texts)], tokenizers, frames, views=views, shots=shots, window=window, seed=seed)


def test_every_view_of_every_text_fits_with_its_front_under_every_tokenizer() -> None:
    passages = built()
    for view in VIEWS:
        for k, frame in enumerate(passages.frames):
            before = len(frame.lead) + (len(passages.prefixes[k]) if view is PREFIXED else 0)
            found = passages.read(range(len(TEXTS)), view, k)
            assert max(passage.ids.size for passage in found) + before <= WINDOW
            n_tokens = sum(passage.ids.size for passage in found)
            largest = max(int(passage.ids.max(initial=-1)) for passage in found)
            longest = max(passage.ids.size for passage in found) + before
            read = n_tokens + before * len(TEXTS)
            assert passages.shown[view][k] == Shown(n_tokens, len(TEXTS), read, largest, longest)
            assert passages.n_read(view, k) == n_tokens + before * (1 if view is PREFIXED else len(TEXTS))


def test_all_tokenizers_read_the_same_part_of_a_text() -> None:
    passages = built()
    for index, text in enumerate(TEXTS):
        cut = passages.cuts[PLAIN][index, 0]
        assert passages.scored_text(index) == text[:cut]
        for k in range(2):
            (passage,) = passages.read([index], PLAIN, k)
            assert passage.char_end.max(initial=0) <= cut
    assert passages.n_cut == sum(passages.scored_text(i) != text for i, text in enumerate(TEXTS)) > 0


def test_texts_that_fit_are_whole() -> None:
    passages = built(SHORT, window=60)
    assert passages.n_cut == 0
    assert [passages.scored_text(i) for i in range(3)] == SHORT


def test_the_prefixed_view_is_cut_further_by_the_length_of_the_shots() -> None:
    passages = built()
    assert passages.n_shots > 0
    assert (passages.cuts[PREFIXED] <= passages.cuts[PLAIN]).all()
    assert (passages.cuts[PREFIXED] < passages.cuts[PLAIN]).any()


def test_the_lowercased_view_is_that_of_what_the_plain_view_shows() -> None:
    passages = built()
    for index in range(len(TEXTS)):
        shown = passages.scored_text(index).lower()
        cut = passages.cuts[LOWERCASED][index, 0]
        (found,) = passages.read([index], LOWERCASED, 0)
        assert found.ids.tolist() == encode(TOKENIZERS[0], [shown])[0].head(cut).ids.tolist()


def test_a_text_that_grows_in_lower_case_is_still_read_to_its_end() -> None:
    assert len("İ".lower()) == 2
    passages = built(["İ" * 5], window=60)
    assert passages.cuts[PLAIN].tolist() == [[5]]
    assert passages.cuts[LOWERCASED].tolist() == [[10]]
    (found,) = passages.read([0], LOWERCASED, 0)
    assert found.byte_end[-1] == len(("İ" * 5).lower().encode())


def test_shots_are_dropped_from_the_end_until_half_of_the_window_is_left() -> None:
    for window in (200, 60, 48, 30):
        passages = built(window=window)
        assert 0 < passages.n_shots <= len(SHOTS)
        for tokenizer, frame, prefix in zip(TOKENIZERS, passages.frames, passages.prefixes, strict=True):
            joined = SHOT_SEPARATOR.join(SHOTS[: passages.n_shots])
            assert list(prefix) == tokenizer(joined, add_special_tokens=False)["input_ids"]
            assert len(frame.lead) + len(prefix) <= window // 2
        if passages.n_shots < len(SHOTS):
            one_more = SHOT_SEPARATOR.join(SHOTS[: passages.n_shots + 1])
            sizes = [len(tokenizer(one_more)["input_ids"]) for tokenizer in TOKENIZERS]
            assert max(sizes) > window // 2
    assert built(window=200).n_shots == len(SHOTS) > built(window=30).n_shots


@pytest.mark.parametrize("shots", [[], LONG])
def test_without_a_shot_that_fits_there_is_no_prefixed_view(shots: list[str]) -> None:
    passages = built(shots=shots)
    assert (passages.n_shots, passages.prefixes) == (0, ((), ()))
    assert set(passages.cuts) == {PLAIN, LOWERCASED}


def test_only_views_that_are_asked_for_are_built_beside_the_plain_one() -> None:
    assert set(built(views=[]).cuts) == {PLAIN}
    assert set(built(views=[LOWERCASED]).cuts) == {PLAIN, LOWERCASED}


def test_a_window_that_the_lead_fills_leaves_nothing_to_read() -> None:
    passages = built(window=1, shots=[])
    assert passages.cuts[PLAIN].tolist() == [[0]] * len(TEXTS)


def test_texts_are_tokenised_in_chunks_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = built()
    monkeypatch.setattr(building, "CHUNK", 3)
    counts: list[int] = []
    frames = [causal_frame(tokenizer) for tokenizer in TOKENIZERS]
    chunked = build(
        [*map(Script, TEXTS)], TOKENIZERS, frames, views=VIEWS, shots=SHOTS, window=WINDOW, on_texts=counts.append
    )
    assert {view: cuts.tolist() for view, cuts in chunked.cuts.items()} == {
        view: cuts.tolist() for view, cuts in whole.cuts.items()
    }
    assert (chunked.shown, chunked.splits) == (whole.shown, whole.splits)
    assert sum(counts) == len(TEXTS)


def test_two_tokenizers_count_as_one_only_where_they_split_these_texts_alike() -> None:
    same, other = tiny.tokenizer(), tiny.tokenizer(bos=True)
    splits = built(tokenizers=[tiny.tokenizer(), same, other, tiny.tokenizer(vocabulary=400, seed=3)]).splits
    assert splits[0] == splits[1]
    assert len(set(splits)) == 3, "a lead of its own makes a tokenizer another one"


@given(st.lists(st.integers(0, 60), max_size=30), st.integers(1, 100))
def test_shards_hold_every_text_once_longest_first_whatever_the_tokenizer(sizes: list[int], shard_chars: int) -> None:
    texts = ["a" * size for size in sizes]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(building, "SHARD_CHARS", shard_chars)
        shards = built(texts, TOKENIZERS[:1], views=[]).shards()
        assert built(texts, TOKENIZERS, window=8).shards() == shards
    order = [index for shard in shards for index in shard]
    assert sorted(order) == list(range(len(texts)))
    assert [sizes[i] for i in order] == sorted(sizes, reverse=True)
    assert all(sum(sizes[i] for i in shard[:-1]) < shard_chars for shard in shards)
    assert all(shards)


def rotated(text: str, rng: np.random.Generator) -> list[str]:
    """The words of a text, three times begun at another one."""
    words = text.split()
    return [" ".join(words[k:] + words[:k]) for k in rng.integers(0, max(1, len(words)), 3)]


ROTATED = View("rotated", rotated, n_variants=3)


def test_a_view_of_several_variants_shows_those_of_what_the_plain_view_shows_behind_the_prompt() -> None:
    text = "the patient reports pain in left knee since Monday"
    frames = [causal_frame(tokenizer) for tokenizer in TOKENIZERS]
    passages = build(
        [Script(text, 12), Script(text), Script("a")],
        TOKENIZERS,
        frames,
        views=[ROTATED],
        shots=(),
        window=WINDOW,
        seed=3,
    )
    assert passages.cuts[ROTATED].shape == (3, 3)
    found = passages.read([2, 0], ROTATED, 0)
    assert [one.n_given for one in found[:3]] == [0, 0, 0]
    assert [TOKENIZERS[0].decode(one.ids) for one in found[:3]] == ["a"] * 3
    prompted = [TOKENIZERS[0].decode(one.ids) for one in found[3:]]
    assert all(one.startswith(text[:12]) for one in prompted)
    assert all(sorted(one[12:].split()) == sorted(text[12:].split()) for one in prompted)
    assert len(set(prompted)) > 1
    assert min(one.n_given for one in found[3:]) > 0
    shown = passages.read([0, 1, 2], ROTATED, 0)
    n_tokens = sum(one.ids.size for one in shown)
    largest, longest = max(int(one.ids.max()) for one in shown), max(one.ids.size for one in shown)
    assert passages.shown[ROTATED][0] == Shown(n_tokens, 9, n_tokens, largest, longest)


def test_variants_depend_on_the_seed_and_the_text_and_on_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    one, again, other = (built(views=[ROTATED], seed=seed) for seed in (0, 0, 1))
    monkeypatch.setattr(building, "CHUNK", 3)
    chunked = built(TEXTS[::-1], views=[ROTATED])
    shown = [
        [passage.ids.tolist() for passage in passages.read(range(len(TEXTS)), ROTATED, 1)]
        for passages in (one, again, other)
    ]
    assert shown[0] == shown[1] != shown[2]
    backwards = [passage.ids.tolist() for passage in chunked.read(range(len(TEXTS))[::-1], ROTATED, 1)]
    assert backwards == shown[0]


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([View("rotated", rotated, n_variants=2)], "gives 3 variants of a text and states 2"),
        ([ROTATED, View("rotated")], "two views have one name"),
    ],
)
def test_a_view_that_contradicts_itself_is_refused(views: list[View], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(views=views)
