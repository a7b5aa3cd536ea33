"""Everything that needs a threshold: TPR at a false positive rate, and success at the best balanced accuracy.

A TPR at a false positive rate comes from all records, with exact bounds (`metrics.tpr`). The balanced threshold
is fitted on the calibration part and judged on the evaluation part; the intervals come from a stratified bootstrap over
both parts in which it is derived again. Differences of either are such bootstraps too, in which all models see the same
records. At a fixed threshold McNemar calls two equally leaky models different in most runs, and Clopper-Pearson covers
the TPR at a nominal FPR in 34 to 78 % of them: both ignore that the threshold is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kdaudit.metrics.bootstrap import (
    NULL_LEVEL,
    RESAMPLES,
    Detections,
    Gap,
    Judged,
    Rate,
    Sight,
    Spread,
    cross_tabulate,
    gap_spread,
    mean_gap_spread,
    mean_rate_spread,
    rate_spread,
    resampled_detections,
    resampled_gaps,
    subtracted_from,
    to_difference,
    to_estimate,
    to_null_difference,
)
from kdaudit.metrics.bounds import clopper_pearson, mcnemar
from kdaudit.metrics.calibration import (
    FALSE_POSITIVE_RATES,
    MIN_RANK,
    balanced_threshold,
    conformal_rank,
    replicate_balanced,
    replicate_conformal,
    too_few,
)
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.metric import Case, Family, Figures, Metric, Pair, Ranked
from kdaudit.metrics.scores import Floats, Parts, finite, missing_reason
from kdaudit.metrics.tpr import conformal_threshold, tpr_estimate

BALANCED, MEMBERS, NONMEMBERS = "balanced_accuracy", "member_success", "nonmember_success"
METHOD = "paired stratified bootstrap, threshold derived again"
NOT_REPLICATED: Floats = np.zeros(0)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all figures of one call share."""

    n: int
    """Members in the evaluation part."""
    m: int
    """Non-members there."""
    level: float
    rng: np.random.Generator


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one model detects, and why some of it could not be measured."""

    balanced: Sight | None
    no_balanced: str
    """Why it has no balanced threshold, or an empty string."""
    at_fpr: Mapping[str, Judged]
    """All members at the conformal threshold of each false-positive rate that allows a difference."""
    no_rates: Mapping[str, str]
    """By false-positive rate: why it allows none, or an empty string."""


def threshold_metrics(
    scores: Mapping[str, Pair],
    parts: Parts,
    *,
    rng: np.random.Generator,
    baseline: str | None = None,
    nulls: Mapping[str, Pair] | None = None,
    held_against: Mapping[str, Sequence[str]] | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Figures:
    """Judge all models of one attack, jointly.

    A record counts as a member where its score is above the threshold. The balanced threshold is the calibration score
    with the best balanced accuracy, smoothed over a window so that it can be resampled (`metrics.calibration`); of
    several the lowest, and the highest score of all where none beats chance. The conformal one at FPR f is the k-th
    largest of all m non-members, k = floor(f (m + 1)); a TPR needs k >= 1, a difference of two, which resamples the
    threshold, k >= 3. Where fewer than ten records decide, no resampled bound is inside the exact one (`Spread`).

    Args:
        scores: (members (n,), non-members (m,)) of each model, finite, records in the same order for all.
        parts: indices of the calibration and evaluation records.
        rng: draws the replicates.
        baseline: the model that the others are compared with.
        nulls: scores of the same records by what saw neither set; these get no figures of their own.
        held_against: by model the nulls that it is compared with.
        resamples: replicates.
        level: chance that an interval covers the true value, in (0, 1).

    Returns:
        By the names of the metrics; `value` is None with a reason where scores do not vary or records are too few.

    Raises:
        ValueError: a score is NaN or infinite, the models' sizes differ, or a model or null is named that is not there.
    """
    nulls, held_against = nulls or {}, held_against or {}
    named = [*held_against, *([] if baseline is None else [baseline])]
    if missing := {*named} - {*scores}:
        raise ValueError(f"the baseline '{min(missing)}' is not among the models")
    if missing := {null for names in held_against.values() for null in names} - {*nulls}:
        raise ValueError(f"'{min(missing)}' is not among the nulls")
    checked = _checked({**scores, **nulls})
    frame = _Frame(parts.evaluation_members.size, parts.evaluation_nonmembers.size, level, rng)
    seen = _look_at_all(checked, parts, rng, resamples, is_compared=bool(named))
    models = {name: _model_metrics(checked[name], seen[name], frame) for name in scores}
    others = [] if baseline is None else [(name, seen[name], seen[baseline]) for name in scores if name != baseline]
    return Figures(
        models,
        {name: _model_differences(own, other, checked[name], frame) for name, own, other in others},
        {
            name: {null: _beyond_null(seen[name], seen[null], checked[name], frame) for null in of_model}
            for name, of_model in held_against.items()
        },
    )


def paired_detections(scores: Mapping[str, Pair], parts: Parts, *, baseline: str) -> dict[str, dict[str, Detections]]:
    """Who detects which evaluation records, each model at its own threshold of best balanced accuracy.

    Args:
        scores: (members (n,), non-members (m,)) of each model, finite, records in the same order for all.
        parts: indices of the calibration and evaluation records.
        baseline: the model that the others are compared with.

    Returns:
        By model without the baseline, then "members" and "nonmembers"; a model is left out where it or the baseline
        could not be measured.
    """
    sights = {name: _sight(pair, parts) for name, pair in scores.items() if not _no_balanced(pair, parts)}
    base = sights.pop(baseline, None)
    if base is None:
        return {}
    return {
        name: {
            "members": cross_tabulate(base.members, own.members),
            "nonmembers": cross_tabulate(base.nonmembers, own.nonmembers),
        }
        for name, own in sights.items()
    }


def _checked(scores: Mapping[str, Pair]) -> dict[str, Pair]:
    checked = {name: (finite(members), finite(nonmembers)) for name, (members, nonmembers) in scores.items()}
    if len({(members.size, nonmembers.size) for members, nonmembers in checked.values()}) > 1:
        raise ValueError("all models must be scored on the same records")
    return checked


def _no_balanced(scores: Pair, parts: Parts) -> str:
    if reason := missing_reason(*scores):
        return reason
    if min(parts.calibration_members.size, parts.calibration_nonmembers.size) == 0:
        return "no records of one class in the calibration part"
    if min(parts.evaluation_members.size, parts.evaluation_nonmembers.size) == 0:
        return "no records of one class in the evaluation part"
    return ""


def _look_at_all(
    scores: Mapping[str, Pair], parts: Parts, rng: np.random.Generator, resamples: int, *, is_compared: bool
) -> dict[str, _Seen]:
    """Fit every model's thresholds, on the data and in the replicates."""
    no_balanced = {name: _no_balanced(pair, parts) for name, pair in scores.items()}
    fitted = _balanced_sights({name: scores[name] for name in scores if not no_balanced[name]}, parts, rng, resamples)
    no_scores = {name: missing_reason(*pair) for name, pair in scores.items()}
    varied = {name: pair for name, pair in scores.items() if not no_scores[name]}
    m = next((nonmembers.size for _, nonmembers in varied.values()), 0)
    few = {key: too_few(key, m, MIN_RANK) for key in FALSE_POSITIVE_RATES}
    keys = [key for key, reason in few.items() if not reason and is_compared]
    conformal = replicate_conformal([each for _, each in varied.values()], keys, resamples=resamples, rng=rng)
    at_fpr = {
        name: {key: Judged(members, conformal_threshold(nonmembers, key), found[key]) for key in keys}
        for (name, (members, nonmembers)), found in zip(varied.items(), conformal, strict=True)
    }
    return {
        name: _Seen(
            fitted.get(name),
            no_balanced[name],
            at_fpr.get(name, {}),
            {key: no_scores[name] or reason for key, reason in few.items()},
        )
        for name in scores
    }


def _balanced_sights(
    scores: Mapping[str, Pair], parts: Parts, rng: np.random.Generator, resamples: int
) -> dict[str, Sight]:
    calibration = [
        (members[parts.calibration_members], nonmembers[parts.calibration_nonmembers])
        for members, nonmembers in scores.values()
    ]
    replicates = replicate_balanced(calibration, resamples=resamples, rng=rng)
    return {
        name: _sight(pair, parts, replicated)
        for (name, pair), replicated in zip(scores.items(), replicates, strict=True)
    }


def _sight(scores: Pair, parts: Parts, replicated: Floats = NOT_REPLICATED) -> Sight:
    members, nonmembers = scores
    threshold = balanced_threshold(members[parts.calibration_members], nonmembers[parts.calibration_nonmembers])
    return Sight(
        Judged(members[parts.evaluation_members], threshold, replicated),
        Judged(nonmembers[parts.evaluation_nonmembers], threshold, replicated),
    )


def _model_metrics(scores: Pair, seen: _Seen, frame: _Frame) -> dict[str, Estimate]:
    rates = {f"tpr@{key}": tpr_estimate(*scores, key, level=frame.level) for key in FALSE_POSITIVE_RATES}
    sight = seen.balanced
    if sight is None:
        missing = Estimate(None, n=frame.n, m=frame.m, level=frame.level, reason=seen.no_balanced)
        return {**rates, BALANCED: missing, MEMBERS: missing, NONMEMBERS: missing}
    found, alarmed = (
        Rate(judged.k, judged.n, resampled_detections(judged, frame.rng))
        for judged in (sight.members, sight.nonmembers)
    )
    balanced = mean_rate_spread(found, alarmed.complement, frame.rng)
    cleared = subtracted_from(1, rate_spread(alarmed.k, alarmed.n, alarmed.resampled, frame.rng))
    low, high = clopper_pearson(alarmed.k, frame.m, frame.level)
    threshold = sight.members.threshold
    return {
        **rates,
        BALANCED: replace(to_estimate(balanced, frame.n, frame.m, frame.level, METHOD), threshold=threshold),
        MEMBERS: _at_threshold(
            rate_spread(found.k, found.n, found.resampled, frame.rng),
            threshold,
            clopper_pearson(found.k, frame.n, frame.level),
            frame,
        ),
        NONMEMBERS: _at_threshold(cleared, threshold, (1 - high, 1 - low), frame),
    }


def _at_threshold(spread: Spread, threshold: float, exact: tuple[float, float], frame: _Frame) -> Estimate:
    return replace(
        to_estimate(spread, frame.n, frame.m, frame.level, METHOD),
        threshold=threshold,
        fixed_threshold_low=exact[0],
        fixed_threshold_high=exact[1],
    )


def _model_differences(own: _Seen, other: _Seen, scores: Pair, frame: _Frame) -> dict[str, Difference]:
    sizes = scores[0].size, scores[1].size
    rates = {}
    for key in FALSE_POSITIVE_RATES:
        reason = own.no_rates[key] or other.no_rates[key]
        rates[f"tpr@{key}"] = (
            Difference(None, n=sizes[0], m=sizes[1], level=frame.level, reason=reason)
            if reason
            else _compared(own.at_fpr[key], other.at_fpr[key], sizes, frame)
        )
    if own.balanced is None or other.balanced is None:
        reason = own.no_balanced or other.no_balanced
        missing = Difference(None, n=frame.n, m=frame.m, level=frame.level, reason=reason)
        return {**rates, BALANCED: missing, MEMBERS: missing, NONMEMBERS: missing}
    sight, base, sizes = own.balanced, other.balanced, (frame.n, frame.m)
    return {
        **rates,
        BALANCED: to_difference(_balanced_spread(sight, base, frame), *sizes, frame.level, METHOD),
        MEMBERS: _compared(sight.members, base.members, sizes, frame),
        NONMEMBERS: _compared(sight.nonmembers, base.nonmembers, sizes, frame, is_cleared=True),
    }


def _beyond_null(own: _Seen, null: _Seen, scores: Pair, frame: _Frame) -> dict[str, Difference]:
    n, m = scores[0].size, scores[1].size
    found = {}
    for key in FALSE_POSITIVE_RATES:
        reason = own.no_rates[key] or null.no_rates[key]
        found[f"tpr@{key}"] = (
            Difference(None, n=n, m=m, level=NULL_LEVEL, reason=reason)
            if reason
            else to_null_difference(_gap(own.at_fpr[key], null.at_fpr[key], frame), n, m, METHOD)
        )
    found[BALANCED] = (
        Difference(None, n=frame.n, m=frame.m, level=NULL_LEVEL, reason=own.no_balanced or null.no_balanced)
        if own.balanced is None or null.balanced is None
        else to_null_difference(_balanced_spread(own.balanced, null.balanced, frame), frame.n, frame.m, METHOD)
    )
    return found


def _balanced_spread(own: Sight, other: Sight, frame: _Frame) -> Spread:
    if own.members.is_same(other.members) and own.nonmembers.is_same(other.nonmembers):
        return _no_gap(own.members)
    members, nonmembers = (
        _as_gap(judged, beside, frame)
        for judged, beside in ((own.members, other.members), (own.nonmembers, other.nonmembers))
    )
    return mean_gap_spread(members, nonmembers.complement, frame.rng)


def _as_gap(judged: Judged, other: Judged, frame: _Frame) -> Gap:
    table = cross_tabulate(other, judged)
    return Gap(table.other_only, table.baseline_only, judged.n, resampled_gaps(judged, other, frame.rng))


def _gap(judged: Judged, other: Judged, frame: _Frame) -> Spread:
    if judged.is_same(other):
        return _no_gap(judged)
    gap = _as_gap(judged, other, frame)
    return gap_spread(gap.only_a, gap.only_b, gap.n, gap.resampled, frame.rng)


def _no_gap(judged: Judged) -> Spread:
    none = np.zeros(judged.replicated.size)  # the same scores cannot differ, whatever the sample
    return Spread(0.0, none, none, none)


def _compared(
    judged: Judged, baseline: Judged, sizes: tuple[int, int], frame: _Frame, *, is_cleared: bool = False
) -> Difference:
    """The difference of detections, or of records that are cleared, which are the fewer the more are detected."""
    spread, table = _gap(judged, baseline, frame), cross_tabulate(baseline, judged)
    return replace(
        to_difference(subtracted_from(0, spread) if is_cleared else spread, *sizes, frame.level, METHOD),
        mcnemar_p_value=mcnemar(table.baseline_only, table.other_only),
    )


def measure(case: Case) -> Figures:
    """Every metric of this module, of all models of one attack."""
    return threshold_metrics(
        case.scores,
        case.parts,
        rng=case.rng(),
        baseline=case.baseline,
        nulls=case.nulls,
        held_against=case.held_against,
    )


def found_at_one_percent(members: Floats, nonmembers: Ranked, drawn: Floats) -> Floats:
    """1 where a member lies above the drawn non-members' (m, b) conformal threshold at 1 % FPR, else 0: (n, b)."""
    reached = np.cumsum(drawn[nonmembers.order[::-1]], axis=0)
    place = (reached >= conformal_rank("0.01", nonmembers.ranked.size)).argmax(axis=0)
    return np.asarray(members[:, None] > nonmembers.ranked[::-1][place], dtype=np.float64)


REALISED = (
    "The rate is taken over all records, with exact bounds. The threshold is the lowest non-member's score that "
    "a further non-member exceeds with at most this chance; the realised rate is the share of these non-members that "
    "lies above it."
)


def _tpr(key: str, words: str) -> Metric:
    return Metric(
        f"tpr@{key}",
        f"true positive rate at {words} false positive rate",
        f"TPR at {words} FPR",
        chance=float(key),
        place=("tpr_at_fpr", key),
        beats_start_alone=True,
        least_nonmembers=FALSE_POSITIVE_RATES[key] - 1,
        group="tpr",
        note=REALISED,
        is_headline=key != "0.001",  # few audits have the records for it
        per_member=found_at_one_percent if key == "0.01" else None,
    )


SHIFTED = (
    "Both stand at one threshold of the model. A rise of one with an equal fall of the other is a shifted threshold, "
    "not a leak."
)
BY_ITSELF = "gate balanced_accuracy: one success alone rises with a mere shift of the threshold"

FAMILY = Family(
    (
        *(_tpr(key, f"{100 / per_one:g} %") for key, per_one in FALSE_POSITIVE_RATES.items()),
        Metric(
            BALANCED,
            "balanced accuracy",
            "balanced accuracy",
            chance=0.5,
            is_headline=False,
            note="Half of member and non-member success at the threshold of the calibration part; 0.5 is guessing.",
        ),
        Metric(
            MEMBERS,
            "member success at the calibrated threshold",
            "member success",
            not_gated=BY_ITSELF,
            note=SHIFTED,
            beside=NONMEMBERS,
        ),
        Metric(
            NONMEMBERS,
            "non-member success at the calibrated threshold",
            "non-member success",
            not_gated=BY_ITSELF,
            note=SHIFTED,
            beside=MEMBERS,
        ),
    ),
    measure,
)
