"""A run in a few sentences, for a reader with two minutes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

from kdaudit.metrics import METRICS
from kdaudit.metrics.bootstrap import RESAMPLES
from kdaudit.metrics.estimate import Difference, Estimate, lower_bound, upper_bound
from kdaudit.report.text import ABSENT, capital, p_value
from kdaudit.results import AttackResult, AuditResult

CLEAR_LEAK = 0.6
"""An AUC whose interval lies above it is a clear leak, whatever the limits say: the limit that examples set."""
SIGNIFICANT = 0.05
"""A Holm-adjusted p-value: below it a difference is called one."""
FALSE_ALARMS = 10
"""Non-members beyond the threshold that a rate in a sentence needs: with one or two the figure is mostly luck."""

LEAST_P = 2 / (RESAMPLES + 1) + 1e-12
"""The smallest two-sided p-value of a bootstrap: no draw lies beyond 0."""
RATES = "tpr"
"""The group of metrics that say what is found at few false alarms; the rate of false alarms is what guessing finds."""


def strongest(result: AuditResult, model: str) -> str | None:
    """The attack of the largest AUC on a model; None where none was measured."""
    found = {name: attack.cells[model].auc for name, attack in result.attacks.items()}
    values = {name: auc.value for name, auc in found.items() if auc is not None and auc.value is not None}
    return max(values, key=lambda name: values[name], default=None)


def auc_of_chosen(result: AuditResult, name: str, model: str) -> Estimate | None:
    """The AUC of an attack that was chosen among all for its figure, with an interval that allows for the choice.

    Of the strongest attack the interval holds the largest true AUC of all attacks; of another one its own, at the same
    critical value. Files of older versions give the attack's plain interval.
    """
    auc, found = result.attacks[name].cells[model].auc, result.strongest.get(model)
    if auc is None or auc.value is None or found is None or name not in found.attacks:
        return auc
    if name == found.attack:
        return replace(auc, low=found.low, high=found.high, level=found.level)
    one_sided = NormalDist().cdf(found.critical_value)
    return replace(auc, low=lower_bound(auc, one_sided), high=upper_bound(auc, one_sided), level=found.level)


def is_simultaneous(result: AuditResult, model: str) -> bool:
    """Whether `auc_of_chosen` allows for the choice among several attacks on this model."""
    return model in result.strongest and len(result.strongest[model].attacks) > 1


def strongest_notes(result: AuditResult) -> Iterator[str]:
    """The largest AUC on every model, one line each where several attacks were measured."""
    for model, found in result.strongest.items():
        if len(found.attacks) > 1:
            yield (
                f"The strongest of {len(found.attacks)} attacks on {model}: {found.attack}, AUC {found.value:.3f} "
                f"[{found.low:.3f}, {found.high:.3f}], a simultaneous {100 * found.level:g} % interval over all of them"
            )


def headline(result: AuditResult) -> Iterator[str]:
    """Which attack is the strongest on each target, how strong it is, and how that compares with the teacher."""
    if result.validity.status == "failed":
        yield (
            "Members and non-members can be told apart by what no model remembers, so the figures below say nothing "
            "about membership."
        )
    for model in result.targets:
        name = strongest(result, model)
        if name is None:
            yield f"No attack could be measured on {model}."
            continue
        yield _strength(name, model, result)
        if any(model in attack.comparison for attack in result.attacks.values()):
            yield _against_teacher(result, name, model)
        yield from _at_low_rate(name, result.attacks[name], model)


def _strength(name: str, model: str, result: AuditResult) -> str:
    auc = auc_of_chosen(result, name, model)
    aucs = [attack.cells[model].auc for attack in result.attacks.values()]
    measured = sum(found is not None and found.value is not None for found in aucs)
    which = f"The strongest of {measured} attacks on {model} is {name}" if measured > 1 else f"{name} on {model}"
    share = _share(auc, of=" of cases", kind="simultaneous " if is_simultaneous(result, model) else "")
    told = f"given one member and one non-member, it tells which is which in {share}, by guessing in 50 %"
    if auc is not None and auc.low is not None and auc.low <= 0.5:
        told += "; this may be no more than guessing"
    return f"{which}: {told}."


def _against_teacher(result: AuditResult, name: str, student: str) -> str:
    """Under the strongest attack on the student, else under the strongest one that ran on both."""
    if not _is_compared(result, name, student):
        both = [other for other in result.attacks if _is_compared(result, other, student)]
        if not both:
            return f"{capital(student)} could not be compared with its teacher under any attack."
        other = max(both, key=lambda one: _value(result.attacks[one].cells[student].auc))
        own = _share(
            auc_of_chosen(result, other, student), kind="simultaneous " if is_simultaneous(result, student) else ""
        )
        against = f"under {other}, the strongest attack that ran on both, it reaches {own} and its teacher "
        against += _share(result.attacks[other].cells["teacher"].auc)
    else:
        other = name
        against = f"under the same attack the teacher reaches {_share(result.attacks[name].cells['teacher'].auc)}"
    found = result.attacks[other].comparison[student].auc
    if found is None:
        raise ValueError("only attacks that were compared are chosen")
    apart = f"a difference of {_points(found)}, p {p_equals(found)} after adjusting for all attacks"
    return f"{_direction(found, student)}: {against}, {apart}."


def _is_compared(result: AuditResult, name: str, student: str) -> bool:
    attack = result.attacks[name]
    found = attack.comparison[student].auc if student in attack.comparison else None
    teacher = attack.cells["teacher"].auc
    return found is not None and found.value is not None and teacher is not None and teacher.value is not None


def _value(found: Estimate | None) -> float:
    return -1.0 if found is None or found.value is None else found.value


def _direction(found: Difference, student: str) -> str:
    value, p = found.value or 0.0, found.p_value_holm
    if p is None or p >= SIGNIFICANT:
        return f"{capital(student)} and teacher cannot be told apart by this attack"
    return f"{capital(student)} leaks {'more' if value > 0 else 'less'} than its teacher"


def low_rate(attack: AttackResult, model: str) -> tuple[float, Estimate] | None:
    """The lowest false positive rate that enough false alarms settle, else the highest that was measured, and the TPR.

    None where no such rate was measured.
    """
    figures = attack.cells[model].figures
    rates = {metric.chance or 0.0: figures.get(metric.name) for metric in METRICS.values() if metric.group == RATES}
    measured = [(rate, found) for rate, found in rates.items() if found is not None and found.value is not None]
    return next((one for one in measured if one[0] * one[1].m >= FALSE_ALARMS), measured[-1]) if measured else None


def _at_low_rate(name: str, attack: AttackResult, model: str) -> Iterator[str]:
    if (settled := low_rate(attack, model)) is not None:
        rate, found = settled
        words = f"With false alarms on about {100 * rate:g} % of the non-members"
        yield f"{words}, {name} finds {_share(found)} of the members."


def _share(found: Estimate | None, *, of: str = "", kind: str = "") -> str:
    """`93.6 % (95 % interval 92.8 to 94.3)`."""
    if found is None or found.value is None or found.low is None or found.high is None:
        return ABSENT
    interval = f"{kind}{100 * found.level:g} % interval {100 * found.low:.1f} to {100 * found.high:.1f}"
    return f"{100 * found.value:.1f} %{of} ({interval})"


def _points(found: Difference) -> str:
    if found.value is None or found.low is None or found.high is None:
        return ABSENT
    return f"{100 * found.value:+.1f} percentage points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def adjusted_p(found: Difference | None) -> str:
    """The Holm-adjusted p-value, `≤ 0.010` where the bootstrap's draws can show no smaller one."""
    if found is None:
        return ABSENT
    is_floor = found.quantiles is not None and found.p_value is not None and found.p_value <= LEAST_P
    return p_value(found.p_value_holm, is_floor=is_floor)


def p_equals(found: Difference) -> str:
    """`= 0.012`, `< 0.001`, `≤ 0.010`."""
    text = adjusted_p(found)
    return text if text[0] in "<≤" else f"= {text}"


@dataclass(frozen=True, slots=True)
class Shown:
    """The strongest attack on one model, as the first screen shows it."""

    model: str
    attack: str
    auc: Estimate


def shown_models(result: AuditResult) -> list[Shown]:
    """The strongest attack on every model on which one was measured."""
    found = [(model, strongest(result, model)) for model in result.models]
    chosen = [(model, name, auc_of_chosen(result, name, model)) for model, name in found if name is not None]
    return [Shown(model, name, auc) for model, name, auc in chosen if auc is not None]


def is_clear(result: AuditResult) -> bool:
    """Whether a target surely gives away a good deal, whatever limit was set."""
    return result.validity.status != "failed" and any(
        one.auc.low is not None and one.auc.low > CLEAR_LEAK and _beats_nulls(result, one)
        for one in shown_models(result)
        if one.model in result.targets
    )


def _beats_nulls(result: AuditResult, one: Shown) -> bool:
    """Whether the attack lies surely above what saw neither set; where that was not measured, its AUC speaks alone."""
    nulls = [found.get("auc") for found in result.attacks[one.attack].cells[one.model].nulls.values()]
    return all(null is None or null.low is None or null.low > 0 for null in nulls)
