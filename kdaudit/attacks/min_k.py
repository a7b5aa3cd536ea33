"""Min-K%: an unseen text holds a few very unlikely tokens, a member does not.

Source: Shi et al. 2023, arXiv:2310.16789. Differs from the authors' code on short texts: there int(k * T) can be 0 and
the mean is NaN, here at least one token is kept.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.loss import mean
from kdaudit.attacks.settings import share_of_lowest
from kdaudit.views.view import PLAIN

FRACTION = 0.2  # the authors' choice; mimir and mia_llms_benchmark use it too
ROUNDING = 1e-9  # far above the rounding of fraction * T, far below 1/T: 0.29 * 100 keeps 29 tokens, not 28


def mean_of_lowest(values: NDArray[np.floating], fraction: float) -> float:
    """Mean of the lowest `fraction` of the values, at least one; NaN where there is none or one is not finite.

    Args:
        values: (T,).
        fraction: share of the values to keep, in (0, 1].
    """
    n_lowest = max(1, math.floor(fraction * values.size + ROUNDING))
    if n_lowest >= values.size:
        return mean(values)
    if not math.isfinite(values.sum()):  # a partition would sort NaN out of the lowest
        return math.nan
    return mean(np.partition(values, n_lowest - 1)[:n_lowest])


def score(sample: Sample, *, fraction: float = FRACTION) -> float:
    """Mean log-likelihood of the least likely `fraction` of the tokens in nats; NaN where no token is scored."""
    return mean_of_lowest(sample.target[PLAIN].logprob, fraction)


ATTACK = Attack(
    "min-k",
    score,
    summary="mean log-likelihood of the least likely {fraction} of the tokens",
    source="arXiv:2310.16789",
    parameters=(share_of_lowest(FRACTION),),
    idea="How likely the model finds those words of the text that it expects least.",
)
