"""Batches for the trainer: the steps of a schedule in order, each example shown as its target plan says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, Sampler

from kdaudit.distill.goldfish import is_dropped
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
    """(B,): tokens of each sequence without padding."""


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
    """How an example is shown, without the targets that the goldfish loss leaves out."""
    showing = kind.learn(example, epoch)
    return showing if goldfish is None else showing.only(~is_dropped(example.ids, goldfish)[showing.tokens])


def n_targets(example: Example, kind: Kind) -> int:
    """Tokens of an example that are learnt in an epoch."""
    return int(kind.learn(example, 0).targets.size)


def collate(rows: Sequence[Row], kind: Kind, *, goldfish: int | None = None) -> dict[str, Any]:
    """A batch of B examples: what is read, and the (B, T) tokens that the outputs predict.

    Args:
        rows: the examples; one whose index is NOTHING teaches nothing.
        kind: of teacher and student.
        goldfish: one token in this many is not learnt; see `goldfish.is_dropped`. None: all are.

    Returns:
        `tensors` and `sizes`, the fields of Inputs: the trainer moves plain dictionaries only; `targets`, int64,
        IGNORED where an output predicts nothing; `rows`, the indices (B,); `epoch`, a scalar.
    """
    showings = [learnt(example, epoch, kind, goldfish) for _, epoch, example in rows]
    sizes = torch.tensor([one.size for one in showings])
    targets = torch.full((len(rows), int(sizes.max())), IGNORED, dtype=torch.int64)
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
    return inputs_of(collate([(0, 0, Example(example.ids[:n_tokens], example.n_given))], kind), device)
