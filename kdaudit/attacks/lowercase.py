"""Lowercase: a member is remembered as it was written, so lower case costs it more.

Source: Carlini et al. 2021, arXiv:2012.07805, section 5; the difference of the mean losses rather than their ratio.
"""

from __future__ import annotations

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.loss import mean
from kdaudit.views.view import PLAIN, View

LOWERCASED = View("lowercased", lambda text, _: (text.lower(),))
"""The text in lower case."""


def score(sample: Sample) -> float:
    """Mean log-likelihood as written minus in lower case, in nats; NaN where either has no scored token."""
    return mean(sample.target[PLAIN].logprob) - mean(sample.target[LOWERCASED].logprob)


ATTACK = Attack(
    "lowercase",
    score,
    summary="mean log-likelihood minus that of the lower-cased text",
    source="Carlini et al. 2021, arXiv:2012.07805",
    idea="How much likelier the model finds the text as it is written than in small letters.",
    views=(PLAIN, LOWERCASED),
    needs_case=True,
)
