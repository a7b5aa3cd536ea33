"""Regression: by how much each AUC rose since an earlier run on the same records.

The rise is a difference of two AUCs over the same records. Where both runs' scores are at hand its error is DeLong's
paired one. Without them it is the root of the summed squares of both errors, as if the records were different ones:
too wide wherever the two runs rank records alike, which the same texts make them do, so it errs towards inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import scipy

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.results import AttackResult, AuditResult, Cell
from kdaudit.verdict import sentences
from kdaudit.verdict.gates import Gate
from kdaudit.verdict.rules import Measurement, nulls_to_beat

SAME_RUN = ("seed", "limit", "max_tokens", "n_shots", "calibration_share")
"""Settings of `attack` that decide, together with the data, which texts are scored."""

Paired = Mapping[tuple[str, str], Difference]
"""By attack and model: the AUC now minus the AUC then, paired over records."""


def rises(
    now: AuditResult, then: AuditResult, *, tolerance: float, paired: Paired | None = None
) -> list[tuple[Gate, list[Measurement]]]:
    """One gate per model of either run, and the rise of its AUC under every attack of either run.

    What cannot be compared has no figure, which leaves its gate inconclusive: other data, another version of the
    attack, a cell that the baseline has and this run lacks. A cell that is new in this run is left out and named.

    Args:
        now: the run.
        then: the baseline.
        tolerance: how far an AUC may rise, in [0, 1].
        paired: from the scores of both runs, by attack and model; without it the unpaired error is taken.
    """
    obstacle = why_not_comparable(now, then)
    names = list(dict.fromkeys([*then.attacks, *now.attacks]))
    return [
        (
            Gate(model, "auc", None, tolerance, since_baseline=True),
            [_rise(now, then, name, model, obstacle, paired) for name in names],
        )
        for model in dict.fromkeys([*now.models, *then.models])
    ]


def why_not_comparable(now: AuditResult, then: AuditResult) -> str:
    """Why two runs did not score the same texts; empty where they did."""
    found = list(_differing(now, then))
    if found:
        return f"not comparable with the baseline: it has other {', '.join(found)}"
    return "the baseline's members and non-members cannot be compared" if then.validity.status == "failed" else ""


def _differing(now: AuditResult, then: AuditResult) -> Iterator[str]:
    if now.data.sha256 != then.data.sha256:
        yield "data"
        return
    if now.data.members != then.data.members:
        yield "members"
    if now.data.nonmembers != then.data.nonmembers:
        yield "non-members"
    if now.data.window_tokens != then.data.window_tokens:
        yield "cuts of the texts"
    yield from (key.replace("_", "-") for key in SAME_RUN if now.config.get(key) != then.config.get(key))


def _rise(
    now: AuditResult, then: AuditResult, name: str, model: str, obstacle: str, paired: Paired | None
) -> Measurement:
    was, new = _cell(then.attacks.get(name), model), _cell(now.attacks.get(name), model)
    if was is None:
        is_new_model = new is not None and model not in then.models
        return Measurement(name, name, is_new_model, sentences.NOT_IN_BASELINE, is_applicable=False)
    if obstacle or new is None:
        return Measurement(name, name, is_requested=True, reason=obstacle or sentences.NOT_IN_RUN)
    if now.attacks[name].version != then.attacks[name].version:
        return Measurement(name, name, is_requested=True, reason=sentences.OTHER_VERSION)
    if now.attacks[name].settings != then.attacks[name].settings:
        return Measurement(name, name, is_requested=True, reason=sentences.OTHER_SETTINGS)
    if paired is not None:
        figure = paired.get((name, model))
    elif _is_same(now, then, model) and new.auc == was.auc:
        figure = Difference(0.0, n=new.auc.n, m=new.auc.m, method="same weights", se=0.0) if new.auc else None
    else:
        figure = _unpaired(new.auc, was.auc)
    n_scored = new.auc.n + new.auc.m if new.auc else 0
    return Measurement(
        name,
        name,
        is_requested=True,
        reason=figure.reason if figure and figure.reason else sentences.NO_VALUE,
        figure=figure,
        to_beat=nulls_to_beat(new, "auc"),
        unscored_share=new.unscored / max(new.unscored + n_scored, 1),
        narrow=sentences.NARROW if paired is not None else sentences.PAIR_THEM,
    )


def _cell(result: AttackResult | None, model: str) -> Cell | None:
    """The cell, where it was measured."""
    cell = result.cells.get(model) if result else None
    return cell if cell and cell.status == "ok" else None


def _is_same(now: AuditResult, then: AuditResult, model: str) -> bool:
    """Whether both runs attacked the same weights with the same reference."""
    one, other = now.models[model], then.models[model]
    starts = [found.reference.fingerprint if found.reference else "" for found in (one, other)]
    return one.fingerprint == other.fingerprint != "" and starts[0] == starts[1]


def _unpaired(now: Estimate | None, then: Estimate | None) -> Difference | None:
    """The rise with both standard errors summed in squares, as for two sets of records."""
    if now is None or then is None or now.value is None or then.value is None:
        return None
    errors = [_raw_se(figure) for figure in (now, then)]
    if None in errors:
        return None
    return Difference(
        now.value - then.value,
        n=now.n,
        m=now.m,
        method="DeLong, unpaired",
        se=math.hypot(*(error for error in errors if error is not None)),
    )


def _raw_se(figure: Estimate) -> float | None:
    """The standard error on the scale of the AUC itself, from that of its logit."""
    if figure.logit_value is None or figure.logit_se is None:
        return None
    centre = float(scipy.special.expit(figure.logit_value))
    return figure.logit_se * centre * (1 - centre)
