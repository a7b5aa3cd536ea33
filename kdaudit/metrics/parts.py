"""The calibration and the evaluation part: no record fits a threshold and is judged by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdaudit.metrics.scores import Integers


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
