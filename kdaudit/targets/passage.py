"""Texts as token sequences, and the special tokens that a tokenizer puts before them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Passage:
    """One text as one tokenizer splits it, without special tokens."""

    ids: NDArray[np.int32]
    """(T,)."""

    char_end: NDArray[np.int32]
    """(T,): characters of the text up to and including token t; non-decreasing, the last one the text's length."""

    byte_end: NDArray[np.int32]
    """(T,): the same in UTF-8 bytes."""

    n_given: int = 0
    """Leading tokens that are read but not scored: those that lie whole within the record's prompt."""

    words: NDArray[np.int32] | None = None
    """(T,): the number of the word that each token belongs to, by the tokenizer; None: every token is a word."""

    key: str = ""
    """A hash of the whole text: what is drawn for it is the same under every tokenizer and after every cut."""

    is_gap: NDArray[np.bool_] | None = None
    """(T,): tokens behind the prompt that are read but not scored, such as what stands between answers; None: none."""

    byte_start: int = 0
    """UTF-8 bytes of the text before its first token: those of a prompt that has none."""

    @property
    def scored(self) -> NDArray[np.intp]:
        """The places of the tokens that are neither of the prompt nor of a gap, rising."""
        places = np.arange(self.n_given, self.ids.size)
        return places if self.is_gap is None else places[~self.is_gap[self.n_given :]]

    def with_gaps(self, gaps: Sequence[tuple[int, int]]) -> Passage:
        """The same with stretches of characters that are not scored; a token that reaches out of its stretch is.

        Args:
            gaps: where they begin and end, behind the prompt, rising.
        """
        if not gaps:
            return self
        starts, ends = (np.array(side, dtype=np.int32) for side in zip(*gaps, strict=True))
        char_start = np.concatenate([np.zeros(1, dtype=np.int32), self.char_end[:-1]])[: self.ids.size]
        gap = np.searchsorted(starts, char_start, side="right") - 1  # the last one that begins before the token
        return replace(self, is_gap=(gap >= 0) & (self.char_end <= ends[np.maximum(gap, 0)]))

    def head(self, n_chars: int) -> Passage:
        """The tokens that lie within the first `n_chars` characters."""
        return self.first(int(np.searchsorted(self.char_end, n_chars, side="right")))

    def first(self, n_tokens: int) -> Passage:
        """The first `n_tokens` tokens."""
        return self._only(np.arange(self.ids.size) < n_tokens)

    def within(self, n_given: int, n_scored: int) -> Passage:
        """The first tokens of the prompt with the first ones of what is scored, as many as there are of each."""
        is_kept = np.arange(self.ids.size) < self.n_given + n_scored
        is_kept[n_given : self.n_given] = False
        return self._only(is_kept)

    def prompted(self, n_chars: int) -> Passage:
        """The same with the tokens of the prompt that lie within the first `n_chars` characters."""
        n_kept = int(np.searchsorted(self.char_end[: self.n_given], n_chars, side="right"))
        return self if n_kept == self.n_given else self.within(n_kept, self.ids.size)

    def _only(self, is_kept: NDArray[np.bool_]) -> Passage:
        return replace(
            self,
            ids=self.ids[is_kept],
            char_end=self.char_end[is_kept],
            byte_end=self.byte_end[is_kept],
            n_given=int(is_kept[: self.n_given].sum()),
            words=None if self.words is None else self.words[is_kept],
            is_gap=None if self.is_gap is None else self.is_gap[is_kept],
        )


def encode_apart(tokenizer: Any, texts: Sequence[str], prompts: Sequence[int] | None = None) -> list[Passage]:
    """Split prompts and what follows them each by itself, the latter as the tokenizer splits what a decoder writes.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        texts: any strings.
        prompts: leading characters of each text that are its prompt; None for none.
    """
    ends = prompts or [0] * len(texts)
    given = [text[:end] for text, end in zip(texts, ends, strict=True)]
    scored = [text[end:] for text, end in zip(texts, ends, strict=True)]
    split = zip(given, encode(tokenizer, given), encode(tokenizer, scored, is_target=True), strict=True)
    return [_joined(prompt, *parts) for prompt, *parts in split]


def _joined(prompt: str, given: Passage, scored: Passage) -> Passage:
    n_chars, n_bytes = len(prompt), len(prompt.encode("utf-8", "surrogatepass"))
    return Passage(
        np.concatenate([given.ids, scored.ids]),
        np.concatenate([given.char_end, scored.char_end + np.int32(n_chars)]),
        np.concatenate([given.byte_end, scored.byte_end + np.int32(n_bytes)]),
        n_given=int(given.ids.size),
        byte_start=0 if given.ids.size else n_bytes,
    )


def encode(
    tokenizer: Any, texts: Sequence[str], prompts: Sequence[int] | None = None, *, is_target: bool = False
) -> list[Passage]:
    """Split texts into tokens, without special tokens.

    Args:
        tokenizer: a fast Hugging Face tokenizer (offsets are needed).
        texts: any strings.
        prompts: leading characters of each text that are its prompt; None for none. A token that reaches over the
            end of a prompt is scored.
        is_target: the texts are what a decoder writes: some tokenizers have another language for that.
    """
    if not texts:
        return []  # a tokenizer refuses an empty batch
    split = partial(tokenizer, text_target=list(texts)) if is_target else partial(tokenizer, list(texts))
    encoded = split(
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return [
        replace(_passage(text, ids, offsets, n_prompt), words=_words(encoded.word_ids(i)), key=_key(text))
        for i, (text, ids, offsets, n_prompt) in enumerate(
            zip(texts, encoded["input_ids"], encoded["offset_mapping"], prompts or [0] * len(texts), strict=True)
        )
    ]


def _words(found: Sequence[int | None]) -> NDArray[np.int32]:
    """The word of each token; a token that belongs to none is one by itself."""
    return np.array([-1 - place if word is None else word for place, word in enumerate(found)], dtype=np.int32)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _passage(text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], n_prompt: int) -> Passage:
    char_end = np.array([end for _, end in offsets], dtype=np.int32)
    if char_end.size:
        np.maximum.accumulate(char_end, out=char_end)
        char_end[-1] = len(text)  # tokenizers leave trailing white space out of the last offset
    n_given = int(np.searchsorted(char_end, n_prompt, side="right")) if n_prompt else 0
    if text.isascii():
        return Passage(np.array(ids, dtype=np.int32), char_end, char_end.copy(), n_given)
    sizes = np.fromiter((len(char.encode("utf-8", "surrogatepass")) for char in text), dtype=np.int32, count=len(text))
    bytes_before = np.concatenate([[0], np.cumsum(sizes, dtype=np.int32)]).astype(np.int32)
    return Passage(np.array(ids, dtype=np.int32), char_end, bytes_before[char_end], n_given)


def lead_ids(tokenizer: Any) -> tuple[int, ...]:
    """The special tokens that a tokenizer puts in front of a text (a BOS, as a rule), or ()."""
    return around(tokenizer)[0]


def around(tokenizer: Any, *, is_target: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that a tokenizer puts before and after a text.

    Args:
        tokenizer: of transformers.
        is_target: the text is what a decoder writes.
    """
    name = "text_target" if is_target else "text"
    bare = tokenizer(**{name: "a"}, add_special_tokens=False)["input_ids"]
    full = [int(i) for i in tokenizer(**{name: "a"}, add_special_tokens=True)["input_ids"]]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start]), tuple(full[start + len(bare) :])
    return (), ()


def around_ids(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that a tokenizer puts between two texts of a pair, and behind a text; () where none."""
    bare, full, pair = (
        list(tokenizer(*texts, add_special_tokens=is_full)["input_ids"])
        for texts, is_full in ((("a",), False), (("a",), True), (("a", "a"), True))
    )
    lead = list(lead_ids(tokenizer))
    tail = full[len(lead) + len(bare) :]
    between = pair[len(lead) + len(bare) : len(pair) - len(bare) - len(tail)]
    return tuple(map(int, between)), tuple(map(int, tail))


def lead_text(tokenizer: Any) -> str:
    """The special tokens that a tokenizer puts in front of a text, as they are written; "" for none."""
    return "".join(map(str, tokenizer.convert_ids_to_tokens(list(lead_ids(tokenizer)))))
