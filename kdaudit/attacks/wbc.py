"""WBC: in how many windows of tokens the target beats the reference, over windows short and long.

Source: arXiv:2601.02751. Windows longer than the text are as long as the text, and count each time they occur.
"""

from __future__ import annotations

import math

import numpy as np

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.reference import token_gains
from kdaudit.attacks.settings import Parameter
from kdaudit.options import Option

WINDOWS = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)  # tokens; the paper's lengths


def score(sample: Sample, *, windows: tuple[int, ...] = WINDOWS) -> float:
    """Mean over the window lengths of the share of windows whose gains sum above 0, in [0, 1]; NaN without tokens."""
    gains = token_gains(sample)
    sums = np.concatenate(([0.0], gains.cumsum()))
    if gains.size == 0 or not math.isfinite(sums[-1]):  # NaN would count as not above 0
        return math.nan
    share_sum = 0.0
    for window in windows:
        length = min(window, gains.size)
        n_windows = gains.size - length + 1
        share_sum += int(np.count_nonzero(sums[length:] > sums[:-length])) / n_windows
    return share_sum / len(windows)


ATTACK = Attack(
    "wbc",
    score,
    summary="share of windows, {windows} tokens long, in which the target beats the reference",
    source="arXiv:2601.02751",
    idea="In how many stretches of the text the model does better than a reference that never saw it.",
    needs_reference=True,
    needs_same_tokenizer=True,
    parameters=(Parameter("windows", WINDOWS, Option("the lengths of the windows in tokens", least=1, most=10**6)),),
)
