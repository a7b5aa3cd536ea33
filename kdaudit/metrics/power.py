"""What the sizes of a run could have told apart."""

from __future__ import annotations

import math

from scipy.special import ndtr, ndtri

from kdaudit.metrics.roc import hanley_mcneil_se

CHANCE = 0.5


def smallest_detectable_auc(
    n: int, m: int, *, cells: int = 1, null_variance: float = 1.0, level: float = 0.95, power: float = 0.8
) -> float:
    """The smallest AUC of one attack that a gate `auc <= 0.5` would fail on with chance `power`; 1 where none is.

    The gate fails where the lower bound at level 1 - (1 - level) / cells lies above 0.5 and the lower bound at `level`
    of the difference to the null (an AUC of 0.5 that knows nothing of the model) lies above 0. The null is taken as
    independent of the attack, which is the worst case, and the chances to miss either condition are added.

    Args:
        n: members, at least 1.
        m: non-members, at least 1.
        cells: scored cells that share the chance of a false failure, at least 1.
        null_variance: of the null's AUC, as a multiple of that of fixed scores; 0 where nothing must be beaten.
        level: of the one-sided tests, in (0.5, 1).
        power: chance of detection, in [0.5, 1).

    Raises:
        ValueError: an argument is out of its range.

    Source: sample-size formula of Hanley and McNeil 1982, solved for the AUC.
    """
    if min(n, m, cells) < 1 or null_variance < 0 or not 0.5 < level < 1 or not 0.5 <= power < 1:
        raise ValueError("needs a record of each class, a cell, a level in (0.5, 1) and a power in [0.5, 1)")
    at_chance = hanley_mcneil_se(CHANCE, n, m)
    z_cell, z_null = float(-ndtri((1 - level) / cells)), float(ndtri(level))

    def is_detected(area: float) -> bool:
        se = hanley_mcneil_se(area, n, m)
        missed = _missed(area - CHANCE, z_cell, at_chance, se)
        if null_variance > 0:
            null = math.sqrt(null_variance) * at_chance
            missed += _missed(area - CHANCE, z_null, math.hypot(at_chance, null), math.hypot(se, null))
        return missed <= 1 - power

    low, high = CHANCE, 1.0
    for _ in range(60):  # bisection down to rounding error
        middle = (low + high) / 2
        low, high = (low, middle) if is_detected(middle) else (middle, high)
    return high


def _missed(excess: float, z: float, se_of_test: float, se: float) -> float:
    """Chance that a normal estimate with mean `excess` does not lie z test errors above 0."""
    distance = excess - z * se_of_test
    return float(ndtr(-distance / se)) if se > 0 else float(distance < 0)
