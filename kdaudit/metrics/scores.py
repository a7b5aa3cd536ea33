"""What every metric asks of the scores it is given, and their calibration and evaluation parts."""

from __future__ import annotations

from dataclasses import dataclass
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

    A value that most records share is not such a reason: where the members share it, it is the strongest leak of all.
    Ties count half.
    """
    for name, scores in (("members", members), ("non-members", nonmembers)):
        if scores.size == 0:
            return f"no scored {name}"
    first = members[0]
    if np.all(members == first) and np.all(nonmembers == first):
        return DO_NOT_VARY
    return ""


@dataclass(frozen=True, slots=True)
class Parts:
    """Which records of each class belong to which part: rising indices, dtype intp, disjoint within a class."""

    calibration_members: Integers
    calibration_nonmembers: Integers
    evaluation_members: Integers
    evaluation_nonmembers: Integers


def split_parts(n_members: int, n_nonmembers: int, *, share: float, rng: np.random.Generator) -> Parts:
    """Draw the calibration part from each class; the rest is the evaluation part.

    Args:
        n_members: records of the first class.
        n_nonmembers: records of the second class.
        share: of each class that goes into the calibration part, in (0, 1), rounded to whole records.
        rng: draws the parts.

    Raises:
        ValueError: share is not in (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"the calibration share must lie in (0, 1), not {share}")
    calibration_members, evaluation_members = _split(n_members, share, rng)
    calibration_nonmembers, evaluation_nonmembers = _split(n_nonmembers, share, rng)
    return Parts(calibration_members, calibration_nonmembers, evaluation_members, evaluation_nonmembers)


def _split(n: int, share: float, rng: np.random.Generator) -> tuple[Integers, Integers]:
    drawn = rng.permutation(n).astype(np.intp)
    n_calibration = round(share * n)
    return np.sort(drawn[:n_calibration]), np.sort(drawn[n_calibration:])
