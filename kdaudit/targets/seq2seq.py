"""Encoder-decoders: the encoder reads the prompt, and each output of the decoder predicts the next completion token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit.targets.passage import Passage, around, encode_apart
from kdaudit.targets.plan import Example, Frame, Kind, Showing, padded

STARTS_WITH_THE_LAST = frozenset({"mbart", "plbart"})
"""Types of models whose decoder starts with the last token of what it is to write, the code of its language: where the
tokenizer says which one, and where config.json names no other start."""


def pair_frame(tokenizer: Any, decoder_start: int | None, model_type: str) -> Frame:
    """How an encoder-decoder is shown prompts and completions, without a prefix.

    The encoder reads the prompt between the special tokens of the tokenizer. The decoder reads its start token and the
    special tokens that stand before a target (BART's BOS, a language code), then the completion. The completion's own
    tokens are scored, and no special token is: the end of a completion is learnt but spells nothing.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        decoder_start: the token that the model's configuration starts its decoder with; None where it names none.
        model_type: as transformers names it.

    Raises:
        ValueError: nothing says what the decoder starts with.
    """
    lead, tail = around(tokenizer)
    before, after = around(tokenizer, is_target=True)
    knows_language = getattr(tokenizer, "tgt_lang", None) is not None
    if model_type in STARTS_WITH_THE_LAST and after and (knows_language or decoder_start is None):
        decoder_start = after[-1]
    if decoder_start is None:
        raise ValueError("no decoder_start_token_id in its config.json or generation_config.json")
    end = tokenizer.eos_token_id
    return Frame(PAIRS, lead, tail=tail, start=(decoder_start, *before), end=None if end is None else int(end))


def _show(passage: Passage, frame: Frame) -> tuple[Showing, ...]:
    given, scored = passage.ids[: passage.n_given], passage.ids[passage.n_given :]
    if not scored.size:
        return ()
    columns = np.arange(len(frame.start) - 1, len(frame.start) - 1 + scored.size, dtype=np.int32)
    return (
        Showing(
            joined(frame.start, scored[:-1]),
            columns=columns,
            targets=scored,
            tokens=np.arange(passage.n_given, passage.ids.size, dtype=np.int32),
            source=joined(frame.before, given, frame.tail),
        ),
    )


def _example(passage: Passage, frame: Frame, window: int) -> Example:
    """The start, the completion and its end, with the prompt for the encoder, each cut to the window."""
    room = max(0, window - frame.n_around)
    given, scored = passage.ids[: passage.n_given][:room], passage.ids[passage.n_given :]
    is_closed = frame.end in scored[-2:].tolist()  # a chat template closes its answers itself
    end = () if frame.end is None or is_closed else (frame.end,)
    whole = joined(frame.start, scored, end)[: window + 1]  # the last token is predicted, not read
    return Example(whole, 1, source=joined(frame.before, given, frame.tail))


def _learn(example: Example, _: int) -> Showing:
    """The same in every epoch: all that the decoder reads after its first token, the special tokens too."""
    places = np.arange(example.n_given, example.ids.size, dtype=np.int32)
    return Showing(
        example.ids[:-1], columns=places - np.int32(1), targets=example.ids[example.n_given :], tokens=places,
        source=example.source,
    )  # fmt: skip


def joined(*parts: Sequence[int] | NDArray[np.int32]) -> NDArray[np.int32]:
    """Tokens one after the other."""
    return np.concatenate([np.zeros(0, dtype=np.int32), *(np.asarray(part, dtype=np.int32) for part in parts)])


def padded_sides(showings: Sequence[Showing]) -> Mapping[str, NDArray[np.int64]]:
    """Both sides padded on the right; the masks keep the padding from being read."""
    found: dict[str, NDArray[np.int64]] = {}
    for side, rows in (("", [one.source for one in showings]), ("decoder_", [one.ids for one in showings])):
        found[f"{side}input_ids"] = padded(rows)
        found[f"{side}attention_mask"] = padded([np.ones(row.size, dtype=np.int32) for row in rows])
    return found


PAIRS = Kind("seq2seq", _show, _example, _learn, padded_sides, is_causal=False, encode=encode_apart, is_paired=True)
