"""From hidden states to the statistics over the vocabulary that attacks need, a chunk of tokens at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

Head = Callable[[torch.Tensor], torch.Tensor]
"""(n, H) hidden states -> (n, V) logits."""

CHUNK_ELEMENTS = {"cpu": 2**25, "cuda": 2**26, "mps": 2**25}
"""Tokens x vocabulary that exist at one time: enough tokens for the head's matrix product to be fast."""

BLOCK_ELEMENTS = {"cpu": 2**18, "cuda": 2**24, "mps": 2**24}
"""Tokens x vocabulary whose statistics are taken at one time: on a CPU what its cache holds, four times faster."""

TAIL = -1e4  # nats below the top: probability 0 in float32, and safe to square


def reduce_vocabulary(states: torch.Tensor, targets: torch.Tensor, head: Head | None) -> list[NDArray[np.float32]]:
    """Log-probability of each target and, under p over the vocabulary, mean, deviation and maximum of log p.

    (n, V) in float32 exists for one chunk of tokens only.

    Args:
        states: (n, H) hidden states, or (n, V) logits where `head` is None; any float dtype.
        targets: (n,), int64.
        head: the language-model head.

    Returns:
        Four arrays (n,), float32, in nats: log-probability, mean, standard deviation, maximum.
    """
    first = states[:1] if head is None else head(states[:1])  # on the head's device, which may be another
    kind, width = first.device.type, first.shape[1]
    chunk, block = (max(1, size.get(kind, 2**24) // width) for size in (CHUNK_ELEMENTS, BLOCK_ELEMENTS))
    room = torch.empty((2, min(block, chunk, len(states)), width), dtype=torch.float32, device=first.device)
    parts = [
        vocabulary_statistics(logits, wanted, room)
        for some_states, some_targets in zip(states.split(chunk), targets.split(chunk), strict=True)
        for logits, wanted in zip(
            (some_states if head is None else head(some_states)).split(block), some_targets.split(block), strict=True
        )
    ]
    return [column.numpy() for column in torch.cat(parts, dim=1).cpu()]


def vocabulary_statistics(logits: torch.Tensor, targets: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """The four statistics of each row, as (4, n) float32.

    All is computed in `room`: memory that is taken anew for each block can cost a CPU three times what the arithmetic
    costs, since the system hands it out empty, page by page.

    The deviation is centred before squaring: E[x^2] - E[x]^2 in float32 gives 0.008 nats for a uniform
    distribution over 50257 words, where 0 is right.

    Args:
        logits: (n, V), any float dtype.
        targets: (n,), int64.
        room: (2, n or more, V), float32, on the device of the logits; what is in it is overwritten.
    """
    shifted, weights = room[:, : len(logits)]
    shifted.copy_(logits)
    targets = targets.to(shifted.device)  # a head may lie on another device than what it reads
    shifted.sub_(shifted.amax(dim=-1, keepdim=True))
    at_target = shifted.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    shifted.clamp_(min=TAIL)  # a word that can never come has logit -inf, and 0 times that is NaN
    torch.exp(shifted, out=weights)
    total = weights.sum(dim=-1)
    mean = torch.linalg.vecdot(weights, shifted) / total
    shifted.sub_(mean.unsqueeze(-1))
    variance = torch.linalg.vecdot(weights.mul_(shifted), shifted) / total
    log_total = total.log()
    return torch.stack([at_target - log_total, mean - log_total, variance.clamp_min(0).sqrt(), -log_total])
