"""The early-stopping frontier: whether an arm leaks less than a plain checkpoint that is no more useful.

A student that learnt less leaks less. So an arm is held against the plain run's checkpoints, those of shorter plain
runs and the untrained start, by held-out loss: the frontier is a staircase, not a line, since a line between two
checkpoints of a curve that bends lies above what training passes through. The lower stair is the leak of the last
checkpoint that is no more useful than the arm, the upper stair that of the next one, which is more useful. A checkpoint
that another one beats in both loss and leak is not a stair: nobody would stop there.

An arm may move the leak from some members to others. So it is judged over groups of members that were fixed before any
arm was trained, and has to be better for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kdaudit.metrics import METRICS
from kdaudit.metrics.bootstrap import RESAMPLES, Spread, quantiles, to_difference
from kdaudit.metrics.bounds import holm
from kdaudit.metrics.estimate import Difference
from kdaudit.metrics.replicates import PLACED_BY, Counts, group_leaks, mean_replicates, seed_weights
from kdaudit.metrics.scores import Floats, Integers, finite, missing_reason

METHOD = "bootstrap over records, Student's t over seeds"
ALPHA = 0.05
ALL = "all"
"""The group of all members: shown, while the finding rests on the others where there are any."""
MAIN = PLACED_BY[0]
"""What findings rest on."""
BEYOND = "its held-out loss is below that of every plain checkpoint"
WORSE_THAN_START = "its held-out loss is above that of the untrained start"
ONE_SEED = "one seed cannot tell luck from help"
NOT_SURE = "it is not surely below the frontier"
A_CONTROL = "a control does at random what its arm does by choice, so it is never found to help"

Finding = Literal["helps", "moves the risk", "undertrained", "no evidence"]


@dataclass(frozen=True, slots=True)
class Trained:
    """What one attack and the held-out loss say of one model; all models of a frontier have the same records.

    The held-out records are the non-members.
    """

    members: Floats
    """(n,), scores."""
    nonmembers: Floats
    """(m,), scores."""
    nll: Floats
    """(m,), of each non-member the sum over its tokens, nats."""
    tokens: Floats
    """(m,), of each non-member, at least 1."""


@dataclass(frozen=True, slots=True)
class PlainCheckpoint:
    """A plain run at some moment, with every seed."""

    run: int
    """Epochs of the run; 0 is the untrained start."""
    epochs: float
    """Epochs that are done."""
    seeds: Sequence[Trained]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An arm, with every seed."""

    seeds: Sequence[Trained]
    groups: Mapping[str, Integers] = field(default_factory=dict)
    """By name the indices of its members; the finding rests on them, or on all members where there are none."""
    control_of: str | None = None
    """The arm for which this one does at random what that one does by choice."""


@dataclass(frozen=True, slots=True)
class Point:
    """An arm: the mean over seeds, over all members."""

    nll: float
    """Held-out, nats per token."""
    leak: float


@dataclass(frozen=True, slots=True)
class PlainPoint:
    """A plain checkpoint: the mean over seeds, over all members."""

    nll: float
    """Held-out, nats per token."""
    leak: float
    run: int
    """Epochs of the run that it belongs to; 0 for the untrained start."""
    epochs: float
    """Epochs that are done."""
    is_stair: bool
    """Whether no other plain checkpoint beats it in both held-out loss and leak (AUC)."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The leak of one group of members under an arm, beside the stairs."""

    n: int
    """Members of the group."""
    leak: float
    stair: float
    """Leak of the same members under the last plain checkpoint that is no more useful than the arm."""
    distance: Difference
    """Leak minus that; surely below 0 is surely better."""
    next_stair: float | None = None
    """Leak under the next plain checkpoint, which is more useful; None where the arm is more useful than all."""
    excess: Difference | None = None
    """Leak minus that; surely above 0 is surely worse."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An arm beside the frontier."""

    point: Point | None
    """None where the metric could not be measured."""
    groups: Mapping[str, Beside]
    """All members first, then the groups that the finding rests on; empty where the arm lies outside."""
    finding: Finding
    """By the AUC of the groups and their TPR together; the same for both metrics."""
    reason: str
    """Why there is no evidence, or which groups are better and which worse."""
    p_value: float | None = None
    """One-sided, of the group that is worst off: that the arm leaks no less there. Holm-adjusted over the arms."""
    vs_control: Difference | None = None
    """Where the arm has a control: its leak over all members minus that of the control, each above the straight line
    through the plain run's checkpoints at its own loss; below 0 is better than doing it at random."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """All arms beside the plain checkpoints, by one metric of one attack."""

    points: tuple[PlainPoint, ...]
    """In the order of `place`; empty where the metric could not be measured."""
    arms: Mapping[str, Placed]


@dataclass(frozen=True, slots=True)
class _Path:
    """Models in every replicate, the mean over seeds."""

    nll: Floats
    """(k, R + 1)."""
    leaks: Floats
    """(k, g, R + 1), by group, the first one of all members."""


def place(
    plain: Sequence[PlainCheckpoint],
    arms: Mapping[str, Candidate],
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> dict[str, Frontier]:
    """Hold every arm against the stairs, by the AUC and by the TPR at 1 % FPR, and say what it means.

    *helps*: the largest 95 % upper bound of the distance over the groups lies below 0 by AUC, and no group's TPR is
    surely higher. *moves the risk*: a group is surely better, and one is surely worse by AUC or TPR, measured against
    the next stair. *undertrained*: over all members the arm lies on or above the stair of a plain checkpoint that is no
    more useful. *no evidence*: else; where its loss is above that of the untrained start, or it leaks no less and is
    more useful than every plain checkpoint; and with one seed. A finding is of one arm by itself; the p-values beside
    it are adjusted over the arms (Holm).

    Every replicate draws the records anew, the same for all models, and moves the mean over seeds by a draw of
    Student's t with seeds - 1 degrees of freedom, the same for all models of a seed. Drawing three seeds out of three
    with replacement instead would make intervals far too short. Stairs are found anew in every replicate.

    Args:
        plain: checkpoints of plain runs of any length and the untrained start, each run in the order of training.
        arms: with as many seeds, in the same order.
        rng: draws the replicates.
        resamples: replicates.
        level: chance that an interval covers the true distance, in (0, 1).

    Raises:
        ValueError: seeds or records differ between models, there are fewer than two checkpoints, a group is empty, or a
            score is not finite.
    """
    _check(plain, arms)
    first = plain[0].seeds[0]
    n, m, n_seeds = first.members.size, first.nonmembers.size, len(plain[0].seeds)
    missing = {metric: _unmeasurable(plain, arms, metric) for metric in PLACED_BY}
    counts = Counts.draw(n, m, resamples=resamples, rng=rng)
    weights = seed_weights(n_seeds, resamples, rng)
    members_of, row_of = _distinct_groups(n, arms)
    paths = {
        metric: _paths(metric, plain, arms, counts, weights, members_of)
        for metric, reason in missing.items()
        if not reason
    }
    if MAIN not in paths:
        return {metric: _nothing(arms, missing[MAIN]) for metric in PLACED_BY}
    stairs = _are_stairs(paths[MAIN][0].nll, paths[MAIN][0].leaks[:, 0])
    beside = {
        metric: {
            name: _beside(run[name], run_of_plain, stairs, members_of, row_of[name], (n, m, level)) for name in arms
        }
        for metric, (run_of_plain, run) in paths.items()
    }
    findings = _findings(arms, paths[MAIN], beside, n_seeds)
    return {
        metric: _frontier(metric, plain, arms, paths, beside, stairs, findings, (n, m, level, n_seeds))
        if not reason
        else _nothing(arms, reason)
        for metric, reason in missing.items()
    }


def leak_at(nll: Floats, path_nll: Floats, path_leak: Floats) -> Floats:
    """The lowest leak of a path of straight lines where its loss is `nll`; beyond it, that of its nearest point.

    Args:
        nll: (r,).
        path_nll: (k, r), the corners of the path, k at least 2.
        path_leak: (k, r).

    Returns:
        (r,).
    """
    wanted = nll.clip(path_nll.min(axis=0), path_nll.max(axis=0))
    start, step = path_nll[:-1], np.diff(path_nll, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(step == 0, 0.0, (wanted - start) / step)
    is_on = (share >= 0) & (share <= 1) & ((step != 0) | (wanted == start))
    leak = path_leak[:-1] + share * np.diff(path_leak, axis=0)
    # A corner is compared with itself: rounding may put it just outside of both its segments.
    corners = np.where(path_nll == wanted, path_leak, np.inf)
    lowest = np.minimum(np.where(is_on, leak, np.inf).min(axis=0), corners.min(axis=0))
    return np.asarray(lowest, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Gap:
    """An arm's leak minus that of a stair, in every replicate."""

    anew: Floats
    """(R + 1,), held against the stair that each replicate finds."""
    fixed: Floats
    """(R + 1,), held against the stair that the data find."""

    def spread(self) -> Spread:
        """The wider end of both.

        Where seeds differ much, replicates find ever lower stairs: held against these alone an arm would look too bad.
        """
        return Spread(float(self.anew[0]), self.anew[1:], self.fixed[1:], self.fixed[1:])

    @property
    def upper(self) -> float:
        """The one-sided 95 % bound."""
        return float(quantiles(self.spread(), np.array([1 - ALPHA]))[0])

    @property
    def lower(self) -> float:
        return float(quantiles(self.spread(), np.array([ALPHA]))[0])


@dataclass(frozen=True, slots=True)
class _Gaps:
    """One group's leak beside the stairs."""

    n: int
    leak: float
    stair: float
    distance: _Gap
    next_stair: float | None
    excess: _Gap | None
    """The leak minus that of the next stair."""
    shape: tuple[int, int, float]
    """Members and non-members in all, level."""

    @property
    def p_value(self) -> float:
        """One-sided: that the leak is not below the stair."""
        return max(
            float((np.count_nonzero(draws[1:] >= 0) + 1) / draws.size)
            for draws in (self.distance.anew, self.distance.fixed)
        )

    @property
    def is_better(self) -> bool:
        """Whether the 95 % upper bound of the distance lies below 0."""
        return bool(self.distance.upper < 0 and self.distance.anew[0] < 0)

    @property
    def is_worse(self) -> bool:
        """Whether the 95 % lower bound of the excess lies above 0."""
        return bool(self.excess is not None and self.excess.lower > 0 and self.excess.anew[0] > 0)

    def describe(self, note: str) -> Beside:
        n_all, m, level = self.shape

        def difference(gap: _Gap) -> Difference:
            return replace(to_difference(gap.spread(), n_all, m, level, METHOD), quantiles=None, reason=note)

        excess = self.excess
        return Beside(
            self.n,
            self.leak,
            self.stair,
            difference(self.distance),
            self.next_stair,
            None if excess is None else difference(excess),
        )


def _paths(
    metric: str,
    plain: Sequence[PlainCheckpoint],
    arms: Mapping[str, Candidate],
    counts: Counts,
    weights: Floats,
    members_of: Floats,
) -> tuple[_Path, dict[str, _Path]]:
    def path(runs: Sequence[Sequence[Trained]]) -> _Path:
        nll = [[mean_replicates(model.nll, model.tokens, counts.nonmembers) for model in run] for run in runs]
        leaks = [
            [group_leaks(metric, model.members, model.nonmembers, counts, members_of) for model in run] for run in runs
        ]
        return _Path(_mean_over_seeds(np.array(nll), weights), _mean_over_seeds(np.array(leaks), weights))

    return path([one.seeds for one in plain]), {name: path([arm.seeds]) for name, arm in arms.items()}


def _mean_over_seeds(values: Floats, weights: Floats) -> Floats:
    """(k, ..., R + 1) of values (k, S, ..., R + 1): the mean over seeds in every replicate, moved by the seeds' luck.

    That luck is how the seeds differ in the data. How they differ in a resample holds the luck of its records too,
    which the resample's mean has already.
    """
    apart = np.einsum("ks...,rs->k...r", values[..., 0], weights - 1 / weights.shape[1])
    return np.asarray(values.mean(axis=1) + apart, dtype=np.float64)


def _are_stairs(nll: Floats, leak: Floats) -> NDArray[np.bool_]:
    """(k, r), checkpoints that no other one beats in loss or leak without being worse in the other; both are (k, r)."""
    found = np.ones(nll.shape, dtype=np.bool_)
    for k in range(nll.shape[0]):
        no_worse = (nll <= nll[k]) & (leak <= leak[k])
        found[k] = ~(no_worse & ((nll < nll[k]) | (leak < leak[k]))).any(axis=0)
    return found


def _beside(
    arm: _Path,
    plain: _Path,
    stairs: NDArray[np.bool_],
    members_of: Floats,
    rows: Mapping[str, int],
    shape: tuple[int, int, float],
) -> dict[str, _Gaps]:
    nll = arm.nll[0]
    above, below = stairs & (plain.nll >= nll), stairs & (plain.nll < nll)
    # Where a replicate has no such stair the nearest one is taken.
    first, last = (
        np.where(stairs, plain.nll, np.inf).argmin(axis=0),
        np.where(stairs, plain.nll, -np.inf).argmax(axis=0),
    )
    lower = np.where(above.any(axis=0), np.where(above, plain.nll, np.inf).argmin(axis=0), last)
    upper = np.where(below.any(axis=0), np.where(below, plain.nll, -np.inf).argmax(axis=0), first)
    columns, has_next = np.arange(nll.size), bool(below[:, 0].any())

    def gap(leak: Floats, row: int, stair: NDArray[np.intp]) -> _Gap:
        return _Gap(leak - plain.leaks[stair, row, columns], leak - plain.leaks[stair[0], row])

    return {
        name: _Gaps(
            int(members_of[row].sum()),
            float(arm.leaks[0, row, 0]),
            float(plain.leaks[lower[0], row, 0]),
            gap(arm.leaks[0, row], row, lower),
            float(plain.leaks[upper[0], row, 0]) if has_next else None,
            gap(arm.leaks[0, row], row, upper) if has_next else None,
            shape,
        )
        for name, row in rows.items()
    }


def _findings(
    arms: Mapping[str, Candidate],
    paths: tuple[_Path, dict[str, _Path]],
    beside: Mapping[str, Mapping[str, Mapping[str, _Gaps]]],
    n_seeds: int,
) -> dict[str, tuple[Finding, str, float | None]]:
    """By arm what is found, why, and the adjusted p-value."""
    plain, of_arms = paths
    highest, lowest = float(plain.nll[:, 0].max()), float(plain.nll[:, 0].min())
    inside = [name for name in arms if float(of_arms[name].nll[0, 0]) <= highest]
    judged = {name: [*beside[MAIN][name]][1:] or [ALL] for name in inside}
    worst = [max(beside[MAIN][name][group].p_value for group in groups) for name, groups in judged.items()]
    adjusted = dict(zip(judged, holm(worst), strict=True))
    found: dict[str, tuple[Finding, str, float | None]] = {}
    for name, arm in arms.items():
        if name not in judged:
            found[name] = "no evidence", WORSE_THAN_START, None
            continue
        is_beyond = float(of_arms[name].nll[0, 0]) < lowest
        by_metric = {metric: found_of[name] for metric, found_of in beside.items()}
        finding, reason = _finding(by_metric, judged[name], n_seeds, is_beyond=is_beyond)
        if finding == "helps" and arm.control_of is not None:
            finding, reason = "no evidence", A_CONTROL
        found[name] = finding, reason, adjusted[name]
    return found


def _finding(
    beside: Mapping[str, Mapping[str, _Gaps]],
    groups: Sequence[str],
    n_seeds: int,
    *,
    is_beyond: bool,
) -> tuple[Finding, str]:
    main = beside[MAIN]
    better = [group for group in groups if main[group].is_better]
    worse = {metric: [group for group in groups if found[group].is_worse] for metric, found in beside.items()}
    if n_seeds > 1 and better and any(worse.values()):
        return "moves the risk", _moved(better, worse)
    if main[ALL].distance.anew[0] >= 0:
        return ("no evidence", BEYOND) if is_beyond else ("undertrained", "")
    if n_seeds == 1:
        return "no evidence", ONE_SEED
    if len(better) == len(groups) and not any(worse.values()):
        return "helps", ""
    not_better = [group for group in groups if group not in better]
    over = "" if groups == [ALL] or not not_better else f" for {' and '.join(not_better)}"
    return "no evidence", f"{NOT_SURE}{over}"


def _moved(better: Sequence[str], worse: Mapping[str, Sequence[str]]) -> str:
    up = [
        " and ".join(groups) + (f" by {METRICS[metric].short}" if metric != MAIN else "")
        for metric, groups in worse.items()
        if groups
    ]
    return f"less for {' and '.join(better)}, more for {', '.join(up)}"


def _frontier(
    metric: str,
    plain: Sequence[PlainCheckpoint],
    arms: Mapping[str, Candidate],
    paths: Mapping[str, tuple[_Path, dict[str, _Path]]],
    beside: Mapping[str, Mapping[str, Mapping[str, _Gaps]]],
    stairs: NDArray[np.bool_],
    findings: Mapping[str, tuple[Finding, str, float | None]],
    shape: tuple[int, int, float, int],
) -> Frontier:
    n, m, level, n_seeds = shape
    of_plain, of_arms = paths[metric]
    note = "" if n_seeds > 1 else "one seed: the interval is of the records alone"
    placed = {}
    for name, (finding, reason, p_value) in findings.items():
        own = of_arms[name]
        is_inside = p_value is not None
        described = {group: gaps.describe(note) for group, gaps in beside[metric][name].items()} if is_inside else {}
        placed[name] = Placed(
            Point(float(own.nll[0, 0]), float(own.leaks[0, 0, 0])), described, finding, reason, p_value
        )
    path = [k for k, one in enumerate(plain) if one.run in (0, max(one.run for one in plain))]

    def above_line(one: _Path) -> Floats:
        line = leak_at(one.nll[0], of_plain.nll[path], of_plain.leaks[path, 0])
        return np.asarray(one.leaks[0, 0] - line, dtype=np.float64)

    for control, arm in arms.items():
        if arm.control_of is None:
            continue
        outside = [f"{one}: {placed[one].reason}" for one in (arm.control_of, control) if not placed[one].groups]
        if outside:
            apart = Difference(None, level=level, reason=outside[0])
        else:
            gaps = above_line(of_arms[arm.control_of]) - above_line(of_arms[control])
            apart = replace(
                to_difference(Spread(float(gaps[0]), *([gaps[1:]] * 3)), n, m, level, METHOD),
                quantiles=None, reason=note,
            )  # fmt: skip
        placed[arm.control_of] = replace(placed[arm.control_of], vs_control=apart)
    points = tuple(
        PlainPoint(float(of_plain.nll[k, 0]), float(of_plain.leaks[k, 0, 0]), one.run, one.epochs, bool(stairs[k, 0]))
        for k, one in enumerate(plain)
    )
    return Frontier(points, placed)


def _nothing(arms: Mapping[str, Candidate], reason: str) -> Frontier:
    return Frontier((), dict.fromkeys(arms, Placed(None, {}, "no evidence", reason)))


def _distinct_groups(n: int, arms: Mapping[str, Candidate]) -> tuple[Floats, dict[str, dict[str, int]]]:
    """Every group of members once, as (g, n) of 0 and 1, and by arm which row each of its groups is; all come first."""
    rows, row_of = [np.ones(n)], {np.ones(n).tobytes(): 0}
    found: dict[str, dict[str, int]] = {}
    for name, arm in arms.items():
        found[name] = {ALL: 0}
        for group, members in arm.groups.items():
            row = np.zeros(n)
            row[members] = 1
            if row.tobytes() not in row_of:
                row_of[row.tobytes()] = len(rows)
                rows.append(row)
            found[name][group] = row_of[row.tobytes()]
    return np.array(rows), found


def _models(plain: Sequence[PlainCheckpoint], arms: Mapping[str, Candidate]) -> list[Trained]:
    return [model for one in plain for model in one.seeds] + [model for arm in arms.values() for model in arm.seeds]


def _check(plain: Sequence[PlainCheckpoint], arms: Mapping[str, Candidate]) -> None:
    if len(plain) < 2:
        raise ValueError("a frontier needs two plain checkpoints at least")
    if len({*(len(one.seeds) for one in plain), *(len(arm.seeds) for arm in arms.values())}) != 1:
        raise ValueError("every checkpoint and every arm needs one model for each seed")
    sizes = set()
    for model in _models(plain, arms):
        values = [finite(each) for each in (model.members, model.nonmembers, model.nll, model.tokens)]
        sizes.add(tuple(each.size for each in values))
        if model.nonmembers.size != model.nll.size or np.any(model.tokens < 1):
            raise ValueError("the held-out loss must be of the non-members, each of at least one token")
    if len(sizes) != 1:
        raise ValueError("all models must be scored on the same records")
    for name, arm in arms.items():
        if any(members.size == 0 for members in arm.groups.values()):
            raise ValueError(f"{name}: a group of members is empty")


def _unmeasurable(plain: Sequence[PlainCheckpoint], arms: Mapping[str, Candidate], metric: str) -> str:
    n_nonmembers, least = plain[0].seeds[0].nonmembers.size, METRICS[metric].least_nonmembers
    if n_nonmembers < least:
        return f"needs {least} held-out records, there are {n_nonmembers}"
    trained = [model for one in plain if one.run for model in one.seeds]  # the start's reference score is 0 for all
    trained += [model for arm in arms.values() for model in arm.seeds]
    return next((reason for model in trained if (reason := missing_reason(model.members, model.nonmembers))), "")
