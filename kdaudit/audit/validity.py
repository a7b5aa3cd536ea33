"""Whether members and non-members can be compared at all: by their texts alone, and by models that saw neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdaudit.audit.data import AuditData
from kdaudit.audit.plan import Plan
from kdaudit.audit.scoring import Scores
from kdaudit.config import name_models
from kdaudit.metrics.auc import auc_estimate
from kdaudit.metrics.estimate import Estimate, lower_bound, upper_bound
from kdaudit.metrics.texts import FormatDifference, Overlap, format_differences
from kdaudit.metrics.validity import BlindBaseline
from kdaudit.records import texts_of
from kdaudit.results import Validity

BLIND_LIMIT = 0.55
"""A blind classifier whose lower bound lies above this makes the audit invalid."""
START_MARGIN = 0.02
"""A start that saw neither set separates them where the interval of an AUC lies further from 0.5 than this."""
ALPHA = 0.05
"""The error of each of the two families of bounds: the blind classifiers, and the attacks on all starts."""
NULL_ATTACKS = ("loss", "zlib", "min-k", "min-k++")
"""What a start is attacked by: nothing of it is trained, fitted or compared, so each AUC ought to be 0.5."""


def describe_validity(blind: BlindBaseline, shared: Overlap, data: AuditData, plan: Plan, scores: Scores) -> Validity:
    """Hold the sets against each other, and say what a reader must know.

    Args:
        blind: the classifiers that see texts alone.
        shared: passages that non-members share with members.
        data: the records.
        plan: which model has which start.
        scores: holds what each attack finds in the starts.
    """
    n_members = len(data.members)
    texts = texts_of(data.records)
    alone = reference_alone(plan, scores, n_members)
    formats = tuple(_in_words(each) for each in format_differences(texts[:n_members], texts[n_members:]))
    reasons = (*blind_reasons(blind), *start_reasons(_distinct_starts(plan, alone)))
    duplicates = {found.option.lstrip("-"): found.n_duplicates for found in data.sets}
    return Validity(
        status="failed" if reasons else "ok",
        blind_auc=blind.auc,
        blind_name=blind.name,
        blind=blind.by_name,
        duplicates=duplicates,
        overlap=shared,
        warnings=(
            *plan.warnings,
            *(f"{reason}: no attack's figure says anything about membership" for reason in reasons),
            *_blind_warnings(blind),
            *formats,
            *_overlap_warnings(shared),
            *_duplicate_warnings(duplicates),
        ),
        reference_alone=alone,
        reasons=reasons,
        formats=formats,
        blind_learnt_from=blind.n_learnt,
    )


def reference_alone(plan: Plan, scores: Scores, n_members: int) -> dict[str, dict[str, Estimate]]:
    """By audited model with a start, then by attack: the AUC of the start attacked alone, without a trained model."""
    found = {}
    for subject in plan.subjects:
        of_start = scores.of_starts.get(subject.reference.fingerprint) if subject.reference else None
        if of_start is not None:
            found[subject.name] = {name: _auc(of_start[name], n_members) for name in NULL_ATTACKS}
    return found


def _auc(scores: np.ndarray[Any, np.dtype[np.float64]], n_members: int) -> Estimate:
    members, nonmembers = (part[np.isfinite(part)] for part in (scores[:n_members], scores[n_members:]))
    return auc_estimate(members, nonmembers)


def blind_reasons(blind: BlindBaseline) -> list[str]:
    """Every classifier is held against the limit; of those surely above it the surest is named."""
    name, bound = _surest(blind)
    if bound <= BLIND_LIMIT:
        return []
    value = blind.by_name[name].value
    return [f"members and non-members differ without any model ({name}: blind AUC {value:.3f}, at least {bound:.3f})"]


def _surest(blind: BlindBaseline) -> tuple[str, float]:
    """The classifier with the highest lower bound, and that; Bonferroni's correction is over the classifiers."""
    level = 1 - ALPHA / len(blind.by_name)
    bounds = {name: lower_bound(found, level) or 0.0 for name, found in blind.by_name.items()}
    return max(bounds.items(), key=lambda item: item[1])


def start_reasons(starts: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """One reason for each start that separates the sets, with the attack by which it does so most surely.

    Args:
        starts: by the models that started there, in words, then by attack. Bonferroni's correction is over all.
    """
    level = 1 - ALPHA / 2 / max(sum(map(len, starts.values())), 1)
    reasons = []
    for owners, by_attack in starts.items():
        beyond = {name: _beyond(found, level) for name, found in by_attack.items()}
        attack = max(beyond, key=lambda one: beyond[one])
        if beyond[attack] > START_MARGIN:
            found = by_attack[attack]
            reasons.append(
                f"the reference of {owners}, which ought to have seen neither set, separates them by itself ({attack}: "
                f"AUC {found.value:.3f} [{lower_bound(found, level):.3f}, {upper_bound(found, level):.3f}]): the sets "
                "differ in what models find easy, or it saw one of them"
            )
    return reasons


def _distinct_starts(plan: Plan, alone: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Mapping[str, Estimate]]:
    """Each start once, under the names of the models that share it."""
    owners: dict[str, list[str]] = {}
    for subject in plan.subjects:
        if subject.reference and subject.name in alone:
            owners.setdefault(subject.reference.fingerprint, []).append(subject.name)
    return {name_models(names, " and "): alone[names[0]] for names in owners.values()}


def _beyond(found: Estimate, level: float) -> float:
    """How far from 0.5 the AUC lies at least, on whichever side."""
    low, high = lower_bound(found, level), upper_bound(found, level)
    return -1.0 if low is None or high is None else max(low - 0.5, 0.5 - high)


def _blind_warnings(blind: BlindBaseline) -> list[str]:
    if blind.auc.value is None:
        return [f"the blind baseline could not be measured: {blind.auc.reason}"]
    name, bound = _surest(blind)
    if not 0.5 < bound <= BLIND_LIMIT:
        return []
    value = blind.by_name[name].value
    return [
        f"members and non-members differ a little without any model ({name}: blind AUC {value:.3f}, at least "
        f"{bound:.3f}): an attack may owe that much to the texts"
    ]


def _in_words(found: FormatDifference) -> str:
    return (
        f"the sets differ in their format: {found.name} in {_percent(found.members)} of the members and "
        f"{_percent(found.nonmembers)} of the non-members; {found.mend}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _overlap_warnings(shared: Overlap) -> list[str]:
    if not shared.n_above_20_percent:
        return []
    return [
        f"{shared.n_above_20_percent} non-members share more than 20 % of their {shared.n}-grams with members: "
        "they may be members in part"
    ]


def _duplicate_warnings(duplicates: Mapping[str, int]) -> list[str]:
    if not any(duplicates.values()):
        return []
    listed = ", ".join(f"{count} in --{name}" for name, count in duplicates.items() if count)
    return [f"duplicate texts were kept once: {listed} left out"]
