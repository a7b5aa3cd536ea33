"""Loss: a member's tokens are more likely than an unseen text's.

Source: Yeom et al. 2018, arXiv:1709.01604; the mean over tokens rather than the sum, so that length does not rank.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kdaudit.attacks.base import Attack, Sample
from kdaudit.views.view import PLAIN


def mean(values: NDArray[np.floating]) -> float:
    """Mean in float64; NaN where there is no value or where one is NaN or infinite.

    Args:
        values: (T,), nats.
    """
    if values.size == 0:
        return math.nan
    average = float(np.add.reduce(values, dtype=np.float64) / values.size)  # as `mean` does, in a third of the time
    return average if math.isfinite(average) else math.nan


def score(sample: Sample) -> float:
    """Mean log-likelihood of the text's tokens in nats; NaN for a text with no scored token."""
    return mean(sample.target[PLAIN].logprob)


ATTACK = Attack(
    "loss",
    score,
    summary="mean log-likelihood of the tokens",
    source="Yeom et al. 2018, arXiv:1709.01604",
    idea="How likely the model finds the text. What it was trained on, it finds likelier.",
)
