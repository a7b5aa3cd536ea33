"""The early-stopping frontier: whether an arm leaks less than the plain run where that was as useful.

A student that learnt less leaks less. So an arm is compared with the plain run at the epoch, or between the two epochs,
at which its held-out loss was the same: the vertical distance to a curve that is linear between epochs in held-out
loss. Where the plain run passed a loss twice, before and after it overfitted, the lower leak counts: stopping there
was free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kdaudit.metrics.bootstrap import RESAMPLES, Spread, to_difference
from kdaudit.metrics.calibration import MIN_RANK, too_few
from kdaudit.metrics.estimate import Difference
from kdaudit.metrics.parts import Parts
from kdaudit.metrics.proportions import holm
from kdaudit.metrics.replicates import Counts, Metric, leak_replicates, mean_replicates
from kdaudit.metrics.scores import Floats, finite, missing_reason

METHOD = "bootstrap over records, Student's t over seeds"
ALPHA = 0.05

Finding = Literal["helps", "undertrained", "no evidence"]


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
class Point:
    """An epoch of the plain run, or an arm: the mean over seeds."""

    nll: float
    """Held-out, nats per token."""
    leak: float


@dataclass(frozen=True, slots=True)
class Placed:
    """An arm beside the frontier."""

    point: Point | None
    """None where the metric could not be measured."""
    frontier: float | None
    """Leak of the plain run at the arm's held-out loss; None outside of its range."""
    distance: Difference
    """Leak of the arm minus that; below 0 is better than stopping earlier. The p-value is adjusted over the arms."""
    finding: Finding
    reason: str
    """Why there is no evidence, or an empty string."""
    vs_control: Difference | None = None
    """Where the arm has a control: its distance minus that of the control; below 0 is better than doing it at random.
    The p-value is not adjusted."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """All arms beside the plain run, by one metric of one attack."""

    epochs: tuple[Point, ...]
    """In the order of training; empty where the metric could not be measured."""
    arms: Mapping[str, Placed]


@dataclass(frozen=True, slots=True)
class _Path:
    """Points in every replicate: (k, R + 1) each, k epochs, or 1 for an arm."""

    nll: Floats
    leak: Floats


def place(
    plain: Sequence[Sequence[Trained]],
    arms: Mapping[str, Sequence[Trained]],
    parts: Parts,
    *,
    metric: Metric,
    rng: np.random.Generator,
    controls: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Frontier:
    """Measure every arm's distance to the frontier and say what it means.

    *helps*: the arm lies below the frontier, its interval excludes 0, and so does its p-value, Holm-adjusted over the
    arms, at 0.05. *undertrained*: it lies on or above. *no evidence*: it lies below but not surely, outside of the
    frontier's range, or there is only one seed.

    Every replicate draws the records anew, the same for all models, and moves the mean over seeds by a draw of
    Student's t with seeds - 1 degrees of freedom, the same for all models of a seed. Drawing three seeds out of three
    with replacement instead would make intervals far too short.

    Args:
        plain: for every seed the plain run's epochs, in the order of training; at least two epochs.
        arms: for every arm its models, one for each seed of the plain run, in the same order.
        parts: calibration and evaluation records.
        metric: what the leak is measured by.
        rng: draws the replicates.
        controls: by arm the one that does at random what it does by choice; both are in `arms`.
        resamples: replicates.
        level: chance that an interval covers the true distance, in (0, 1).

    Raises:
        ValueError: seeds, epochs or records differ between models, there is one epoch only, or a score is not finite.
    """
    _check(plain, arms)
    n_seeds = len(plain)
    models = [*(model for run in plain for model in run), *(model for run in arms.values() for model in run)]
    if reason := _unmeasurable(models, parts, metric):
        missing = Placed(None, None, Difference(None, level=level, reason=reason), "no evidence", reason)
        return Frontier((), dict.fromkeys(arms, missing))
    counts = Counts.draw(parts, resamples=resamples, rng=rng)
    weights = _seed_weights(n_seeds, resamples, rng)

    def path(runs: Sequence[Sequence[Trained]]) -> _Path:
        """The mean over seeds (rows of `runs`) of each column."""
        nll = [[mean_replicates(model.nll, model.tokens, counts.nonmembers) for model in run] for run in runs]
        leak = [[leak_replicates(metric, model.members, model.nonmembers, counts) for model in run] for run in runs]
        return _Path(*(np.einsum("skr,rs->kr", np.array(values), weights) for values in (nll, leak)))

    def to_gap(gaps: Floats) -> Difference:
        n, m = plain[0][0].members.size, plain[0][0].nonmembers.size
        found = to_difference(Spread(float(gaps[0]), *([gaps[1:]] * 3)), n, m, level, METHOD)
        return found if n_seeds > 1 else replace(found, reason="one seed: the interval is of the records alone")

    frontier = path(plain)
    paths = {name: path([[model] for model in run]) for name, run in arms.items()}
    gaps = {name: one.leak[0] - leak_at(one.nll[0], frontier.nll, frontier.leak) for name, one in paths.items()}
    placed = {name: _place(one, frontier, to_gap(gaps[name])) for name, one in paths.items()}
    for name, control in (controls or {}).items():
        reasons = [f"{one}: {placed[one].reason}" for one in (name, control) if placed[one].frontier is None]
        apart = Difference(None, level=level, reason=reasons[0]) if reasons else to_gap(gaps[name] - gaps[control])
        placed[name] = replace(placed[name], vs_control=apart)
    return Frontier(tuple(_points(frontier)), _adjusted(placed, n_seeds))


def leak_at(nll: Floats, path_nll: Floats, path_leak: Floats) -> Floats:
    """The lowest leak of a path where its loss is `nll`; where it never is, that of its nearest point.

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


def _place(arm: _Path, frontier: _Path, distance: Difference) -> Placed:
    """`distance` is to the nearest point of the frontier where the arm lies outside of its range: no distance then."""
    (point,) = _points(arm)
    lowest, highest = float(frontier.nll[:, 0].min()), float(frontier.nll[:, 0].max())
    if not lowest <= point.nll <= highest or distance.value is None:
        side = "above" if point.nll > highest else "below"
        reason = f"its held-out loss is {side} that of every epoch of the plain run"
        missing = Difference(None, n=distance.n, m=distance.m, level=distance.level, reason=reason)
        return Placed(point, None, missing, "no evidence", reason)
    return Placed(point, point.leak - distance.value, distance, "no evidence", "")


def _adjusted(placed: Mapping[str, Placed], n_seeds: int) -> dict[str, Placed]:
    """With p-values adjusted over the arms, and the findings that they allow."""
    adjusted = holm([arm.distance.p_value for arm in placed.values()])
    found = {}
    for (name, arm), p_value in zip(placed.items(), adjusted, strict=True):
        distance = replace(arm.distance, p_value_holm=p_value)
        finding, reason = _finding(distance, arm.reason, n_seeds)
        found[name] = replace(arm, distance=distance, finding=finding, reason=reason)
    return found


def _finding(distance: Difference, reason: str, n_seeds: int) -> tuple[Finding, str]:
    if distance.value is None or distance.high is None or distance.p_value_holm is None:
        return "no evidence", reason
    if distance.value >= 0:
        return "undertrained", ""
    if n_seeds == 1:
        return "no evidence", "one seed cannot tell luck from help"
    if distance.high < 0 and distance.p_value_holm <= ALPHA:
        return "helps", ""
    return "no evidence", "it may lie on the frontier"


def _seed_weights(n_seeds: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Weights of the seeds in every replicate, (R + 1, S), each row of sum 1.

    A mean under them lies t standard errors from the mean, t of Student's distribution with S - 1 degrees of freedom:
    its quantiles are the usual confidence bounds of a mean of S normal values.
    """
    weights = np.full((resamples + 1, n_seeds), 1 / n_seeds)
    if n_seeds > 1:
        normal = rng.normal(size=(resamples, n_seeds))
        centred = normal - normal.mean(axis=1, keepdims=True)
        heavy = np.sqrt((n_seeds - 1) / rng.chisquare(n_seeds - 1, size=(resamples, 1)))
        weights[1:] += centred * heavy / np.sqrt(n_seeds * (n_seeds - 1))
    return weights


def _points(path: _Path) -> list[Point]:
    return [Point(float(nll), float(leak)) for nll, leak in zip(path.nll[:, 0], path.leak[:, 0], strict=True)]


def _check(plain: Sequence[Sequence[Trained]], arms: Mapping[str, Sequence[Trained]]) -> None:
    if len({len(run) for run in plain}) != 1 or len(plain[0]) < 2:
        raise ValueError("every seed of the plain run needs the same epochs, two at least")
    if any(len(run) != len(plain) for run in arms.values()):
        raise ValueError("every arm needs one model for each seed of the plain run")
    models = [*(model for run in plain for model in run), *(model for run in arms.values() for model in run)]
    sizes = set()
    for model in models:
        values = [finite(each) for each in (model.members, model.nonmembers, model.nll, model.tokens)]
        sizes.add(tuple(each.size for each in values))
        if model.nonmembers.size != model.nll.size or np.any(model.tokens < 1):
            raise ValueError("the held-out loss must be of the non-members, each of at least one token")
    if len(sizes) != 1:
        raise ValueError("all models must be scored on the same records")


def _unmeasurable(models: Sequence[Trained], parts: Parts, metric: Metric) -> str:
    if metric == "tpr@0.01":
        n_nonmembers = parts.calibration_nonmembers.size + parts.evaluation_nonmembers.size
        if reason := too_few("0.01", n_nonmembers, MIN_RANK):
            return reason
    return next((reason for model in models if (reason := missing_reason(model.members, model.nonmembers))), "")
