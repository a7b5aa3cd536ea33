"""From scores to the figures of the results file, one attack at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kdaudit.attacks.settings import Setting
from kdaudit.audit.plan import ALONE, AttackPlan
from kdaudit.audit.scoring import Scores
from kdaudit.config import TEACHER
from kdaudit.metrics import METRICS, measure
from kdaudit.metrics.bootstrap import DECIMALS, NULL_LEVEL
from kdaudit.metrics.bounds import holm
from kdaudit.metrics.calibration import best_in_sample
from kdaudit.metrics.distributions import histogram, roc_curve
from kdaudit.metrics.estimate import Difference
from kdaudit.metrics.metric import Case
from kdaudit.metrics.scores import Floats, Parts
from kdaudit.metrics.thresholds import paired_detections
from kdaudit.metrics.validity import FOLDS, BlindBaseline, training_variance
from kdaudit.results import AttackResult, Cell, Comparison, Curve, Histogram, PaperCompat, TwoByTwo

BLIND, START = "blind", "start"
"""What saw neither set, and what an attack must therefore beat: a classifier without a model, and a model's start."""

MAX_MISSING = 0.01
"""Share of the records that a start may leave without a score; with more it cannot serve as a null."""

PAPER_LABEL = (
    "in-sample, as in arXiv:2505.11837: the threshold is fitted on the records that it judges, "
    "so these figures are too high and are never gated"
)


@dataclass(frozen=True, slots=True)
class Judging:
    """What all attacks of an audit are judged with."""

    n_members: int
    parts: Parts
    blind: BlindBaseline
    seed: int
    starts: Mapping[str, str] = field(default_factory=dict)
    """By audited model: the fingerprint of what it started from, where that was given."""

    @property
    def blind_scores(self) -> Floats | None:
        """(n,), of the stronger blind classifier; None where it could not be measured."""
        if self.blind.auc.value is None:
            return None
        return np.concatenate([self.blind.scores_members, self.blind.scores_nonmembers])

    def classes(self, values: Floats, is_kept: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """The kept scores of members and of non-members."""
        split = self.n_members
        return values[:split][is_kept[:split]], values[split:][is_kept[split:]]


MAX_THREADS = min(os.cpu_count() or 1, 4)
"""Attacks that are assessed at one time: each holds some arrays of the size of the records."""

MIN_THREADED = 50_000
"""Records from which on threads pay: numpy then works on arrays for most of the time, without the interpreter."""


def assess_attacks(plans: Sequence[AttackPlan], scores: Scores, judging: Judging) -> Iterator[AttackResult]:
    """The figures of every attack, in order; each has its own random numbers, so threads move none of them."""
    n_records = judging.blind.scores_members.size + judging.blind.scores_nonmembers.size
    if n_records < MIN_THREADED:
        yield from (assess_attack(one, scores, judging) for one in plans)
        return
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        try:
            yield from pool.map(lambda one: assess_attack(one, scores, judging), plans)
        finally:
            pool.shutdown(cancel_futures=True)


def assess_attack(plan: AttackPlan, scores: Scores, judging: Judging) -> AttackResult:
    """All figures of one attack.

    A record that one of the models or their starts cannot score is left out for all of them, so that every comparison
    is paired, and is counted in `unscored`.
    """
    by_model = scores.by_attack[plan.attack.name]
    cells = {name: Cell("not_applicable", reason) for name, reason in plan.obstacles.items() if reason}
    nulls = _nulls(plan, scores, judging, list(by_model))
    is_scored = np.isfinite(np.array([*by_model.values(), *nulls.scores.values()])).all(axis=0)
    pairs = {name: judging.classes(values, is_scored) for name, values in by_model.items()}
    null_pairs = {name: judging.classes(values, is_scored) for name, values in nulls.scores.items()}
    baseline = TEACHER if TEACHER in pairs else None
    students = [name for name in plan.obstacles if name != TEACHER] if TEACHER in plan.obstacles else []
    comparison = {name: _not_compared(plan, name) for name in students}
    result = AttackResult(
        version=plan.attack.version, requested=plan.is_requested, cells={}, comparison={}, curves={}, histograms={},
        two_by_two={}, settings={name: _as_in_file(value) for name, value in plan.attack.settings.items()},
    )  # fmt: skip
    if not pairs:
        return replace(result, cells=cells, comparison=comparison)
    parts = kept_parts(judging, is_scored)
    found = measure(
        Case(
            scores=pairs,
            parts=parts,
            seed=judging.seed,
            name=f"attack {plan.attack.name}",
            baseline=baseline,
            nulls=null_pairs,
            held_against={name: tuple(kinds.values()) for name, kinds in nulls.of_model.items()},
            training_variance={BLIND: training_variance(FOLDS)},
        )
    )
    n_unscored = int((~is_scored).sum())
    for name in pairs:
        beyond = {kind: found.beyond_nulls[name][null] for kind, null in nulls.of_model[name].items()}
        cells[name] = Cell(
            "ok", figures=found.models[name], unscored=n_unscored, nulls={**beyond, **nulls.missing[name]}
        )
        if scores.with_paper:
            paper = scores.paper.get(plan.attack.name, by_model)
            cells[name] = replace(cells[name], paper_compat=_paper(judging.classes(paper[name], is_scored)))
    drawable = {name: pair for name, pair in pairs.items() if min(pair[0].size, pair[1].size) > 0}
    return replace(
        result,
        cells={name: cells[name] for name in plan.obstacles},
        comparison={
            **comparison,
            **{name: Comparison("ok", figures=differences) for name, differences in found.differences.items()},
        },
        curves={
            name: Curve(*(tuple(axis.round(DECIMALS).tolist()) for axis in roc_curve(*pair)))
            for name, pair in drawable.items()
        },
        histograms={name: _histogram(*pair) for name, pair in drawable.items()},
        two_by_two={
            name: {
                kind: TwoByTwo(one.both, one.baseline_only, one.other_only, one.neither)
                for kind, one in by_class.items()
            }
            for name, by_class in (paired_detections(pairs, parts, baseline=baseline) if baseline else {}).items()
        },
    )


def _as_in_file(value: Setting) -> float | list[int]:
    return list(value) if isinstance(value, tuple) else value


def adjust_for_many(results: Mapping[str, AttackResult]) -> dict[str, AttackResult]:
    """Holm-adjusted p-values of every comparison; the family of a metric is attacks x students."""
    found = [
        (attack, student, metric, difference)
        for attack, result in results.items()
        for student, comparison in result.comparison.items()
        for metric, difference in comparison.figures.items()
    ]
    adjusted: dict[tuple[str, str, str], float | None] = {}
    for wanted in dict.fromkeys(metric for _, _, metric, _ in found):
        family = [(attack, student, d.p_value) for attack, student, metric, d in found if metric == wanted]
        for (attack, student, _), value in zip(family, holm([p for _, _, p in family]), strict=True):
            adjusted[attack, student, wanted] = value
    return {
        attack: replace(
            result,
            comparison={
                student: replace(
                    comparison,
                    figures={
                        metric: replace(difference, p_value_holm=adjusted[attack, student, metric])
                        for metric, difference in comparison.figures.items()
                    },
                )
                for student, comparison in result.comparison.items()
            },
        )
        for attack, result in results.items()
    }


@dataclass(frozen=True, slots=True)
class _Nulls:
    """What the models of one attack are held against."""

    scores: Mapping[str, Floats]
    """(n,) each, of the blind classifier and of every start."""
    of_model: Mapping[str, Mapping[str, str]]
    """By model and kind: a name in `scores`."""
    missing: Mapping[str, Mapping[str, Mapping[str, Difference]]]
    """By model and kind, where there are no scores to hold it against: figures without a value that say why."""


def _nulls(plan: AttackPlan, scores: Scores, judging: Judging, models: Sequence[str]) -> _Nulls:
    """A start is attacked in the same way where the attack needs its plain pass alone, else by `loss`."""
    attack = plan.attack.name if plan.attack.name in ALONE else "loss"
    found: dict[str, Floats] = {}
    of_model: dict[str, dict[str, str]] = {name: {} for name in models}
    missing: dict[str, dict[str, Mapping[str, Difference]]] = {name: {} for name in models}
    for name in models:
        start = judging.starts.get(name)
        if start is not None:
            values = scores.of_starts[start][attack]
            is_missing = np.isfinite(scores.by_attack[plan.attack.name][name]) & ~np.isfinite(values)
            if is_missing.mean() > MAX_MISSING:
                missing[name][START] = _no_figures(f"{is_missing.sum()} records have a score, but none of the start")
            else:
                found[start], of_model[name][START] = values, start
        if judging.blind_scores is None:
            missing[name][BLIND] = _no_figures(judging.blind.auc.reason)
        else:
            found[BLIND], of_model[name][BLIND] = judging.blind_scores, BLIND
    return _Nulls(found, of_model, missing)


def _no_figures(reason: str) -> dict[str, Difference]:
    metrics = [name for name, metric in METRICS.items() if not metric.not_gated]
    return dict.fromkeys(metrics, Difference(None, level=NULL_LEVEL, reason=reason))


def _not_compared(plan: AttackPlan, student: str) -> Comparison:
    reason = "; ".join(f"{name}: {plan.obstacles[name]}" for name in ("teacher", student) if plan.obstacles.get(name))
    return Comparison("not_applicable", reason)


def kept_parts(judging: Judging, is_scored: NDArray[np.bool_]) -> Parts:
    """The parts as indices into the scored records of each class.

    Args:
        judging: holds the parts of all records.
        is_scored: (n,), members before non-members.
    """
    split = judging.n_members
    kept = {"members": is_scored[:split], "nonmembers": is_scored[split:]}
    new_index = {kind: np.cumsum(is_kept) - 1 for kind, is_kept in kept.items()}

    def renumbered(part: NDArray[np.intp], kind: str) -> NDArray[np.intp]:
        return new_index[kind][part[kept[kind][part]]].astype(np.intp)

    parts = judging.parts
    return Parts(
        renumbered(parts.calibration_members, "members"),
        renumbered(parts.calibration_nonmembers, "nonmembers"),
        renumbered(parts.evaluation_members, "members"),
        renumbered(parts.evaluation_nonmembers, "nonmembers"),
    )


def _paper(classes: tuple[Floats, Floats]) -> PaperCompat | None:
    members, nonmembers = (values[np.isfinite(values)] for values in classes)
    return PaperCompat(PAPER_LABEL, *best_in_sample(members, nonmembers)) if members.size and nonmembers.size else None


def _histogram(members: Floats, nonmembers: Floats) -> Histogram:
    edges, of_members, of_nonmembers = histogram(members, nonmembers)
    return Histogram(tuple(map(float, edges)), tuple(map(int, of_members)), tuple(map(int, of_nonmembers)))
