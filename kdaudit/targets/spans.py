"""Texts without a prompt for T5: words are hidden from the encoder as from a masked model, and the decoder writes them.

Source: Raffel et al. 2020, arXiv:1910.10683, section 3.1.4: each run of hidden tokens becomes one sentinel, and the
decoder writes every sentinel with what it stands for. The hidden tokens are scored, the sentinels are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit.targets.hiding import Hiding, hidden_places
from kdaudit.targets.masked import Masking, Places, hideable, only_scored, passes
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Example, Frame, Kind, Showing
from kdaudit.targets.seq2seq import joined, padded_sides

SENTINEL = ("<extra_id_{}>", "▁<extra_id_{}>")
"""How T5, mT5 and their kin write the n-th one."""


def span_frame(tokenizer: Any, pairs: Frame, masking: Masking, hiding: Hiding | None = None) -> Frame | None:
    """How an encoder-decoder is shown texts without prompts; None where its tokenizer has no sentinels.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        pairs: how the model is shown prompts and completions.
        masking: what is hidden in which pass, where texts are scored.
        hiding: what is hidden in which epoch, where they are learnt; None: they are only scored.
    """
    known = tokenizer.get_vocab()
    found = ([known[name.format(n)] for name in SENTINEL if name.format(n) in known] for n in itertools.count())
    sentinels = tuple(int(ids[0]) for ids in itertools.takewhile(len, found))
    if not sentinels:
        return None
    kind = _span_kind(masking, sentinels)
    if hiding is not None:

        def learn(example: Example, epoch: int) -> Showing:
            return _learn(example, epoch, pairs, hiding, sentinels)

        kind = replace(kind, learn=learn)
    return replace(pairs, kind=kind)


@cache
def _span_kind(masking: Masking, sentinels: tuple[int, ...]) -> Kind:
    def show(passage: Passage, frame: Frame) -> tuple[Showing, ...]:
        return tuple(_show(passage, frame, masking, sentinels))

    name = masking.name.replace("masked", "seq2seq spans", 1)
    return Kind(name, show, _example, only_scored, padded_sides, is_causal=False, encode=encode, varies=True)


def _show(passage: Passage, frame: Frame, masking: Masking, sentinels: tuple[int, ...]) -> Iterator[Showing]:
    """One showing for every pass, and more where a pass hides more runs of tokens than there are sentinels."""
    for hidden, scored in passes(passage, masking):
        runs = _runs(hidden)
        for start in range(0, len(runs), len(sentinels)):
            read, target, place = _corrupted(passage.ids, runs[start : start + len(sentinels)], sentinels)
            columns = np.flatnonzero(np.isin(place, scored))
            yield Showing(
                joined(frame.start, target[:-1]),
                columns=(columns + len(frame.start) - 1).astype(np.int32),
                targets=target[columns],
                tokens=place[columns].astype(np.int32),
                source=joined(frame.before, read, frame.tail),
            )


def _example(passage: Passage, frame: Frame, window: int) -> Example:
    """The text alone, cut to the window."""
    found = passage.first(frame.room(window, passage))
    return Example(found.ids, found.n_given, words=hideable(found), key=found.key)


def _learn(example: Example, epoch: int, frame: Frame, hiding: Hiding, sentinels: tuple[int, ...]) -> Showing:
    """Other tokens are hidden in every epoch; all that the decoder writes is learnt, as in T5's own training.

    A last sentinel and the end-of-text token close what is written. Where there are more runs than sentinels, as many
    as there are sentinels are drawn.
    """
    hidden, rng = hidden_places(example, hiding, epoch)
    if not hidden.size:
        return Showing(joined(frame.start), *(joined(),) * 3, source=joined(frame.before, example.ids, frame.tail))
    runs = _runs(hidden)
    if len(runs) > len(sentinels):
        runs = [runs[k] for k in np.sort(rng.choice(len(runs), size=len(sentinels), replace=False))]
    read, target, place = _corrupted(example.ids, runs, sentinels)
    closing = [*sentinels[len(runs) : len(runs) + 1], *([] if frame.end is None else [frame.end])]
    written = joined(target, closing)
    columns = np.arange(written.size, dtype=np.int32) + np.int32(len(frame.start) - 1)
    places = joined(np.maximum(place, 0).astype(np.int32), [0] * len(closing))  # a sentinel stands nowhere in the text
    return Showing(
        joined(frame.start, written[:-1]), columns, written, places, source=joined(frame.before, read, frame.tail)
    )


def _runs(hidden: Places) -> list[Places]:
    """Neighbouring places together."""
    return np.split(hidden, np.flatnonzero(np.diff(hidden) > 1) + 1)


def _corrupted(
    ids: NDArray[np.int32], runs: Sequence[Places], sentinels: tuple[int, ...]
) -> tuple[NDArray[np.int32], NDArray[np.int32], Places]:
    """What is left to read, what the decoder writes, and the place in the text of all that it writes, -1 for none."""
    read: list[NDArray[np.int32]] = []
    written: list[NDArray[np.int32]] = []
    places: list[Places] = []
    end = 0
    for run, sentinel in zip(runs, sentinels, strict=False):
        one = np.array([sentinel], dtype=np.int32)
        read += [ids[end : run[0]], one]
        written += [one, ids[run]]
        places += [np.array([-1]), run]
        end = int(run[-1]) + 1
    return np.concatenate([*read, ids[end:]]), np.concatenate(written), np.concatenate(places)
