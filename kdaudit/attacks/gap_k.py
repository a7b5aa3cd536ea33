"""Gap-K%: how far the least likely tokens fall below the model's own first choice.

Source: arXiv:2601.19936, without its smoothing over neighbouring tokens.
"""

from __future__ import annotations

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.min_k import mean_of_lowest
from kdaudit.attacks.min_k_plus_plus import in_deviations
from kdaudit.views.view import View

FRACTION = 0.2  # as for min-k and min-k++, so that the three differ in the token score alone


def score(sample: Sample) -> float:
    """Mean of the lowest 20 % of the gaps to the top token, in deviations; NaN where no token is scored."""
    tokens = sample.target[View.PLAIN]
    return mean_of_lowest(in_deviations(tokens.logprob - tokens.logprob_top, tokens.logprob_std), FRACTION)


ATTACK = Attack(
    "gap-k", score, summary="mean of the lowest 20 % of the tokens' gaps to the top token", source="arXiv:2601.19936"
)
