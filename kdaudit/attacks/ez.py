"""EZ: where the target errs, a member's tokens still gained on the reference.

Source: arXiv:2601.12104. A token that ties with the top choice counts as right. Differs from the authors' code: there a
text with fewer than two error tokens, or without a loss on any of them, gets 0, and the first token is left out; here
the former is not scored, the latter gets its share of 1, and every scored token counts.
"""

from __future__ import annotations

import math

import numpy as np

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.loss import mean
from kdaudit.attacks.reference import token_gains
from kdaudit.attacks.settings import Parameter
from kdaudit.options import Option
from kdaudit.views.view import PLAIN

MIN_ERRORS = 2  # as in the authors' code: the share over one token is 0 or 1, whatever it gained


def score(sample: Sample, *, min_errors: int = MIN_ERRORS) -> float:
    """Share of the gains in gains plus losses against the reference over the target's error tokens, in [0, 1].

    With no gain and no loss there: 1 where the whole text gained, else 0. NaN where the target errs on fewer than
    `min_errors` tokens.
    """
    target, gains = sample.target[PLAIN], token_gains(sample)
    average = mean(gains)
    if math.isnan(average) or not math.isfinite(target.logprob_top.sum()):  # NaN would count as no error
        return math.nan
    gains_at_errors = gains[target.logprob < target.logprob_top]
    if gains_at_errors.size < min_errors:
        return math.nan
    total = float(np.abs(gains_at_errors).sum())
    if total == 0:
        return float(average > 0)
    return float(np.maximum(gains_at_errors, 0).sum()) / total


ATTACK = Attack(
    "ez",
    score,
    summary="share of gains over the reference among the tokens that the target gets wrong, at least {min_errors}",
    source="arXiv:2601.12104",
    idea="How often the model finds a word likelier than a reference does, among the words that it gets wrong.",
    needs_reference=True,
    needs_same_tokenizer=True,
    version=2,
    parameters=(
        Parameter("min-errors", MIN_ERRORS, Option("the fewest such tokens for a score", least=1, most=10**6)),
    ),
)
