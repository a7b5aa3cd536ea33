"""What every metric asks of the scores it is given: float64, one dimension, finite, and not all the same."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
"""Scores of shape (n,), larger meaning more likely a member; also bootstrap draws of shape (R,)."""

Integers: TypeAlias = NDArray[np.intp]
"""Counts or indices."""

DO_NOT_VARY = "scores do not vary"


def finite(values: Floats) -> Floats:
    """Give `values` as float64 of shape (n,).

    Raises:
        ValueError: not one-dimensional, or a value is NaN or infinite; the caller counts those and leaves them out.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"scores must have one dimension, not {array.ndim}")
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite")
    return array


def has_majority_value(members: Floats, nonmembers: Floats) -> bool:
    """Whether one value holds more than half of all scores, both classes together."""
    together = np.concatenate([members, nonmembers])
    if together.size == 0:
        return False
    middle = np.partition(together, together.size // 2)[together.size // 2]  # a majority value is the median
    return bool(2 * np.count_nonzero(together == middle) > together.size)


def is_separated(members: Floats, nonmembers: Floats) -> bool:
    """Whether every member lies on the same side of every non-member: AUC exactly 0 or 1."""
    return bool(members.min() > nonmembers.max() or members.max() < nonmembers.min())


def missing_reason(members: Floats, nonmembers: Floats) -> str:
    """Why these scores say nothing about membership, or an empty string.

    Perfectly separated scores count as varying even where one class is constant: they are the strongest leak.
    """
    for name, scores in (("members", members), ("non-members", nonmembers)):
        if scores.size == 0:
            return f"no scored {name}"
    if has_majority_value(members, nonmembers) and not is_separated(members, nonmembers):
        return DO_NOT_VARY
    return ""
