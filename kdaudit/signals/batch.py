"""One batch through a model: the only target mask of the project."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kdaudit.models.lengths import ALIKE, LengthRules
from kdaudit.signals.tokens import TokenSignals
from kdaudit.signals.vocabulary import Head, reduce_vocabulary
from kdaudit.views.passage import Passage


@dataclass(frozen=True, slots=True)
class Front:
    """What stands before every text of a pass: the tokenizer's own lead (a BOS) and a prefix."""

    lead: tuple[int, ...]
    prefix: tuple[int, ...] = ()

    def n_unscored(self, passage: Passage) -> int:
        """Tokens of a text that are not scored: its prompt, and the first one where no BOS stands before the text."""
        return max(passage.n_given, 0 if self.lead else 1)


@dataclass(frozen=True, slots=True)
class Route:
    """How one model's states are computed, settled on its first batch."""

    states: Callable[[torch.Tensor], torch.Tensor]
    """(B, S) token ids -> (B, S, H) hidden states, or (B, S, V) logits where `head` is None."""
    head: Head | None
    front: tuple[int, ...]
    """What is put before each text's tokens in the batch; the rest of the front lies in the cache."""
    is_prefix_cached: bool
    rules: LengthRules = ALIKE
    """Lengths that go through the model together are read by the same rules."""
    without_cache: Route | None = None
    """Where the prefix is cached: what is taken where a text's length has other rules than the prefix."""

    def at(self, n_tokens: int, n_cached: int) -> Route:
        """The way for texts that are, with their front, `n_tokens` long, `n_cached` of which would be cached."""
        is_alike = self.rules.rule(n_tokens) == self.rules.rule(n_cached)
        return self if self.without_cache is None or is_alike else self.without_cache


def run_batch(route: Route, passages: Sequence[Passage], front: Front, device: torch.device) -> list[TokenSignals]:
    """The signals of some passages, one forward pass for all of them."""
    ids = pad(passages, route.front, device)
    states = route.states(ids)
    rows, columns = target_index(passages, front, n_before=len(route.front))
    row_index, column_index = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
    logprob, mean, std, top = reduce_vocabulary(
        states[row_index, column_index], ids[row_index, column_index + 1], route.head
    )
    skipped = [front.n_unscored(passage) for passage in passages]
    sizes = [int(passage.ids.size) - skip for passage, skip in zip(passages, skipped, strict=True)]
    starts = itertools.accumulate(sizes, initial=0)
    spans = [slice(start, start + size) for start, size in zip(starts, sizes, strict=False)]
    return [
        TokenSignals(
            logprob=logprob[span],
            logprob_mean=mean[span],
            logprob_std=std[span],
            logprob_top=top[span],
            byte_end=passage.byte_end[skip:],
            byte_start=int(passage.byte_end[skip - 1]) if skip else 0,
        )
        for passage, skip, span in zip(passages, skipped, spans, strict=True)
    ]


def target_index(
    passages: Sequence[Passage], front: Front, *, n_before: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of every output of a batch that predicts a scored token, text after text: the one target mask.

    Args:
        passages: the texts; each has a scored token.
        front: says which tokens of a text are not scored.
        n_before: tokens that stand before each text in the batch.
    """
    sizes = [int(passage.ids.size) for passage in passages]
    skipped = [front.n_unscored(passage) for passage in passages]
    rows = np.repeat(np.arange(len(sizes)), [size - skip for size, skip in zip(sizes, skipped, strict=True)])
    # text token j is predicted at the position before it, and nothing predicts an unscored one
    spans = [np.arange(n_before - 1 + skip, n_before - 1 + size) for size, skip in zip(sizes, skipped, strict=True)]
    return rows, np.concatenate(spans)


def pad(passages: Sequence[Passage], front: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Token ids (B, S), padded on the right: under a causal mask nothing real can see the padding."""
    width = len(front) + max(int(passage.ids.size) for passage in passages)
    ids = np.zeros((len(passages), width), dtype=np.int64)
    for row, passage in zip(ids, passages, strict=True):
        row[: len(front)] = front
        row[len(front) : len(front) + passage.ids.size] = passage.ids
    return torch.from_numpy(ids).to(device)
