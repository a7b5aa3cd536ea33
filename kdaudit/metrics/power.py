"""What the sizes of a run could have told apart."""

from __future__ import annotations

from scipy.special import ndtri

from kdaudit.metrics.roc import hanley_mcneil_se


def smallest_detectable_auc(n: int, m: int, *, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest AUC whose lower bound at `level` lies above 0.5 with chance `power`; 1 where none does.

    One-sided, like the bounds of the verdict.

    Args:
        n: members, at least 1.
        m: non-members, at least 1.
        level: of the one-sided test against 0.5, in (0.5, 1).
        power: chance of detection, in [0.5, 1).

    Raises:
        ValueError: an argument is out of its range.

    Source: sample-size formula of Hanley and McNeil 1982, solved for the AUC.
    """
    if min(n, m) < 1 or not 0.5 < level < 1 or not 0.5 <= power < 1:
        raise ValueError("needs a record of each class, a level in (0.5, 1) and a power in [0.5, 1)")
    z_level, z_power = float(ndtri(level)), float(ndtri(power))
    critical = z_level * hanley_mcneil_se(0.5, n, m)
    low, high = 0.5, 1.0
    for _ in range(60):  # bisection down to rounding error
        middle = (low + high) / 2
        if middle - 0.5 >= critical + z_power * hanley_mcneil_se(middle, n, m):
            high = middle
        else:
            low = middle
    return high
