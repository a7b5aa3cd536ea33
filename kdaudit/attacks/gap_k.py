"""Gap-K%: how far neighbouring tokens together fall below the model's own first choices.

Source: arXiv:2601.19936; means of three tokens in a row as in meaoww/gap-k, wikimia.py, where a text of fewer tokens is
not smoothed either. Differs from it on flat predictions, whose gap is 0 rather than 0/0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.min_k import mean_of_lowest
from kdaudit.attacks.min_k_plus_plus import in_deviations
from kdaudit.views.view import PLAIN

FRACTION = 0.2  # the authors' choice, and that of min-k and min-k++ here
WINDOW = 3  # the authors' choice


def smoothed(gaps: NDArray[np.floating]) -> NDArray[np.floating]:
    """Means (T - 2,) of every three values in a row of `gaps` (T,); the values as they are where there are fewer."""
    if gaps.size < WINDOW:
        return gaps
    return np.convolve(gaps.astype(np.float64), np.full(WINDOW, 1 / WINDOW), mode="valid")


def score(sample: Sample) -> float:
    """Mean of the lowest 20 % of the smoothed gaps to the top token, in deviations; NaN where no token is scored."""
    tokens = sample.target[PLAIN]
    gaps = in_deviations(tokens.logprob - tokens.logprob_top, tokens.logprob_std)
    return mean_of_lowest(smoothed(gaps), FRACTION)


ATTACK = Attack(
    "gap-k",
    score,
    summary="mean of the lowest 20 % of the gaps to the top token, over three tokens in a row",
    source="arXiv:2601.19936",
    idea="How far the words of the text fall behind the model's own first choices, where they fall behind most.",
    version=2,
)
