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
from kdaudit.attacks.settings import Parameter, share_of_lowest
from kdaudit.options import Option
from kdaudit.views.view import PLAIN

FRACTION = 0.2  # the authors' choice, and that of min-k and min-k++ here
WINDOW = 3  # the authors' choice


def smoothed(gaps: NDArray[np.floating], window: int = WINDOW) -> NDArray[np.floating]:
    """Means (T - window + 1,) of `window` values in a row of `gaps` (T,); the values as they are where T is less."""
    if gaps.size < window:
        return gaps
    return np.convolve(gaps.astype(np.float64), np.full(window, 1 / window), mode="valid")


def score(sample: Sample, *, fraction: float = FRACTION, window: int = WINDOW) -> float:
    """Mean of the lowest `fraction` of the smoothed gaps to the top token, in deviations; NaN where none is scored."""
    tokens = sample.target[PLAIN]
    gaps = in_deviations(tokens.logprob - tokens.logprob_top, tokens.logprob_std)
    return mean_of_lowest(smoothed(gaps, window), fraction)


ATTACK = Attack(
    "gap-k",
    score,
    summary="mean of the lowest {fraction} of the gaps to the top token, over {window} tokens in a row",
    source="arXiv:2601.19936",
    idea="How far the words of the text fall behind the model's own first choices, where they fall behind most.",
    version=2,
    parameters=(
        share_of_lowest(FRACTION),
        Parameter(
            "window", WINDOW, Option("the number of tokens in a row over which gaps are averaged", least=1, most=10**6)
        ),
    ),
)
