"""What a model makes of a record beyond what its difficulty explains, and how the excesses of two models go together.

The excess of a model is the residual of its mean log-likelihood from a linear fit on non-members alone: what the
untrained starts made of the record, and how long it is. Every bootstrap replicate draws members and non-members anew
and fits again, so that intervals know that the fit was estimated. Everything follows from sums of products over
records, so that a replicate is one product of counts and a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kdaudit.metrics.bootstrap import MANY, RESAMPLES, RESAMPLES_OF_MANY, draw_bounds, draw_counts
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.replicates import seed_weights
from kdaudit.metrics.scores import Floats, finite

MIN_RECORDS = 30
"""The least number of records of each class: with fewer, a percentile bootstrap makes intervals far too short."""
SLOPE = "least squares on residuals from a fit on non-members, bootstrap over records"
EFFECT = "residuals from a fit on non-members, bootstrap over records, Student's t over seeds"
BLOCK = 200  # replicates whose counts exist at one time, fewer where they would exceed MAX_COUNTS
MAX_COUNTS = 2**24
NO_DIFFERENCE_LEFT = 1e-9  # share of a variance: below it, what is left is rounding

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slopes:
    """The student's excess per nat of the teacher's excess."""

    members: Estimate
    nonmembers: Estimate
    interaction: Difference
    """Members minus non-members: the coefficient of the product in *student excess ~ teacher excess * member*."""


@dataclass(frozen=True, slots=True)
class SupervisionEffect:
    """The excess of vulnerable members minus that of the other members, nats per token, mean over seeds."""

    mixed: Difference
    """Under the ground truth and the teacher together."""
    hard: Difference
    """Under the ground truth alone."""
    effect: Difference
    """The former minus the latter: what the teacher's word adds."""


def excess_slopes(
    student: Floats,
    teacher: Floats,
    difficulty: Floats,
    is_member: Mask,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    many: int = MANY,
) -> Slopes:
    """Does the student take more from its teacher on members than on non-members?

    Args:
        student: (n,), mean log-likelihoods, nats per token, finite.
        teacher: (n,), likewise, of the same records.
        difficulty: (n, k), what explains a record's difficulty to both; a constant is added.
        is_member: (n,).
        rng: draws the resamples.
        resamples: bootstrap replicates, of members and non-members apart; percentile intervals. Where both classes
            have more than `many` records they are fewer, and intervals are normal with their standard deviation.
        level: chance that an interval covers the true value, in (0, 1).
        many: see MANY.

    Raises:
        ValueError: the sizes differ, or a value is NaN or infinite.

    Source: ordinary least squares; partial regression by Frisch and Waugh 1933; bootstrap over cases by Efron 1979.
    """
    explained = _explanatory(difficulty, student.size)
    table = np.column_stack([explained, _centred(student), _centred(teacher)])
    if len(table) != is_member.size:
        raise ValueError("student, teacher, difficulty and membership must be of the same records")
    n, m = int(is_member.sum()), int((~is_member).sum())
    if reason := _too_few({"members": n, "non-members": m}):
        return _no_slopes(n, m, level, reason)
    is_normal = min(n, m) > many
    resamples = min(resamples, RESAMPLES_OF_MANY) if is_normal else resamples
    inside, outside = (_moments(table[part], resamples, rng) for part in (is_member, ~is_member))
    direction = _residuals(outside, explained.shape[1])
    slopes = []
    for moments, own in ((inside, table[is_member]), (outside, table[~is_member])):
        spread = _covariances(moments, direction)
        if spread[0, 1, 1] <= NO_DIFFERENCE_LEFT * own[:, -1].var() * len(own):
            return _no_slopes(n, m, level, "the teacher's excess does not vary")
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes.append(spread[:, 0, 1] / spread[:, 1, 1])
    of_members, of_nonmembers = slopes
    gaps = of_members - of_nonmembers
    bounds = [
        draw_bounds(float(one[0]), one[1:], level, is_normal=is_normal) for one in (of_members, of_nonmembers, gaps)
    ]
    return Slopes(
        Estimate(float(of_members[0]), *bounds[0], n, 0, level, SLOPE),
        Estimate(float(of_nonmembers[0]), *bounds[1], 0, m, level, SLOPE),
        Difference(float(gaps[0]), *bounds[2], n=n, m=m, level=level, method=SLOPE),
    )


def supervision_effect(
    mixed: Sequence[Floats],
    hard: Sequence[Floats],
    difficulty: Floats,
    is_member: Mask,
    is_vulnerable: Mask,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> SupervisionEffect:
    """Does learning from teacher and ground truth together expose vulnerable members more than the truth alone does?

    Both kinds of students start alike, learn from the same members and differ in their targets alone, so that what
    makes a member easy to learn is in both, and what is left is the teacher's doing. Intervals cover more than `level`
    where seeds differ little: they are never tighter than the records alone would make them.

    Args:
        mixed: by training seed (n,) mean log-likelihoods of a student, nats per token, finite.
        hard: likewise, the same seeds in the same order, students of hard labels alone.
        difficulty: (n, k), what explains a record's difficulty; a constant is added.
        is_member: (n,).
        is_vulnerable: (n,), members that the teacher gives away, chosen without a look at the students.
        rng: draws the replicates.
        resamples: replicates: records drawn anew, non-members, vulnerable and other members apart, and the mean over
            seeds moved by a draw of Student's t, the same for both kinds.
        level: chance that an interval covers the true value, in (0, 1).

    Raises:
        ValueError: the sizes or the seeds differ, a vulnerable record is not a member, or a value is not finite.
    """
    if not mixed or len(mixed) != len(hard):
        raise ValueError("both kinds of students need the same seeds, one at least")
    students = [_centred(values) for values in (*mixed, *hard)]
    explained = _explanatory(difficulty, students[0].size)
    if {values.size for values in students} != {is_member.size} or is_vulnerable.size != is_member.size:
        raise ValueError("students, difficulty and membership must be of the same records")
    if np.any(is_vulnerable & ~is_member):
        raise ValueError("a vulnerable record must be a member")
    parts = {
        "vulnerable members": is_vulnerable,
        "other members": is_member & ~is_vulnerable,
        "non-members": ~is_member,
    }
    n, m, n_seeds = int(is_member.sum()), int((~is_member).sum()), len(mixed)
    if reason := _too_few({name: int(part.sum()) for name, part in parts.items()}):
        missing = Difference(None, n=n, m=m, level=level, reason=reason)
        return SupervisionEffect(missing, missing, missing)
    table = np.column_stack([explained, *students])
    vulnerable, others, outside = (_moments(table[part], resamples, rng) for part in parts.values())
    direction = _residuals(outside, explained.shape[1])
    means = [np.einsum("rd,rdc->rc", one[:, 0] / one[:, :1, 0], direction) for one in (vulnerable, others)]
    apart = means[0] - means[1]
    weights = seed_weights(n_seeds, resamples, rng)
    # The luck of the seeds moves the mean as it lay in the data: resampled, the records' luck would count twice.
    of_mixed, of_hard = (
        part.mean(axis=1) + (weights - 1 / n_seeds) @ part[0] for part in (apart[:, :n_seeds], apart[:, n_seeds:])
    )
    note = "" if n_seeds > 1 else "one seed: the interval is of the records alone"

    def found(values: Floats) -> Difference:
        bounds = draw_bounds(float(values[0]), values[1:], level, is_normal=False)
        return Difference(float(values[0]), *bounds, n=n, m=m, level=level, method=EFFECT, reason=note)

    return SupervisionEffect(found(of_mixed), found(of_hard), found(of_mixed - of_hard))


def _centred(values: Floats) -> Floats:
    """Minus its mean: sums of squares keep their digits."""
    checked = finite(values)
    return checked - checked.mean() if checked.size else checked


def _explanatory(difficulty: Floats, n: int) -> Floats:
    """(n, 1 + k), a constant and the centred columns in units of their deviation, those that vary."""
    if difficulty.ndim != 2 or len(difficulty) != n:
        raise ValueError("difficulty needs a row for each record")
    columns = [_centred(column) for column in difficulty.T]
    varying = [column / column.std() for column in columns if column.size and column.std() > 0]
    return np.column_stack([np.ones(n), *varying])


def _moments(table: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """(R + 1, d, d), sums of products of the columns of `table` (n, d) over all records, then over each resample."""
    n, d = table.shape
    products = (table[:, :, None] * table[:, None, :]).reshape(n, d * d)
    found = [products.sum(axis=0, keepdims=True)]
    block = min(BLOCK, max(MAX_COUNTS // n, 1))
    for start in range(0, resamples, block):
        counts = np.empty((min(block, resamples - start), n))
        for row in counts:
            row[:] = draw_counts(n, rng)
        found.append(counts @ products)
    return np.concatenate(found).reshape(-1, d, d)


def _residuals(moments: Floats, k: int) -> Floats:
    """(R + 1, d, d - k), which sums of columns are the residuals of the last d - k from a fit on the first k."""
    inverse = np.linalg.pinv(moments[:, :k, :k], rcond=1e-10, hermitian=True)  # starts may be the same model twice
    coefficients = inverse @ moments[:, :k, k:]
    n_fitted = moments.shape[2] - k
    return np.concatenate(
        [-coefficients, np.broadcast_to(np.eye(n_fitted), (len(moments), n_fitted, n_fitted))], axis=1
    )


def _covariances(moments: Floats, direction: Floats) -> Floats:
    """(R + 1, c, c), sums of products of the residuals about their means; the first column is the constant."""
    turned = np.swapaxes(direction, 1, 2)
    sums = (turned @ moments[:, :, :1])[:, :, 0]
    squares: Floats = turned @ moments @ direction
    return squares - sums[:, :, None] * sums[:, None, :] / moments[:, :1, :1]


def _too_few(counts: dict[str, int]) -> str:
    return next((f"fewer than {MIN_RECORDS} {name}" for name, count in counts.items() if count < MIN_RECORDS), "")


def _no_slopes(n: int, m: int, level: float, reason: str) -> Slopes:
    return Slopes(
        Estimate(None, n=n, level=level, method=SLOPE, reason=reason),
        Estimate(None, m=m, level=level, method=SLOPE, reason=reason),
        Difference(None, n=n, m=m, level=level, method=SLOPE, reason=reason),
    )
