"""Everything that needs a threshold: fitted on the calibration part, judged on the evaluation part.

The intervals come from a stratified bootstrap over both parts in which every threshold is derived again and all models
see the same records. At a fixed threshold McNemar calls two equally leaky models different in most runs, and
Clopper-Pearson covers the TPR at a nominal FPR in 34 to 78 % of them: both ignore that the threshold is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from kdaudit.metrics.bootstrap import (
    RESAMPLES,
    Gap,
    Rate,
    Spread,
    gap_spread,
    mean_gap_spread,
    mean_rate_spread,
    rate_spread,
    subtracted_from,
    to_difference,
    to_estimate,
)
from kdaudit.metrics.calibration import FALSE_POSITIVE_RATES, fit_thresholds, replicate_thresholds, too_few
from kdaudit.metrics.detection import Detections, Judged, Sight, cross_tabulate, look
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.parts import Parts
from kdaudit.metrics.proportions import clopper_pearson, mcnemar
from kdaudit.metrics.scores import Floats, finite, missing_reason

METHOD = "paired stratified bootstrap, threshold derived again"

_Scores: TypeAlias = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """What one attack achieves on one model."""

    tpr_at_fpr: Mapping[str, Estimate]
    """Keys "0.001", "0.01", "0.1"."""
    balanced_accuracy: Estimate
    member_success: Estimate
    """TPR at the threshold of best balanced accuracy."""
    nonmember_success: Estimate
    """TNR at the same threshold."""


@dataclass(frozen=True, slots=True)
class ModelDifferences:
    """One model minus the baseline, metric by metric."""

    tpr_at_fpr: Mapping[str, Difference]
    balanced_accuracy: Difference
    member_success: Difference
    nonmember_success: Difference


@dataclass(frozen=True, slots=True)
class ThresholdMetrics:
    """All models of one attack, judged together."""

    models: Mapping[str, ModelMetrics]
    differences: Mapping[str, ModelDifferences] = field(default_factory=dict)
    """By model, without the baseline; empty where none was named."""
    detections: Mapping[str, Mapping[str, Detections]] = field(default_factory=dict)
    """By model, then "members" and "nonmembers", at the thresholds of best balanced accuracy; a model is left out
    where it or the baseline could not be measured."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all figures of one call share."""

    n: int
    m: int
    level: float
    rng: np.random.Generator
    too_few: Mapping[str, str]
    """By false-positive rate: why it is not reported, or an empty string."""


def threshold_metrics(
    scores: Mapping[str, _Scores],
    parts: Parts,
    *,
    rng: np.random.Generator,
    baseline: str | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> ThresholdMetrics:
    """Judge all models of one attack at calibrated thresholds, jointly.

    A record counts as a member where its score is above the threshold. The balanced threshold is the calibration score
    with the best balanced accuracy, smoothed over a window so that it can be resampled (`metrics.smoothing`); of
    several the lowest, and the highest score of all where none beats chance. The conformal one at FPR f is the k-th
    largest calibration non-member, k = floor(f (n + 1)); its TPR is given only where k >= 3 and the evaluation
    non-members number at least 5 / f. Where fewer than ten records decide, no bound is inside the exact one (`Spread`).

    Args:
        scores: (members (n,), non-members (m,)) of each model, finite, records in the same order for all.
        parts: indices of the calibration and evaluation records.
        rng: draws the replicates.
        baseline: the model that the others are compared with.
        resamples: replicates.
        level: chance that an interval covers the true value, in (0, 1).

    Returns:
        Estimates and differences; `value` is None with a reason where scores do not vary or records are too few.

    Raises:
        ValueError: a score is NaN or infinite, the models' sizes differ, or the baseline is not among the models.
    """
    checked = _checked(scores, baseline)
    reasons = {name: _unmeasurable(pair, parts) for name, pair in checked.items()}
    n_calibration, m = parts.calibration_nonmembers.size, parts.evaluation_nonmembers.size
    allowed = {key: too_few(key, n_calibration, m) for key in FALSE_POSITIVE_RATES}
    frame = _Frame(parts.evaluation_members.size, m, level, rng, allowed)
    measured = {name: pair for name, pair in checked.items() if not reasons[name]}
    sights = _look_at_all(measured, parts, frame, resamples, baseline)
    models = {name: _model_metrics(sights.get(name), reasons[name], frame) for name in checked}
    if baseline is None:
        return ThresholdMetrics(models)
    others, reference = [name for name in checked if name != baseline], sights.get(baseline)
    return ThresholdMetrics(
        models,
        {
            name: _model_differences(sights.get(name), reference, reasons[name] or reasons[baseline], frame)
            for name in others
        },
        {
            name: {
                "members": cross_tabulate(reference.members, sights[name].members),
                "nonmembers": cross_tabulate(reference.nonmembers, sights[name].nonmembers),
            }
            for name in others
            if name in sights and reference is not None
        },
    )


def _checked(scores: Mapping[str, _Scores], baseline: str | None) -> dict[str, _Scores]:
    checked = {name: (finite(members), finite(nonmembers)) for name, (members, nonmembers) in scores.items()}
    if len({(members.size, nonmembers.size) for members, nonmembers in checked.values()}) > 1:
        raise ValueError("all models must be scored on the same records")
    if baseline is not None and baseline not in checked:
        raise ValueError(f"the baseline '{baseline}' is not among the models")
    return checked


def _unmeasurable(scores: _Scores, parts: Parts) -> str:
    if reason := missing_reason(*scores):
        return reason
    if min(parts.calibration_members.size, parts.calibration_nonmembers.size) == 0:
        return "no records of one class in the calibration part"
    if min(parts.evaluation_members.size, parts.evaluation_nonmembers.size) == 0:
        return "no records of one class in the evaluation part"
    return ""


def _look_at_all(
    scores: Mapping[str, _Scores], parts: Parts, frame: _Frame, resamples: int, baseline: str | None
) -> dict[str, Sight]:
    """Fit every model's thresholds, on the data and in the replicates, and see what it detects there."""
    keys = [key for key, reason in frame.too_few.items() if not reason]
    calibration = [
        (members[parts.calibration_members], nonmembers[parts.calibration_nonmembers])
        for members, nonmembers in scores.values()
    ]
    replicates = replicate_thresholds(calibration, keys, resamples=resamples, rng=frame.rng)
    thresholds = {
        name: (fit_thresholds(*pair, keys), replicated)
        for name, pair, replicated in zip(scores, calibration, replicates, strict=True)
    }
    sights: dict[str, Sight] = {}
    for name in sorted(scores, key=lambda name: name != baseline):  # the baseline first: the others stand beside it
        members, nonmembers = scores[name]
        sights[name] = look(
            members[parts.evaluation_members],
            nonmembers[parts.evaluation_nonmembers],
            *thresholds[name],
            beside=sights.get(baseline) if baseline is not None else None,
            rng=frame.rng,
        )
    return sights


def _model_metrics(sight: Sight | None, reason: str, frame: _Frame) -> ModelMetrics:
    if sight is None:
        missing = Estimate(None, n=frame.n, m=frame.m, level=frame.level, reason=reason)
        return ModelMetrics(dict.fromkeys(frame.too_few, missing), missing, missing, missing)
    found, alarmed = _rate(sight.members, frame), _rate(sight.nonmembers, frame)
    cleared = subtracted_from(1, alarmed)
    seen = Rate(sight.members.k, sight.members.n, sight.members.detected)
    unseen = Rate(sight.nonmembers.k, sight.nonmembers.n, sight.nonmembers.detected).complement
    balanced = to_estimate(mean_rate_spread(seen, unseen, frame.rng), frame.n, frame.m, frame.level, METHOD)
    low, high = clopper_pearson(sight.nonmembers.k, frame.m, frame.level)
    threshold = sight.members.threshold
    return ModelMetrics(
        {
            key: _tpr(sight.members_at_fpr[key], sight.nonmembers.scores, frame)
            if not why
            else Estimate(None, n=frame.n, m=frame.m, level=frame.level, reason=why)
            for key, why in frame.too_few.items()
        },
        replace(balanced, threshold=threshold),
        _at_threshold(found, sight.members, clopper_pearson(sight.members.k, frame.n, frame.level), frame),
        _at_threshold(cleared, sight.nonmembers, (1 - high, 1 - low), frame),
    )


def _tpr(judged: Judged, nonmembers: Floats, frame: _Frame) -> Estimate:
    false_positives = int(np.count_nonzero(nonmembers > judged.threshold))
    low, high = clopper_pearson(false_positives, frame.m, frame.level)
    exact = clopper_pearson(judged.k, frame.n, frame.level)
    return replace(
        _at_threshold(_rate(judged, frame), judged, exact, frame),
        realised_fpr=false_positives / frame.m,
        realised_fpr_low=low,
        realised_fpr_high=high,
    )


def _at_threshold(spread: Spread, judged: Judged, exact: tuple[float, float], frame: _Frame) -> Estimate:
    return replace(
        to_estimate(spread, frame.n, frame.m, frame.level, METHOD),
        threshold=judged.threshold,
        fixed_threshold_low=exact[0],
        fixed_threshold_high=exact[1],
    )


def _rate(judged: Judged, frame: _Frame) -> Spread:
    return rate_spread(judged.k, judged.n, judged.detected, frame.rng)


def _model_differences(sight: Sight | None, baseline: Sight | None, reason: str, frame: _Frame) -> ModelDifferences:
    if sight is None or baseline is None:
        missing = Difference(None, n=frame.n, m=frame.m, level=frame.level, reason=reason)
        return ModelDifferences(dict.fromkeys(frame.too_few, missing), missing, missing, missing)
    found = _gap(sight.members, baseline.members, frame)
    cleared = subtracted_from(0, _gap(sight.nonmembers, baseline.nonmembers, frame))
    return ModelDifferences(
        {
            key: _compared(
                _gap(sight.members_at_fpr[key], baseline.members_at_fpr[key], frame),
                sight.members_at_fpr[key],
                baseline.members_at_fpr[key],
                frame,
            )
            if not why
            else Difference(None, n=frame.n, m=frame.m, level=frame.level, reason=why)
            for key, why in frame.too_few.items()
        },
        to_difference(_balanced_gap(sight, baseline, frame), frame.n, frame.m, frame.level, METHOD),
        _compared(found, sight.members, baseline.members, frame),
        _compared(cleared, sight.nonmembers, baseline.nonmembers, frame),
    )


def _balanced_gap(sight: Sight, baseline: Sight, frame: _Frame) -> Spread:
    if _is_same(sight.members, baseline.members) and _is_same(sight.nonmembers, baseline.nonmembers):
        none = np.zeros(sight.members.detected.size)
        return Spread(0.0, none, none, none)
    members, nonmembers = (
        _as_gap(own, other)
        for own, other in ((sight.members, baseline.members), (sight.nonmembers, baseline.nonmembers))
    )
    return mean_gap_spread(members, nonmembers.complement, frame.rng)


def _as_gap(judged: Judged, baseline: Judged) -> Gap:
    table = cross_tabulate(baseline, judged)
    return Gap(table.other_only, table.baseline_only, judged.n, judged.detected - baseline.detected)


def _is_same(judged: Judged, baseline: Judged) -> bool:
    same_scores = np.array_equal(judged.scores, baseline.scores)
    return same_scores and np.array_equal(judged.replicated, baseline.replicated)


def _gap(judged: Judged, baseline: Judged, frame: _Frame) -> Spread:
    if _is_same(judged, baseline):
        none = np.zeros(judged.detected.size)  # the same scores cannot differ, whatever the sample
        return Spread(0.0, none, none, none)
    gap = _as_gap(judged, baseline)
    return gap_spread(gap.only_a, gap.only_b, gap.n, gap.resampled, frame.rng)


def _compared(spread: Spread, judged: Judged, baseline: Judged, frame: _Frame) -> Difference:
    table = cross_tabulate(baseline, judged)
    return replace(
        to_difference(spread, frame.n, frame.m, frame.level, METHOD),
        mcnemar_p_value=mcnemar(table.baseline_only, table.other_only),
    )
