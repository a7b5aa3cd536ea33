"""Whether a model is a language model of the texts at all: the loss of one that knows nothing is log V."""

from __future__ import annotations

import math

import numpy as np

from kdaudit.audit.plan import Plan, Subject
from kdaudit.audit.scoring import Scores
from kdaudit.errors import CheckpointError
from kdaudit.models.checkpoint import Checkpoint

LEVEL = 0.99
"""The level of the one-sided bound of the median."""


def check_alive(plan: Plan, scores: Scores, n_members: int) -> tuple[str, ...]:
    """Refuse audited models whose median loss over the non-members is not clearly below that of a uniform guess.

    A reference may be such a model: weights that were never trained are a start as well.

    The bound of the median is an order statistic (David and Nagaraja 2003, section 7.1): it needs no distribution.

    Args:
        plan: the models.
        scores: their mean log-likelihoods.
        n_members: records before the first non-member.

    Returns:
        What has to be said of references.

    Raises:
        CheckpointError: naming the model, its loss and log V.
    """
    for subject in plan.subjects:
        found = _guess(subject.checkpoint, scores, n_members)
        if found:
            raise CheckpointError(
                f"the {_words(subject)} {subject.checkpoint.name} is not a language model for these texts: {found}",
                hint="its head was not trained, its tokenizer is another model's, or the texts are in another "
                "language; an untrained start is no negative control: give one that has learnt from other texts",
            )
    return tuple(
        f"the reference of the {_words(subject)}, {subject.reference.name}, knows nothing of these texts ({found}): "
        "the reference attack then says hardly more than the loss attack"
        for subject in plan.subjects
        if subject.reference is not None and (found := _guess(subject.reference, scores, n_members))
    )


def _words(subject: Subject) -> str:
    return subject.name.replace("-", " ")


def _guess(checkpoint: Checkpoint, scores: Scores, n_members: int) -> str:
    """Why a model may be no better than a uniform guess, in words; "" where it surely is, or nothing was scored."""
    losses = -scores.likelihoods[checkpoint.fingerprint].mean_logprob[n_members:]
    losses = losses[np.isfinite(losses)]
    if checkpoint.vocab_size < 2 or not losses.size:
        return ""
    bound, uniform = median_bound(losses), math.log(checkpoint.vocab_size)
    if bound < uniform:
        return ""
    return (
        f"half of the non-members may cost it {bound:.2f} nats per token or more, and a uniform guess among its "
        f"{checkpoint.vocab_size:,} tokens costs {uniform:.2f}"
    )


def median_bound(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], level: float = LEVEL) -> float:
    """An upper bound of the median of what n values were drawn from; the largest value where they are too few."""
    from scipy.stats import binom

    n = values.size
    place = min(int(binom.ppf(level, n, 0.5)), n - 1)  # P[Bin(n, 1/2) <= place] >= level
    return float(np.sort(values)[place])
