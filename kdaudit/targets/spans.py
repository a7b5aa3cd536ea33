"""Texts without a prompt for T5: words are hidden from the encoder as from a masked model, and the decoder writes them.

Source: Raffel et al. 2020, arXiv:1910.10683, section 3.1.4: each run of hidden tokens becomes one sentinel, and the
decoder writes every sentinel with what it stands for. The hidden tokens are scored, the sentinels are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kdaudit.targets.masked import Masking, Places, passes
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Frame, Kind, Showing
from kdaudit.targets.seq2seq import joined, padded_sides

SENTINEL = ("<extra_id_{}>", "▁<extra_id_{}>")
"""How T5, mT5 and their kin write the n-th one."""


def span_frame(tokenizer: Any, pairs: Frame, masking: Masking) -> Frame | None:
    """How an encoder-decoder is shown texts without prompts; None where its tokenizer has no sentinels.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        pairs: how the model is shown prompts and completions.
        masking: what is hidden in which pass.
    """
    known = tokenizer.get_vocab()
    found = ([known[name.format(n)] for name in SENTINEL if name.format(n) in known] for n in itertools.count())
    sentinels = tuple(int(ids[0]) for ids in itertools.takewhile(len, found))
    return replace(pairs, kind=_span_kind(masking, sentinels)) if sentinels else None


@cache
def _span_kind(masking: Masking, sentinels: tuple[int, ...]) -> Kind:
    def show(passage: Passage, frame: Frame) -> tuple[Showing, ...]:
        return tuple(_show(passage, frame, masking, sentinels))

    name = masking.name.replace("masked", "seq2seq spans", 1)
    return Kind(name, show, _not_learnt, _not_learnt, padded_sides, is_causal=False, encode=encode)


def _show(passage: Passage, frame: Frame, masking: Masking, sentinels: tuple[int, ...]) -> Iterator[Showing]:
    """One showing for every pass, and more where a pass hides more runs of tokens than there are sentinels."""
    for hidden, scored in passes(passage, masking):
        runs = np.split(hidden, np.flatnonzero(np.diff(hidden) > 1) + 1)
        for start in range(0, len(runs), len(sentinels)):
            yield _showing(passage, frame, runs[start : start + len(sentinels)], scored, sentinels)


def _showing(
    passage: Passage, frame: Frame, runs: Sequence[Places], scored: Places, sentinels: tuple[int, ...]
) -> Showing:
    read: list[NDArray[np.int32]] = []
    written: list[NDArray[np.int32]] = []
    places: list[Places] = []
    end = 0
    for run, sentinel in zip(runs, sentinels, strict=False):
        one = np.array([sentinel], dtype=np.int32)
        read += [passage.ids[end : run[0]], one]
        written += [one, passage.ids[run]]
        places += [np.array([-1]), run]
        end = int(run[-1]) + 1
    target, place = np.concatenate(written), np.concatenate(places)
    columns = np.flatnonzero(np.isin(place, scored))
    return Showing(
        joined(frame.start, target[:-1]),
        columns=(columns + len(frame.start) - 1).astype(np.int32),
        targets=target[columns],
        tokens=place[columns].astype(np.int32),
        source=joined(frame.before, *read, passage.ids[end:], frame.tail),
    )


def _not_learnt(*_: Any) -> NoReturn:
    """Distillation refuses encoder-decoders before it asks for this."""
    raise NotImplementedError("gaps in texts are scored, and not yet learnt")
