"""What a target plan is: the passes in which a text is shown, and which output predicts which token in each.

Scoring and learning read it; nothing else in the project knows about shifts, hidden tokens or special tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.script import Script


@dataclass(frozen=True, slots=True)
class Showing:
    """A text as a model is shown it once; S tokens are read and K outputs predict a token."""

    ids: NDArray[np.int32]
    """(S,): everything that is read, in order; by the decoder, where there is an encoder too."""
    columns: NDArray[np.int32]
    """(K,), rising: the places in `ids` whose outputs predict a token."""
    targets: NDArray[np.int32]
    """(K,): the token that each of these outputs predicts."""
    tokens: NDArray[np.int32]
    """(K,): the place of that token in the text (scoring) or in the example (learning)."""
    source: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    """(E,): what the encoder reads, in order; empty where the model has none."""
    second: int = 0
    """The place in `ids` from which on they belong to the second text of a pair; 0: there is one text."""

    @property
    def size(self) -> int:
        """Tokens that go through the model."""
        return int(self.ids.size + self.source.size)

    def after(self, n_tokens: int) -> Showing:
        """What is left to read where the model holds the first `n_tokens` in a cache; none of them predicts."""
        return replace(self, ids=self.ids[n_tokens:], columns=self.columns - np.int32(n_tokens)) if n_tokens else self

    def only(self, is_kept: NDArray[np.bool_]) -> Showing:
        """The same reading with fewer targets; `is_kept` is (K,)."""
        return replace(self, columns=self.columns[is_kept], targets=self.targets[is_kept], tokens=self.tokens[is_kept])


@dataclass(frozen=True, slots=True)
class Example:
    """One token sequence to learn from; its first `n_given` tokens are read but not learnt."""

    ids: NDArray[np.int32]
    """(T,): the text's tokens with the special tokens that belong to it."""
    n_given: int
    source: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    """(E,): what an encoder reads; empty where the model has none."""
    words: NDArray[np.intp] | None = None
    """(T,): the word of each token that may be hidden, counted from 0, and -1 for the others; None: none is hidden."""
    key: str = ""
    """Names the text in random draws."""
    is_gap: NDArray[np.bool_] | None = None
    """(T,): tokens behind the given ones that are read but not learnt, such as what stands between answers; None: none.
    """

    @property
    def size(self) -> int:
        """Tokens that go through the model."""
        return int(self.ids.size + self.source.size)


MARK_BYTES = 16


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """How one text is scored: its passes, all of them rows of the same batches."""

    passage: Passage
    showings: tuple[Showing, ...]
    """Empty where no token can be predicted."""

    @property
    def n_passes(self) -> int:
        """Passes that count in the plan of an audit; a text without a target counts as one."""
        return max(1, len(self.showings))

    @property
    def mark(self) -> bytes:
        """MARK_BYTES bytes that stand for all of it: equal for two plans that are shown and scored alike."""
        digest = hashlib.blake2b(digest_size=MARK_BYTES)
        for number in (self.passage.n_given, self.passage.byte_start, len(self.showings)):
            digest.update(number.to_bytes(4, "little"))
        shown = [
            array for one in self.showings for array in (one.source, one.ids, one.columns, one.targets, one.tokens)
        ]
        for array in (self.passage.ids, self.passage.byte_end, *shown):
            digest.update(len(array).to_bytes(4, "little") + array.tobytes())
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model: the rule by which texts become target plans. Every function is pure."""

    name: str
    """Tells this rule, with its parameters, from every other one."""
    show: Callable[[Passage, Frame], tuple[Showing, ...]]
    """The passes in which a text is scored."""
    example: Callable[[Passage, Frame, int], Example]
    """What is learnt of a text within a window of that many tokens."""
    learn: Callable[[Example, int], Showing]
    """How an example is shown in an epoch, counted from 0; `tokens` are places in the example."""
    inputs: Callable[[Sequence[Showing]], Mapping[str, NDArray[np.int64]]]
    """What a model is called with for a batch of B showings: arrays (B, S) by the name of the argument."""
    is_causal: bool
    """No output depends on later tokens. This is checked on every model; what all texts begin with may be cached."""
    encode: Callable[[Any, Sequence[str], Sequence[int] | None], list[Passage]] = encode
    """Splits texts into tokens as `passage.encode` does."""
    varies: bool = False
    """An example is shown otherwise in every epoch."""
    is_paired: bool = False
    """The prompt goes to an encoder and what is scored to a decoder: each has a window of its own."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How all texts of a pass are shown: the kind of model, and the tokens around each text."""

    kind: Kind
    lead: tuple[int, ...] = ()
    """The special tokens that the tokenizer puts before every text (a BOS, as a rule)."""
    prefix: tuple[int, ...] = ()
    """Tokens between the lead and the text."""
    start: tuple[int, ...] = ()
    """What the decoder reads before a text."""
    end: int | None = None
    """The token that closes a text to learn from; None where the tokenizer has none."""
    between: tuple[int, ...] = ()
    """Tokens between a prefix and the text, where the two are a pair."""
    tail: tuple[int, ...] = ()
    """The special tokens that stand behind every text; behind what the encoder reads, where there is one."""
    mask: int | None = None
    """The token in the place of hidden ones; None where the kind of model hides none."""

    @property
    def before(self) -> tuple[int, ...]:
        """Every token before a text."""
        return self.lead + self.prefix + (self.between if self.prefix else ())

    @property
    def n_around(self) -> int:
        """Tokens before and behind a text."""
        return len(self.before) + len(self.tail)

    def room(self, window: int, passage: Passage) -> int:
        """Tokens of a text for which a window has room, its prompt included."""
        left = max(0, window - self.n_around)
        if not self.kind.is_paired:
            return left
        # the last token is predicted, not read
        return passage.n_given + (max(0, window - len(self.start) + 1) if passage.n_given <= left else 0)

    def encode(self, tokenizer: Any, scripts: Sequence[Script]) -> list[Passage]:
        """Texts as a fast Hugging Face tokenizer splits them."""
        found = self.kind.encode(tokenizer, [one.text for one in scripts], [one.n_prompt for one in scripts])
        return [passage.with_gaps(script.gaps) for passage, script in zip(found, scripts, strict=True)]

    def plan(self, passage: Passage) -> TargetPlan:
        """The target plan of one text."""
        return TargetPlan(passage, self.kind.show(passage, self))


def padded(rows: Sequence[NDArray[np.int32]], fill: int = 0) -> NDArray[np.int64]:
    """Rows of B sequences as (B, S), padded on the right."""
    table = np.full((len(rows), max(row.size for row in rows)), fill, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: row.size] = row
    return table
