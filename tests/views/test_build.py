"""The passages of an audit: the same cut for all models in every view, and shards that cover every text once."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.targets.passage import encode
from kdaudit.views import build as building
from kdaudit.views.build import SHOT_SEPARATOR, Passages, build
from kdaudit.views.view import View
from tests import tiny

SHORT, LONG, WINDOW = tiny.texts(3, seed=1, n_words=3), tiny.texts(3, seed=2, n_words=60), 48
TEXTS = [*SHORT, *LONG, "", "İİİİ İSTANBUL " * 20, "中文" * 40, "a"]
TOKENIZERS = (tiny.tokenizer(), tiny.tokenizer(vocabulary=400, bos=True, seed=3))
SHOTS = tiny.texts(6, seed=9, n_words=1)


def built(
    texts: Sequence[str] = TEXTS,
    tokenizers: Sequence[Any] = TOKENIZERS,
    *,
    window: int = WINDOW,
    shots: Sequence[str] = SHOTS,
    views: Sequence[View] = tuple(View),
) -> Passages:
    return build(texts, tokenizers, views=views, shots=shots, window=window)


def test_every_view_of_every_text_fits_with_its_front_under_every_tokenizer() -> None:
    passages = built()
    for view in View:
        for k, lead in enumerate(passages.leads):
            front = len(lead) + (len(passages.prefixes[k]) if view is View.PREFIXED else 0)
            found = passages.read(range(len(TEXTS)), view, k)
            assert max(passage.ids.size for passage in found) + front <= WINDOW
            assert sum(passage.ids.size for passage in found) == passages.n_tokens[view][k]


def test_all_tokenizers_read_the_same_part_of_a_text() -> None:
    passages = built()
    for index, text in enumerate(TEXTS):
        cut = passages.cuts[View.PLAIN][index]
        assert passages.scored_text(index) == text[:cut]
        for k in range(2):
            (passage,) = passages.read([index], View.PLAIN, k)
            assert passage.char_end.max(initial=0) <= cut
    assert passages.n_cut == sum(passages.scored_text(i) != text for i, text in enumerate(TEXTS)) > 0


def test_texts_that_fit_are_whole() -> None:
    passages = built(SHORT, window=60)
    assert passages.n_cut == 0
    assert [passages.scored_text(i) for i in range(3)] == SHORT


def test_the_prefixed_view_is_cut_further_by_the_length_of_the_shots() -> None:
    passages = built()
    assert passages.n_shots > 0
    assert (passages.cuts[View.PREFIXED] <= passages.cuts[View.PLAIN]).all()
    assert (passages.cuts[View.PREFIXED] < passages.cuts[View.PLAIN]).any()


def test_the_lowercased_view_is_that_of_what_the_plain_view_shows() -> None:
    passages = built()
    for index in range(len(TEXTS)):
        shown = passages.scored_text(index).lower()
        cut = passages.cuts[View.LOWERCASED][index]
        (found,) = passages.read([index], View.LOWERCASED, 0)
        assert found.ids.tolist() == encode(TOKENIZERS[0], [shown])[0].head(cut).ids.tolist()


def test_a_text_that_grows_in_lower_case_is_still_read_to_its_end() -> None:
    assert len("İ".lower()) == 2
    passages = built(["İ" * 5], window=60)
    assert passages.cuts[View.PLAIN].tolist() == [5]
    assert passages.cuts[View.LOWERCASED].tolist() == [10]
    (found,) = passages.read([0], View.LOWERCASED, 0)
    assert found.byte_end[-1] == len(("İ" * 5).lower().encode())


def test_shots_are_dropped_from_the_end_until_half_of_the_window_is_left() -> None:
    for window in (200, 60, 48, 30):
        passages = built(window=window)
        assert 0 < passages.n_shots <= len(SHOTS)
        for tokenizer, lead, prefix in zip(TOKENIZERS, passages.leads, passages.prefixes, strict=True):
            joined = SHOT_SEPARATOR.join(SHOTS[: passages.n_shots])
            assert list(prefix) == tokenizer(joined, add_special_tokens=False)["input_ids"]
            assert len(lead) + len(prefix) <= window // 2
        if passages.n_shots < len(SHOTS):
            one_more = SHOT_SEPARATOR.join(SHOTS[: passages.n_shots + 1])
            sizes = [len(tokenizer(one_more)["input_ids"]) for tokenizer in TOKENIZERS]
            assert max(sizes) > window // 2
    assert built(window=200).n_shots == len(SHOTS) > built(window=30).n_shots


@pytest.mark.parametrize("shots", [[], LONG])
def test_without_a_shot_that_fits_there_is_no_prefixed_view(shots: list[str]) -> None:
    passages = built(shots=shots)
    assert (passages.n_shots, passages.prefixes) == (0, ((), ()))
    assert set(passages.cuts) == {View.PLAIN, View.LOWERCASED}


def test_only_views_that_are_asked_for_are_built_beside_the_plain_one() -> None:
    assert set(built(views=[]).cuts) == {View.PLAIN}
    assert set(built(views=[View.LOWERCASED]).cuts) == {View.PLAIN, View.LOWERCASED}


def test_a_window_that_the_lead_fills_leaves_nothing_to_read() -> None:
    passages = built(window=1, shots=[])
    assert passages.cuts[View.PLAIN].tolist() == [0] * len(TEXTS)


def test_texts_are_tokenised_in_chunks_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = built()
    monkeypatch.setattr(building, "CHUNK", 3)
    counts: list[int] = []
    chunked = build(TEXTS, TOKENIZERS, views=tuple(View), shots=SHOTS, window=WINDOW, on_texts=counts.append)
    assert {view: cuts.tolist() for view, cuts in chunked.cuts.items()} == {
        view: cuts.tolist() for view, cuts in whole.cuts.items()
    }
    assert (chunked.n_tokens, chunked.splits) == (whole.n_tokens, whole.splits)
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
