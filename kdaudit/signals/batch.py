"""From target plans to one batch for a model, and from what it gives back to the signals of each text."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kdaudit.signals.tokens import TokenSignals
from kdaudit.targets.plan import Kind, Showing, TargetPlan

Columns = tuple[NDArray[np.float32], ...]
"""Log-probability, mean, deviation and maximum of the targets of one showing, each (K,)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Showings as rows of one batch, and where in its outputs their N targets are predicted, row after row."""

    inputs: Mapping[str, torch.Tensor]
    """What the model is called with: (B, S) by the name of the argument."""
    rows: torch.Tensor
    """(N,), int64."""
    columns: torch.Tensor
    """(N,), int64."""
    targets: torch.Tensor
    """(N,), int64: the tokens."""


def make_batch(showings: Sequence[Showing], kind: Kind, device: torch.device) -> Batch:
    """Pad some showings into one batch.

    Args:
        showings: at least one.
        kind: the rule that they are made by.
        device: where the tensors lie.
    """
    inputs = {name: torch.from_numpy(table).to(device) for name, table in kind.inputs(showings).items()}
    rows = np.repeat(np.arange(len(showings)), [one.targets.size for one in showings])
    columns, targets = (
        np.concatenate([getattr(one, name) for one in showings]).astype(np.int64) for name in ("columns", "targets")
    )
    return Batch(inputs, *(torch.from_numpy(part).to(device) for part in (rows, columns, targets)))


def make_packed_batch(showings: Sequence[Showing], device: torch.device) -> Batch:
    """Some showings of a causal model one after the other in one row, without padding; positions begin anew with each.

    Flash attention reads from the positions where a text ends, and lets no token see another text.

    Args:
        showings: at least one.
        device: where the tensors lie.
    """
    sizes = [one.ids.size for one in showings]
    starts = itertools.accumulate(sizes[:-1], initial=0)
    inputs = {
        "input_ids": np.concatenate([one.ids for one in showings]),
        "position_ids": np.concatenate([np.arange(size) for size in sizes]),
    }
    columns = np.concatenate([one.columns + start for one, start in zip(showings, starts, strict=True)])
    targets = np.concatenate([one.targets for one in showings])
    parts = (np.zeros(columns.size), columns, targets)
    return Batch(
        {name: torch.from_numpy(row.astype(np.int64))[None].to(device) for name, row in inputs.items()},
        *(torch.from_numpy(part.astype(np.int64)).to(device) for part in parts),
    )


def by_showing(columns: Sequence[NDArray[np.float32]], showings: Sequence[Showing]) -> list[Columns]:
    """The signals of a batch, showing by showing."""
    ends = itertools.accumulate((one.targets.size for one in showings), initial=0)
    return [tuple(column[start:end] for column in columns) for start, end in itertools.pairwise(ends)]


def in_text_order(plan: TargetPlan, found: Sequence[Columns]) -> TokenSignals:
    """The signals of one text, put together from its showings.

    A token that several showings predict has the mean of what they give. A text without a target has no signals.

    Args:
        plan: of the text.
        found: the signals of each of its showings.
    """
    byte_end = plan.passage.byte_end
    if not plan.showings:
        empty = np.zeros(0, dtype=np.float32)
        return TokenSignals(
            empty,
            empty,
            empty,
            empty,
            np.zeros(0, dtype=np.int32),
            int(byte_end[-1]) if byte_end.size else plan.passage.byte_start,
        )
    shown = np.concatenate([one.tokens for one in plan.showings])
    tokens, place, counts = np.unique(shown, return_inverse=True, return_counts=True)
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    if tokens.size == shown.size:
        columns = [column[np.argsort(shown)] for column in columns]
    else:
        columns = [(np.bincount(place, weights=column) / counts).astype(np.float32) for column in columns]
    logprob, mean, std, top = columns
    starts = np.concatenate([np.array([plan.passage.byte_start], dtype=np.int32), byte_end])[tokens]
    ends = byte_end[tokens]  # a token starts where the one before it ends
    n_skipped = int(ends[-1] - starts[0] - (ends - starts).sum())
    return TokenSignals(logprob, mean, std, top, ends, int(starts[0]), n_skipped)
