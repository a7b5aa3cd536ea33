"""How likely one model finds each record, summed up from its signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdaudit.signals.tokens import TokenSignals

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """What one model makes of each record's own text; arrays (n,), NaN where nothing is scored."""

    mean_logprob: Floats
    """Nats per token."""
    mean_prob: Floats
    """Mean of the probability of each token: alignment with the ground truth."""
    top_share: Floats
    """Share of the tokens that are the model's top choice."""
    nll: Floats
    """Nats over the scored tokens."""
    n_tokens: Floats
    """Scored tokens: 0, not NaN, where nothing is scored."""
    n_bytes: Floats
    """UTF-8 bytes that they spell; 0 where nothing is scored."""


def nothing_scored(n: int) -> Likelihoods:
    """The likelihoods of n records before anything is scored."""
    unknown, none = np.full((4, n), np.nan), np.zeros((2, n))
    return Likelihoods(unknown[0], unknown[1], unknown[2], unknown[3], none[0], none[1])


def fill(likelihoods: Likelihoods, records: Sequence[int], signals: Sequence[TokenSignals]) -> None:
    """Write down what the signals of some records say of them.

    Args:
        likelihoods: changed in place.
        records: the places of these records.
        signals: of each of them.
    """
    for index, found in zip(records, signals, strict=True):
        likelihoods.n_tokens[index], likelihoods.n_bytes[index] = found.logprob.size, found.n_bytes
        if found.logprob.size:
            likelihoods.nll[index] = -found.logprob.sum(dtype=np.float64)
            likelihoods.mean_logprob[index] = found.logprob.mean(dtype=np.float64)
            likelihoods.mean_prob[index] = np.exp(found.logprob).mean(dtype=np.float64)
            is_top = np.where(np.isnan(found.logprob), np.nan, found.logprob >= found.logprob_top)
            likelihoods.top_share[index] = is_top.mean()
