"""ReCaLL: an unseen prefix makes a member less likely, and leaves an unseen text as it was.

Source: Xie et al. 2024, arXiv:2406.15968. Differs from the authors' code: the shots are never among the scored texts,
and numerator and denominator cover the same tokens of the text. Shots are dropped from the end, the last one first,
until the prefix fills at most half of the smallest context among the models.
"""

from __future__ import annotations

import math

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.loss import mean
from kdaudit.views.view import PLAIN, View

PREFIXED = View("prefixed", is_prefixed=True)
"""The text after the shots."""


def score(sample: Sample) -> float:
    """Log-likelihood after the shots over log-likelihood alone; NaN where no token is scored or the latter is 0.

    Raises:
        ValueError: the two views do not start at the same byte of the text: a mistake of the engine.
    """
    plain, prefixed = sample.target[PLAIN], sample.target[PREFIXED]
    n_tokens = min(plain.logprob.size, prefixed.logprob.size)  # the shots may leave room for only a head of the text
    if n_tokens == 0:
        return math.nan
    if plain.byte_start != prefixed.byte_start:
        raise ValueError(f"the views start at bytes {plain.byte_start} and {prefixed.byte_start}")
    alone = mean(plain.logprob[:n_tokens])
    return mean(prefixed.logprob[:n_tokens]) / alone if alone != 0 else math.nan


ATTACK = Attack(
    "recall",
    score,
    summary="log-likelihood after 12 non-member shots (the last dropped first where they do not fit) over that alone",
    source="arXiv:2406.15968",
    idea="How much the model loses its grip on the text when texts that it never saw stand in front of it.",
    views=(PLAIN, PREFIXED),
)
