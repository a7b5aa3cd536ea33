"""From scores to the figures of the results file, one attack at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kdaudit.audit.plan import AttackPlan
from kdaudit.audit.scoring import ALONE, Floats, Scores
from kdaudit.draws import generator
from kdaudit.metrics.bootstrap import NULL_LEVEL
from kdaudit.metrics.calibration import FALSE_POSITIVE_RATES
from kdaudit.metrics.distributions import histogram, roc_curve
from kdaudit.metrics.estimate import Difference
from kdaudit.metrics.in_sample import best_in_sample
from kdaudit.metrics.parts import Parts
from kdaudit.metrics.proportions import holm
from kdaudit.metrics.roc import auc_difference, auc_estimate
from kdaudit.metrics.thresholds import ThresholdMetrics, threshold_metrics
from kdaudit.metrics.validity import BlindBaseline, beyond_blind
from kdaudit.results import AttackResult, Cell, Comparison, Curve, Histogram, PaperCompat, TwoByTwo

BLIND, START = "blind", "start"
"""What saw neither set, and what an attack must therefore beat: a classifier without a model, and a model's start."""

MAX_MISSING = 0.01
"""Share of the records that a start may leave without a score; with more it is no null."""

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
    rng = generator(judging.seed, f"attack {plan.attack.name}")
    baseline = "teacher" if "teacher" in pairs else None
    measured = (
        threshold_metrics(
            pairs,
            kept_parts(judging, is_scored),
            rng=rng,
            baseline=baseline,
            nulls=null_pairs,
            held_against={name: tuple(found.values()) for name, found in nulls.of_model.items()},
        )
        if pairs
        else None
    )
    result = AttackResult(
        version=plan.attack.version, requested=plan.is_requested, cells={}, comparison={}, curves={}, histograms={},
        two_by_two={},
    )  # fmt: skip
    if measured is None:
        comparison = {name: _not_compared(plan, name) for name in plan.obstacles if name != "teacher"}
        return replace(result, cells=cells, comparison=comparison)
    for name, (members, nonmembers) in pairs.items():
        beyond = {
            kind: {
                "auc": _auc_beyond((members, nonmembers), null_pairs[null], kind),
                **measured.beyond_nulls[name][null],
            }
            for kind, null in nulls.of_model[name].items()
        }
        cell = _cell(measured, name, members, nonmembers, int((~is_scored).sum()))
        cells[name] = replace(cell, nulls={**beyond, **nulls.missing[name]})
        if scores.with_paper:
            paper = scores.paper.get(plan.attack.name, by_model)
            cells[name] = replace(cells[name], paper_compat=_paper(judging.classes(paper[name], is_scored)))
    students = [name for name in plan.obstacles if name != "teacher"]
    drawable = {name: pair for name, pair in pairs.items() if min(pair[0].size, pair[1].size) > 0}
    return replace(
        result,
        cells={name: cells[name] for name in plan.obstacles},
        comparison={
            name: _comparison(measured, name, pairs) if baseline and name in pairs else _not_compared(plan, name)
            for name in students
        },
        curves={
            name: Curve(*(tuple(map(float, axis)) for axis in roc_curve(*pair))) for name, pair in drawable.items()
        },
        histograms={name: _histogram(*pair) for name, pair in drawable.items()},
        two_by_two={
            name: {
                kind: TwoByTwo(found.both, found.baseline_only, found.other_only, found.neither)
                for kind, found in by_class.items()
            }
            for name, by_class in measured.detections.items()
        },
    )


def adjust_for_many(results: Mapping[str, AttackResult]) -> dict[str, AttackResult]:
    """Holm-adjusted p-values of every comparison; the family of a metric is attacks x students."""
    found = [
        (attack, student, metric, difference)
        for attack, result in results.items()
        for student, comparison in result.comparison.items()
        for metric, difference in _differences(comparison).items()
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
                student: _with_holm(comparison, {m: adjusted[attack, student, m] for m in _differences(comparison)})
                for student, comparison in result.comparison.items()
            },
        )
        for attack, result in results.items()
    }


def _cell(
    measured: ThresholdMetrics,
    name: str,
    members: Floats,
    nonmembers: Floats,
    n_unscored: int,
) -> Cell:
    figures = measured.models[name]
    return Cell(
        status="ok",
        auc=auc_estimate(members, nonmembers),
        tpr_at_fpr=figures.tpr_at_fpr,
        balanced_accuracy=figures.balanced_accuracy,
        member_success=figures.member_success,
        nonmember_success=figures.nonmember_success,
        unscored=n_unscored,
    )


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
    metrics = ("auc", *(f"tpr@{rate}" for rate in FALSE_POSITIVE_RATES), "balanced_accuracy")
    return dict.fromkeys(metrics, Difference(None, level=NULL_LEVEL, reason=reason))


def _auc_beyond(own: tuple[Floats, Floats], null: tuple[Floats, Floats], kind: str) -> Difference:
    """The blind classifier was trained on the records that it judges, so its AUC is less sure than a start's."""
    found = beyond_blind if kind == BLIND else auc_difference
    return replace(found(*own, *null, level=NULL_LEVEL), quantiles=None)


def _comparison(measured: ThresholdMetrics, name: str, pairs: Mapping[str, tuple[Floats, Floats]]) -> Comparison:
    figures = measured.differences[name]
    return Comparison(
        status="ok",
        auc=auc_difference(*pairs[name], *pairs["teacher"]),
        tpr_at_fpr=figures.tpr_at_fpr,
        balanced_accuracy=figures.balanced_accuracy,
        member_success=figures.member_success,
        nonmember_success=figures.nonmember_success,
    )


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


def _differences(comparison: Comparison) -> dict[str, Difference]:
    named = {
        "auc": comparison.auc,
        "balanced_accuracy": comparison.balanced_accuracy,
        "member_success": comparison.member_success,
        "nonmember_success": comparison.nonmember_success,
        **{f"tpr@{rate}": difference for rate, difference in comparison.tpr_at_fpr.items()},
    }
    return {name: difference for name, difference in named.items() if difference is not None}


def _with_holm(comparison: Comparison, adjusted: Mapping[str, float | None]) -> Comparison:
    def corrected(name: str, difference: Difference | None) -> Difference | None:
        return replace(difference, p_value_holm=adjusted[name]) if difference else None

    return replace(
        comparison,
        auc=corrected("auc", comparison.auc),
        balanced_accuracy=corrected("balanced_accuracy", comparison.balanced_accuracy),
        member_success=corrected("member_success", comparison.member_success),
        nonmember_success=corrected("nonmember_success", comparison.nonmember_success),
        tpr_at_fpr={
            rate: replace(difference, p_value_holm=adjusted[f"tpr@{rate}"])
            for rate, difference in comparison.tpr_at_fpr.items()
        },
    )
