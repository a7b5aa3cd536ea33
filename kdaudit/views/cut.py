"""The cut that all models of an audit share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kdaudit.targets.passage import Passage


def common_cut(
    passages: Sequence[Passage],
    rooms: Sequence[int],
    *,
    n_chars: int,
    places: Sequence[Callable[[int], int]] | None = None,
) -> int:
    """Characters of a text that every model can read: where the model that stops first has to stop.

    Args:
        passages: the whole text, once per tokenizer.
        rooms: how many of its tokens each tokenizer's model has room for.
        n_chars: length of the text; the answer where it fits everywhere.
        places: per tokenizer, where a place in its passage lies in the text; None: all are shown the text itself.
    """
    ends = [_end_within(passage.char_end, room) for passage, room in zip(passages, rooms, strict=True)]
    return min([n_chars, *(place(end) for place, end in zip(places or [int] * len(ends), ends, strict=True))])


def _end_within(char_end: NDArray[np.int32], room: int) -> int:
    if char_end.size <= room:
        return int(char_end[-1]) if char_end.size else np.iinfo(np.int32).max
    # a character that is split over the edge does not fit
    kept = int(np.searchsorted(char_end, char_end[room], side="left")) if char_end[room] == char_end[room - 1] else room
    return int(char_end[kept - 1]) if kept else 0
