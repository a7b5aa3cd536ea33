"""Min-K%++: how far the least likely tokens fall below what the model expected there.

Source: Zhang et al. 2024, arXiv:2404.02936; mean and deviation under p as in zjysteven/mink-plus-plus, run.py. Differs
from it on short texts, where at least one token is kept, and on flat predictions, whose z is 0 rather than 0/0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.min_k import mean_of_lowest
from kdaudit.attacks.settings import share_of_lowest
from kdaudit.views.view import PLAIN

FRACTION = 0.2  # the authors sweep 0.1 to 1.0; mimir and mia_llms_benchmark both use 0.2
MIN_STD = 1e-3  # nats; below it the prediction is one-hot or uniform and the quotient is rounding noise


def in_deviations(gap: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.floating]:
    """`gap` in units of `std`, 0 where `std` is below MIN_STD; NaN stays NaN.

    Args:
        gap: (T,), nats.
        std: (T,), nats, not negative.
    """
    return gap / np.maximum(std, MIN_STD) * (std >= MIN_STD)  # a product, not a choice: NaN times 0 is NaN


def score(sample: Sample, *, fraction: float = FRACTION) -> float:
    """Mean z-score of the lowest `fraction` of the tokens; NaN where no token is scored."""
    tokens = sample.target[PLAIN]
    z_scores = in_deviations(tokens.logprob - tokens.logprob_mean, tokens.logprob_std)
    return mean_of_lowest(z_scores, fraction)


ATTACK = Attack(
    "min-k++",
    score,
    summary="mean of the lowest {fraction} of the tokens' z-scores",
    source="arXiv:2404.02936",
    parameters=(share_of_lowest(FRACTION),),
    idea="As min-k, but each word is held against what the model expects at that place.",
)
