"""The figures of papers that fit the threshold on the records that it judges: too good, for comparison only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kdaudit.metrics.roc import auc
from kdaudit.metrics.scores import Floats, finite


class InSample(NamedTuple):
    """In-sample figures of one attack on one model; never gated, never given an interval."""

    auc: float
    balanced_accuracy: float
    member_success: float
    nonmember_success: float


def best_in_sample(members: Floats, nonmembers: Floats) -> InSample:
    """AUC, and the accuracies at the threshold of best balanced accuracy on these same records, the lowest of several.

    Args:
        members: (n,), finite, n at least 1.
        nonmembers: (m,), finite, m at least 1.

    Raises:
        ValueError: a class is empty, or a score is NaN or infinite.
    """
    members, nonmembers = finite(members), finite(nonmembers)
    area = auc(members, nonmembers)
    thresholds = np.unique(np.concatenate([members, nonmembers]))
    found_at = 1 - np.sort(members).searchsorted(thresholds, side="right") / members.size
    cleared_at = np.sort(nonmembers).searchsorted(thresholds, side="right") / nonmembers.size
    best = int(np.argmax(found_at + cleared_at))
    found, cleared = float(found_at[best]), float(cleared_at[best])
    return InSample(area, (found + cleared) / 2, found, cleared)
