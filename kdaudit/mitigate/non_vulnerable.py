"""Non-vulnerable: the members that an attack detects in the teacher are left out of the distillation.

Each half of the records is flagged by the threshold of the other half, so that no record takes part in the threshold
that judges it. Even an attack that knows nothing flags a tenth of the members: what the choice is worth shows only
against the control, which leaves out as many members at random.

Source: arXiv:2505.11837; the crossed conformal threshold and the control are kdaudit's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdaudit.errors import ConfigError, InsufficientDataError
from kdaudit.mitigate.base import Method, Selection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kdaudit.metrics.scores import Floats

FALSE_POSITIVE_RATE = "0.1"


def select(members: Floats, nonmembers: Floats, rng: np.random.Generator) -> Selection:
    """Leave out the members that are detected.

    Args:
        members: (n,), scores of the attack on the teacher, larger meaning more likely a member; NaN: not scored.
        nonmembers: (m,), likewise; at least 58 that are not NaN.
        rng: draws the halves and the control.

    Raises:
        InsufficientDataError: there are too few non-members for a threshold.
        ConfigError: no member is detected, or every one is.
    """
    import numpy as np  # inside functions: the command line reads the methods' names

    is_detected = detected(members, nonmembers, rng)
    n_dropped = int(is_detected.sum())
    _check(n_dropped, is_detected)
    control = rng.choice(members.size, members.size - n_dropped, replace=False)
    kept = np.flatnonzero(~is_detected)
    return Selection(kept, np.sort(control).astype(np.intp), members.size, int(np.isnan(members).sum()))


def detected(members: Floats, nonmembers: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n,), members whose score lies above the conformal threshold at 10 % FPR of the other half.

    Args:
        members: (n,), scores of the attack on the teacher, larger meaning more likely a member; NaN: not scored.
        nonmembers: (m,), likewise; at least 58 that are not NaN.
        rng: draws the halves.

    Raises:
        InsufficientDataError: there are too few non-members for a threshold.
    """
    import numpy as np

    from kdaudit.metrics.scores import split_parts

    known = nonmembers[~np.isnan(nonmembers)]
    halves = split_parts(members.size, known.size, share=0.5, rng=rng)
    is_detected = np.zeros(members.size, dtype=np.bool_)
    for own, others in (
        (halves.calibration_members, halves.evaluation_nonmembers),
        (halves.evaluation_members, halves.calibration_nonmembers),
    ):
        is_detected[own] = members[own] > _threshold(known[others], known.size)  # NaN is above nothing
    return is_detected


def _threshold(nonmembers: Floats, n_known: int) -> float:
    """The k-th largest score, k = floor(0.1 (m + 1)): a further non-member exceeds it with chance at most 10 %."""
    import numpy as np

    from kdaudit.metrics.calibration import MIN_RANK, conformal_rank

    rank = conformal_rank(FALSE_POSITIVE_RATE, nonmembers.size)
    if rank < MIN_RANK:
        raise InsufficientDataError(
            f"non-vulnerable: {n_known} scored non-members are too few to tell which members are detected",
            hint="at least 58 are needed, 29 in each half",
        )
    return float(np.sort(nonmembers)[-rank])


def _check(n_dropped: int, is_detected: NDArray[np.bool_]) -> None:
    if n_dropped == 0:
        raise ConfigError(
            f"non-vulnerable: the attack detects none of {is_detected.size} members in the teacher",
            hint="there is nothing to leave out; choose a stronger attack with --vulnerability-attack",
        )
    if n_dropped == is_detected.size:
        raise ConfigError(
            f"non-vulnerable: the attack detects all {is_detected.size} members in the teacher",
            hint="nothing would be left to train on; choose another method or another --vulnerability-attack",
        )


METHOD = Method(
    "non-vulnerable",
    summary="leaves out the members that an attack detects in the teacher",
    source="arXiv:2505.11837",
    select=select,
)
