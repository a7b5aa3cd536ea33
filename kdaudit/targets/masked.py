"""Masked models: words are hidden in several passes, and the output of a hidden token predicts it.

What is hidden is a pure function of the text, its words and a seed: all models of an audit are asked about the same
words, without which the comparison with a reference loses most of its power.
Sources: Salazar et al. 2020, arXiv:1910.14659 (`pll`); Kauf and Ivanova 2023, arXiv:2305.10588 (`pll-word`);
Mireshghallah et al. 2022, arXiv:2203.03929 (`random`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kdaudit.draws import generator
from kdaudit.errors import CheckpointError
from kdaudit.targets.hiding import SHARE, Hiding, hidden_places
from kdaudit.targets.passage import Passage, around_ids, lead_ids
from kdaudit.targets.plan import Example, Frame, Kind, Showing, padded

MASKED_SHARE, SWAPPED_SHARE = 0.8, 0.1
"""How many of the hidden tokens to learn the mask token replaces, and how many another token; the rest is shown.

Source: Devlin et al. 2019 (BERT), arXiv:1810.04805, section 3.1.
"""
DEFAULT_PLAN, DEFAULT_GROUPS = "partition", 7
"""Groups of about 15 % of the words each."""

Places = NDArray[np.intp]
"""Places of tokens in a text, rising."""


@dataclass(frozen=True, slots=True)
class Masking:
    """What is hidden in which pass."""

    plan: str = DEFAULT_PLAN
    """partition: every word once, in groups; pll: one token in each pass; pll-word: a token and what follows of its
    word; random:K: K masks of 15 % of the words."""
    n_groups: int = DEFAULT_GROUPS
    """The groups of a partition."""
    seed: int = 0

    @property
    def n_random(self) -> int | None:
        """K of random:K; None for another plan."""
        return int(self.plan.partition(":")[2]) if self.plan.startswith("random:") else None

    @property
    def name(self) -> str:
        """Tells this plan, with its parameters, from every other one."""
        if self.plan == "partition":
            return f"masked partition {self.n_groups} seed {self.seed}"
        return f"masked {self.plan}" + ("" if self.n_random is None else f" seed {self.seed}")

    @property
    def told(self) -> str:
        """The plan with its sentence."""
        return f"{self.plan}: of each text {self.words}"

    @property
    def words(self) -> str:
        """The plan in a sentence about a text."""
        if self.plan == "partition":
            return f"its words are hidden in {self.n_groups} groups, one after the other"
        if self.plan == "pll":
            return "its tokens are hidden one after the other"
        if self.plan == "pll-word":
            return "its tokens are hidden one after the other, each with what follows of its word"
        return f"{SHARE:.0%} of its words are hidden at random, {self.n_random} times"


def masked_frame(tokenizer: Any, masking: Masking, hiding: Hiding | None = None) -> Frame:
    """How a masked model is shown the texts of a tokenizer, without a prefix.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        masking: what is hidden in which pass, where texts are scored.
        hiding: what is hidden in which epoch, where they are learnt; None: they are only scored.

    Raises:
        CheckpointError: the tokenizer has no mask token.
    """
    if tokenizer.mask_token_id is None:
        raise CheckpointError(
            f"the tokenizer in {tokenizer.name_or_path} has no mask token: nothing can be hidden from a masked model",
            hint="save the tokenizer that the model was trained with, its mask_token among its special tokens",
        )
    between, tail = around_ids(tokenizer)
    mask = int(tokenizer.mask_token_id)
    kind = masked_kind(masking)
    if hiding is not None:
        others = np.array(sorted({*tokenizer.get_vocab().values()} - {*tokenizer.all_special_ids}), dtype=np.int32)

        def learn(example: Example, epoch: int) -> Showing:
            return _learn(example, epoch, hiding, mask, others)

        kind = replace(kind, learn=learn)
    return Frame(kind, lead_ids(tokenizer), between=between, tail=tail, mask=mask)


@cache
def masked_kind(masking: Masking) -> Kind:
    """The rule of masked models under one plan."""

    def show(passage: Passage, frame: Frame) -> tuple[Showing, ...]:
        return _show(passage, frame, masking)

    return Kind(masking.name, show, _example, only_scored, _inputs, is_causal=False, varies=True)


def passes(passage: Passage, masking: Masking) -> Iterator[tuple[Places, Places]]:
    """The places that each pass hides, and those of them that it scores; what is not scored is never hidden.

    Args:
        passage: the text.
        masking: the plan.
    """
    places = passage.scored
    if not places.size:
        return
    if masking.plan == "pll":
        for k in range(places.size):
            yield places[k : k + 1], places[k : k + 1]
        return
    word_of = _word_numbers(passage)
    if masking.plan == "pll-word":
        after = np.searchsorted(word_of, word_of, side="right")  # the place behind each token's word
        for k, end in enumerate(after):
            yield places[k:end], places[k : k + 1]
        return
    for is_hidden in _hidden_words(passage, word_of, masking):
        hidden = places[is_hidden[word_of]]
        yield hidden, hidden


def _word_numbers(passage: Passage) -> Places:
    """The word of every token that is scored, counted from 0; words are runs of one number."""
    places = passage.scored
    if not places.size:
        return np.zeros(0, dtype=np.intp)
    if passage.words is None:
        return np.arange(places.size)
    words = passage.words[places]
    return np.concatenate([[0], np.cumsum(words[1:] != words[:-1])]).astype(np.intp)


def _hidden_words(passage: Passage, word_of: Places, masking: Masking) -> Iterator[NDArray[np.bool_]]:
    """(W,) for each pass: whether a word is hidden.

    A word's number is drawn for the character that it ends at. So tokenizers whose words differ in a few places, and a
    text that is cut, still hide nearly the same words together.
    """
    n_words = int(word_of[-1]) + 1
    last = np.searchsorted(word_of, np.arange(n_words), side="right") - 1
    ends = passage.char_end[passage.scored][last]
    n_random = masking.n_random
    for k in range(1 if n_random is None else n_random):
        rng = generator(masking.seed, f"mask {k} {passage.key}")
        drawn = rng.random(int(ends[-1]) + 1)[ends]
        rank = np.empty(n_words, dtype=np.intp)
        rank[np.argsort(drawn, kind="stable")] = np.arange(n_words)
        if n_random is not None:
            yield rank < max(1, round(SHARE * n_words))
            continue
        n_groups = min(masking.n_groups, n_words)
        for group in range(n_groups):
            yield rank * n_groups // n_words == group


def _show(passage: Passage, frame: Frame, masking: Masking) -> tuple[Showing, ...]:
    """The text between its special tokens, once for every pass."""
    if frame.mask is None:
        raise ValueError("a masked model needs a mask token")
    before = frame.before
    ids = np.array([*before, *passage.ids.tolist(), *frame.tail], dtype=np.int32)
    second = len(before) if frame.prefix else 0
    found = []
    for hidden, scored in passes(passage, masking):
        shown, columns = ids.copy(), (len(before) + scored).astype(np.int32)
        shown[len(before) + hidden] = frame.mask
        found.append(Showing(shown, columns, ids[columns], scored.astype(np.int32), second=second))
    return tuple(found)


def _inputs(showings: Sequence[Showing]) -> Mapping[str, NDArray[np.int64]]:
    """Padded on the right, and told so: these models look at everything that they are not told to leave out."""
    inputs = {
        "input_ids": padded([one.ids for one in showings]),
        "attention_mask": padded([np.ones(one.size, dtype=np.int32) for one in showings]),
    }
    if any(one.second for one in showings):
        pair = [(np.arange(one.size) >= one.second).astype(np.int32) for one in showings]
        inputs["token_type_ids"] = padded(pair)
    return inputs


def _example(passage: Passage, frame: Frame, window: int) -> Example:
    """The text between its special tokens, cut to the window."""
    found = passage.first(frame.room(window, passage))
    ids = np.array([*frame.lead, *found.ids.tolist(), *frame.tail], dtype=np.int32)
    n_given = len(frame.lead) + found.n_given
    return Example(ids, n_given, words=hideable(found, len(frame.lead), len(frame.tail)), key=found.key)


def hideable(passage: Passage, n_before: int = 0, n_behind: int = 0) -> Places:
    """The word of each token that may be hidden, and -1 for what is not scored and for the tokens around the text."""
    words = np.full(n_before + passage.ids.size + n_behind, -1)
    words[n_before + passage.scored] = _word_numbers(passage)
    return words


def _learn(example: Example, epoch: int, hiding: Hiding, mask: int, others: NDArray[np.int32]) -> Showing:
    """The text with other tokens hidden in every epoch; all hidden ones are learnt, those that are shown too."""
    hidden, rng = hidden_places(example, hiding, epoch)
    fate, swapped = rng.random(hidden.size), others[rng.integers(others.size, size=hidden.size)]
    shown = example.ids.copy()
    shown[hidden] = np.select(
        [fate < MASKED_SHARE, fate < MASKED_SHARE + SWAPPED_SHARE], [mask, swapped], example.ids[hidden]
    )
    columns = hidden.astype(np.int32)
    return Showing(shown, columns, example.ids[hidden], columns)


def only_scored(*_: Any) -> NoReturn:
    """Stands where nothing says what is hidden in an epoch."""
    raise ValueError("this frame is for texts that are scored; to learn from them it needs a Hiding")
