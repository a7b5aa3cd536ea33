"""Batches for the trainer: the steps of a plan in order, padded on the right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from kdaudit.distill.examples import Example
from kdaudit.distill.goldfish import is_dropped
from kdaudit.distill.losses import IGNORED

NOTHING = -1
"""The row of a batch that stands where a step has fewer examples than parts: it teaches nothing."""
PADDING = -1
"""Stands behind the tokens of a shorter example; a speaker tells by it how long each one is."""


class ExampleSet(Dataset[tuple[int, Example]]):
    """Examples by their index, each with it."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[int, Example]:
        return index, self._examples[max(index, 0)]


class PlannedBatches(Sampler[list[int]]):
    """Every batch of every step, in order; accelerate deals them out to the processes one by one."""

    def __init__(self, batches: Sequence[list[int]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch or [NOTHING] for batch in self._batches)


def is_learnt(example: Example, goldfish: int | None) -> NDArray[np.bool_]:
    """(T,), which tokens of an example are targets; the first one counts, though nothing predicts it."""
    is_target: NDArray[np.bool_] = np.arange(example.ids.size) >= example.n_given
    return is_target if goldfish is None else is_target & ~is_dropped(example.ids, goldfish)


def collate(rows: Sequence[tuple[int, Example]], *, goldfish: int | None = None) -> dict[str, torch.Tensor]:
    """Ids and labels (B, T), padded on the right, where causal attention does not look from, and row indices.

    Args:
        rows: examples with their indices, NOTHING for one that teaches nothing.
        goldfish: one token in so many is no target; see `goldfish.is_dropped`.
    """
    width = max(int(example.ids.size) for _, example in rows)
    ids = torch.full((len(rows), width), PADDING, dtype=torch.int64)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.int64)
    for position, (index, example) in enumerate(rows):
        own = torch.from_numpy(example.ids.astype("int64"))
        ids[position, : own.numel()] = own
        if index != NOTHING:
            labels[position, : own.numel()] = own.where(torch.from_numpy(is_learnt(example, goldfish)), IGNORED)
    return {"ids": ids, "labels": labels, "rows": torch.tensor([index for index, _ in rows])}
