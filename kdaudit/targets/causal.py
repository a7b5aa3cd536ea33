"""Causal models: one pass, and the output before a token predicts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit.targets.passage import Passage, lead_ids
from kdaudit.targets.plan import Example, Frame, Kind, Showing, padded


def n_unscored(passage: Passage, frame: Frame) -> int:
    """Tokens of a text that are not scored: its prompt, and the first one where no BOS stands before the text."""
    return max(passage.n_given, 0 if frame.lead else 1)


def causal_frame(tokenizer: Any) -> Frame:
    """How a causal model is shown the texts of a tokenizer, without a prefix."""
    end = tokenizer.eos_token_id
    return Frame(CAUSAL, lead_ids(tokenizer), end=None if end is None else int(end))


def _show(passage: Passage, frame: Frame) -> tuple[Showing, ...]:
    first = n_unscored(passage, frame)
    if passage.ids.size <= first:
        return ()
    before = np.array(frame.before, dtype=np.int32)
    found = _predicting(np.concatenate([before, passage.ids]), len(before) + first, start=len(before))
    if passage.is_gap is not None:
        found = found.only(~passage.is_gap[first:])
    return (found,) if found.targets.size else ()


def _example(passage: Passage, frame: Frame, window: int) -> Example:
    """The lead, the text and its end, cut to the window."""
    ids = passage.ids.tolist()
    is_closed = frame.end in ids[-2:]  # a chat template closes its answers itself
    end = [] if frame.end is None or is_closed else [frame.end]
    whole = np.array([*frame.lead, *ids, *end], dtype=np.int32)
    gaps = None
    if passage.is_gap is not None:
        gaps = np.concatenate([np.zeros(len(frame.lead), dtype=bool), passage.is_gap, np.zeros(len(end), dtype=bool)])
    return Example(
        whole[:window], min(len(frame.lead) + passage.n_given, window), is_gap=None if gaps is None else gaps[:window]
    )


def _learn(example: Example, _: int) -> Showing:
    """The same in every epoch: all tokens but the given ones, and nothing predicts the first one of a sequence."""
    first = max(example.n_given, 1)
    found = _predicting(example.ids, first, start=0)
    return found if example.is_gap is None else found.only(~example.is_gap[first:])


def _predicting(ids: NDArray[np.int32], first: int, *, start: int) -> Showing:
    """All of `ids`, whose tokens from `first` on are predicted; the text starts at `start`."""
    places = np.arange(first, ids.size, dtype=np.int32)
    return Showing(ids, columns=places - np.int32(1), targets=ids[first:], tokens=places - np.int32(start))


def _inputs(showings: Sequence[Showing]) -> Mapping[str, NDArray[np.int64]]:
    """Padded on the right: under a causal mask nothing real can see the padding."""
    return {"input_ids": padded([one.ids for one in showings])}


CAUSAL = Kind("causal", _show, _example, _learn, _inputs, is_causal=True)
