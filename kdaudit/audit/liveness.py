"""Whether a model is a language model of the texts at all: the loss of one that knows nothing is log V."""

from __future__ import annotations

import math

import numpy as np

from kdaudit.audit.plan import Plan
from kdaudit.audit.scoring import Scores
from kdaudit.errors import CheckpointError

LEVEL = 0.99
"""The level of the one-sided bound of the median."""
CHECKED = ("masked", "seq2seq")
"""Kinds whose checkpoints often lack a head or bring another tokenizer."""


def check_alive(plan: Plan, scores: Scores, n_members: int) -> None:
    """Refuse audited models whose median loss over the non-members is not clearly below that of a uniform guess.

    The bound of the median is an order statistic (David and Nagaraja 2003, section 7.1): it needs no distribution.

    Args:
        plan: the models.
        scores: their mean log-likelihoods.
        n_members: records before the first non-member.

    Raises:
        CheckpointError: naming the model, its loss and log V.
    """
    for subject in plan.subjects:
        checkpoint = subject.checkpoint
        losses = -scores.likelihoods[checkpoint.fingerprint].mean_logprob[n_members:]
        losses = losses[np.isfinite(losses)]
        if checkpoint.kind not in CHECKED or checkpoint.vocab_size < 2 or not losses.size:
            continue
        bound, uniform = median_bound(losses), math.log(checkpoint.vocab_size)
        if bound >= uniform:
            raise CheckpointError(
                f"the {subject.name.replace('-', ' ')} {checkpoint.name} is not a language model for these texts: half "
                f"of the non-members may cost it {bound:.2f} nats per token or more, and a uniform guess among its "
                f"{checkpoint.vocab_size:,} tokens costs {uniform:.2f}",
                hint="its head was not trained, its tokenizer is another model's, or the texts are in another language",
            )


def median_bound(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], level: float = LEVEL) -> float:
    """An upper bound of the median of what n values were drawn from; the largest value where they are too few."""
    from scipy.stats import binom

    n = values.size
    place = min(int(binom.ppf(level, n, 0.5)), n - 1)  # P[Bin(n, 1/2) <= place] >= level
    return float(np.sort(values)[place])
