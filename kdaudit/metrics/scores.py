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


def missing_reason(members: Floats, nonmembers: Floats) -> str:
    """Why these scores say nothing about membership, or an empty string.

    A value that most records share is no reason: where the members share it, it is the strongest leak of all. Ties
    count half.
    """
    for name, scores in (("members", members), ("non-members", nonmembers)):
        if scores.size == 0:
            return f"no scored {name}"
    first = members[0]
    if np.all(members == first) and np.all(nonmembers == first):
        return DO_NOT_VARY
    return ""
