"""Batches for the trainer: the steps of a schedule in order, each example shown as its target plan says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from kdaudit.distill.losses import IGNORED
from kdaudit.targets.plan import Example, Kind, Showing

NOTHING = -1
"""The row of a batch that stands where a step has fewer examples than parts: it teaches nothing."""

Row = tuple[int, int, Example]
"""An example with its index, or NOTHING, and the epoch that it is shown in, counted from 0."""


class Inputs(NamedTuple):
    """What a model reads of a batch of B sequences."""

    tensors: Mapping[str, torch.Tensor]
    """What the model is called with: (B, T) by the name of the argument, padded."""
    sizes: torch.Tensor
    """(B,): tokens of each sequence without padding; of what a decoder reads, where there is an encoder too.

    0 where a sequence teaches nothing.
    """


class ExampleSet(Dataset[Row]):
    """Examples by their index and epoch."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, place: tuple[int, int]) -> Row:
        index, epoch = place
        return index, epoch, self._examples[max(index, 0)]


class PlannedBatches(Sampler[list[tuple[int, int]]]):
    """Every batch of every step, in order; accelerate deals them out to the processes one by one."""

    def __init__(self, epochs: Sequence[Sequence[Sequence[Sequence[int]]]]) -> None:
        """Take the steps of every epoch, each split into batches of indices."""
        self._batches = [
            [(index, epoch) for index in batch or [NOTHING]]
            for epoch, steps in enumerate(epochs)
            for step in steps
            for batch in step
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self._batches)


def learnt(example: Example, epoch: int, kind: Kind, goldfish: int | None) -> Showing:
    """How an example is shown in an epoch, without the targets that the goldfish loss leaves out."""
    showing = kind.learn(example, epoch)
    return showing if goldfish is None else showing.only(~is_dropped(example.ids, goldfish)[showing.tokens])


def n_targets(example: Example, kind: Kind, epoch: int = 0) -> int:
    """Tokens of an example that are learnt in an epoch."""
    return int(kind.learn(example, epoch).targets.size)


def collate(rows: Sequence[Row], kind: Kind, *, goldfish: int | None = None) -> dict[str, Any]:
    """A batch of B examples: what is read, and the (B, T) tokens that the outputs predict.

    Args:
        rows: the examples; one whose index is NOTHING teaches nothing.
        kind: of teacher and student.
        goldfish: one token in this many is not learnt; see `is_dropped`. None: all are.

    Returns:
        `tensors` and `sizes`, the fields of Inputs: the trainer moves plain dictionaries only; `targets`, int64,
        IGNORED where an output predicts nothing; `rows`, the indices (B,); `epoch`, a scalar.
    """
    showings = [learnt(example, epoch, kind, goldfish) for _, epoch, example in rows]
    sizes = torch.tensor(
        [0 if index == NOTHING else one.ids.size for (index, _, _), one in zip(rows, showings, strict=True)]
    )
    targets = torch.full((len(rows), max(one.ids.size for one in showings)), IGNORED, dtype=torch.int64)
    for line, (index, _, _), showing in zip(targets, rows, showings, strict=True):
        if index != NOTHING:
            line[torch.from_numpy(showing.columns).long()] = torch.from_numpy(showing.targets).long()
    tensors = {name: torch.from_numpy(table) for name, table in kind.inputs(showings).items()}
    indices = torch.tensor([index for index, _, _ in rows])
    epoch = torch.tensor(rows[0][1])
    return {"tensors": tensors, "sizes": sizes, "targets": targets, "rows": indices, "epoch": epoch}


def inputs_of(batch: Mapping[str, Any], device: torch.device) -> Inputs:
    """What a model on `device` reads of a batch that `collate` made."""
    return Inputs({name: tensor.to(device) for name, tensor in batch["tensors"].items()}, batch["sizes"])


def probe(example: Example, kind: Kind, device: torch.device, *, n_tokens: int) -> Inputs:
    """The first tokens of an example, to try on a model how it can be asked."""
    first = replace(
        example,
        ids=example.ids[:n_tokens],
        source=example.source[:n_tokens],
        words=None if example.words is None else example.words[:n_tokens],
        is_gap=None if example.is_gap is None else example.is_gap[:n_tokens],
    )
    return inputs_of(collate([(0, 0, first)], kind), device)


CONTEXT = 13
"""Tokens that are hashed, as in the paper."""


def is_dropped(ids: NDArray[np.int32], k: int, *, context: int = CONTEXT) -> NDArray[np.bool_]:
    """Which tokens the goldfish loss leaves out, so that no text can be recited whole.

    A token is left out where the hash of the tokens before it is a multiple of k: where the same passage comes again,
    the same token is left out.

    Source: Hans et al. 2024, arXiv:2406.10209, section 3, with another hash.

    Args:
        ids: (T,), token ids, at least 0.
        k: about one token in k is dropped; at least 2.
        context: tokens that are hashed, at least 1; a token with fewer before it is kept.

    Returns:
        (T,), the same for equal contexts, on every machine.

    Raises:
        ValueError: k or context is too small.
    """
    if k < 2 or context < 1:
        raise ValueError(f"k is {k} and context {context}, at least 2 and 1 are needed")
    dropped = np.zeros(ids.size, dtype=np.bool_)
    if ids.size > context:
        hashed = np.zeros(ids.size - context, dtype=np.uint64)
        for column in sliding_window_view(ids[:-1].astype(np.uint64), context).T:
            hashed = _mixed(hashed ^ column)
        dropped[context:] = hashed % np.uint64(k) == 0
    return dropped


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of SplitMix64. Source: Steele et al. 2014, doi:10.1145/2660193.2660195."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
