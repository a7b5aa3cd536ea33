"""The cut that all models of an audit share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdaudit.targets.passage import Passage


def common_cut(
    passages: Sequence[Passage], rooms: Sequence[int], *, n_chars: int, shifts: Sequence[int] | None = None
) -> int:
    """Characters of a text that every model can read: where the model that stops first has to stop.

    Args:
        passages: the whole text, once per tokenizer.
        rooms: how many of its tokens each tokenizer's model has room for.
        n_chars: length of the text; the answer where it fits everywhere.
        shifts: per tokenizer, by how many characters the prompt that it is shown is longer; None: all are shown one.
    """
    found = zip(passages, rooms, shifts or [0] * len(passages), strict=True)
    return max(0, min([n_chars, *(_end_within(passage.char_end, room) - shift for passage, room, shift in found)]))


def _end_within(char_end: NDArray[np.int32], room: int) -> int:
    if char_end.size <= room:
        return int(char_end[-1]) if char_end.size else np.iinfo(np.int32).max
    # a character that is split over the edge does not fit
    kept = int(np.searchsorted(char_end, char_end[room], side="left")) if char_end[room] == char_end[room - 1] else room
    return int(char_end[kept - 1]) if kept else 0
