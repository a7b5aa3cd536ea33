"""Figures and cells in words, the same in every output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kdaudit.config import name_models
from kdaudit.metrics.association import Quarter
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.results import AttackResult, AuditResult, Cell, Comparison, Supervision, Validity

ABSENT = "–"
FAINT_P = 0.001
METRICS = {"auc": "AUC", "tpr@0.01": "true positive rate at 1 % false positive rate"}
"""What a reader asks for first: where one is missing, `missing` says why."""
RATES = {"0.01": "1 %", "0.1": "10 %"}
"""False positive rates that a short text shows, in words."""
COMPARE_WITH_REFERENCE = ("reference", "ez", "wbc")
REFERENCE_ALONE = "reference alone"
ALL_RATES = {"0.001": "0.1 %", **RATES}


def interval(estimate: Estimate | None) -> str:
    """A value with its 95 % interval: `0.813 [0.799, 0.826]`; the reason in its place where there is no value."""
    return _with_reason(estimate, _level(estimate))


def difference(found: Difference | None) -> str:
    """A difference with its 95 % interval and sign: `+0.057 [+0.050, +0.064]`."""
    return _with_reason(found, _gain(found))


def _level(estimate: Estimate | None) -> str:
    return _figure(estimate, ".3f")


def _gain(found: Difference | None) -> str:
    return _figure(found, "+.3f")


def _figure(found: Estimate | Difference | None, form: str) -> str:
    if found is None or found.value is None or found.low is None or found.high is None:
        return ABSENT
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _with_reason(found: Estimate | Difference | None, figure: str) -> str:
    return f"{ABSENT} ({found.reason})" if found is not None and figure == ABSENT and found.reason else figure


def p_value(found: Difference | None) -> str:
    """The Holm-adjusted p-value: `0.012`, `< 0.001`."""
    if found is None or found.p_value_holm is None:
        return ABSENT
    return f"< {FAINT_P}" if found.p_value_holm < FAINT_P else f"{found.p_value_holm:.3f}"


def metric_of(result: AttackResult, model: str, metric: str) -> Estimate | None:
    """One figure of one cell; `metric` is auc, balanced_accuracy, or tpr@F."""
    return result.cells[model].figures.get(metric)


def difference_of(result: AttackResult, student: str, metric: str) -> Difference | None:
    """One figure of one comparison; None where the student was not compared."""
    comparison = result.comparison.get(student)
    return None if comparison is None else comparison.figures.get(metric)


def tables(result: AuditResult) -> dict[str, tuple[list[str], list[list[str]]]]:
    """By title: AUC, the true positive rate at the lowest false positive rate that the sizes allow, and success."""
    shown = {"AUC": table(result, "auc")}
    for rate, words in RATES.items():
        cells = [cell for attack in result.attacks.values() for cell in attack.cells.values()]
        if any((found := cell.figures.get(f"tpr@{rate}")) is not None and found.value is not None for cell in cells):
            shown[f"true positive rate at {words} false positive rate"] = table(result, f"tpr@{rate}")
            break
    shown["member / non-member success at the calibrated threshold"] = success_table(result)
    return shown


def table(result: AuditResult, metric: str) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of attacks x (models, differences) for one metric; `missing` says why a cell is empty."""
    models = list(result.models)
    students = [name for name in models if name != "teacher"]
    compared = [heading for name in students for heading in (f"{name} − teacher", "p (Holm)")]
    rows = []
    for name, attack in result.attacks.items():
        cells = [
            _level(metric_of(attack, model, metric)) if attack.cells[model].status == "ok" else "not applicable"
            for model in models
        ]
        differences = [
            text
            for student in students
            for text in (
                _gain(difference_of(attack, student, metric)),
                p_value(difference_of(attack, student, metric)),
            )
        ]
        rows.append([name, *cells, *differences])
    if metric == "auc" and result.validity.reference_alone:
        _add_reference_alone(rows, result, n_compared=len(compared))
    return ["attack", *models, *compared], rows


def _add_reference_alone(rows: list[list[str]], result: AuditResult, *, n_compared: int) -> None:
    """A row below the attacks that compare with a reference, if any ran: what the reference finds by itself."""
    places = [place for place, row in enumerate(rows, start=1) if row[0] in COMPARE_WITH_REFERENCE]
    if places:
        alone = result.validity.reference_alone
        cells = [strongest_alone(alone[model]) if model in alone else ABSENT for model in result.models]
        rows.insert(places[-1], [REFERENCE_ALONE, *cells, *[ABSENT] * n_compared])


def strongest_alone(by_attack: Mapping[str, Estimate]) -> str:
    """The figure that lies furthest from 0.5, and its attack: `0.624 [0.607, 0.641] min-k++`."""
    distance = {name: abs(found.value - 0.5) for name, found in by_attack.items() if found.value is not None}
    if not distance:
        return ABSENT
    name = max(distance, key=lambda one: distance[one])
    return f"{interval(by_attack[name])} {name}"


def success_table(result: AuditResult) -> tuple[list[str], list[list[str]]]:
    """Member and non-member success of every cell, always side by side.

    A rise of one with an equal fall of the other is a shifted threshold, not a leak.
    """
    students = [name for name in result.models if name != "teacher"]
    rows = [
        [
            name,
            *(_both(_level, attack.cells[model]) for model in result.models),
            *(_both(_gain, attack.comparison.get(student)) for student in students),
        ]
        for name, attack in result.attacks.items()
    ]
    return ["attack", *result.models, *(f"{name} − teacher" for name in students)], rows


def _both(form: Callable[[Any], str], found: Cell | Comparison | None) -> str:
    if found is None or found.status != "ok":
        return "not applicable"
    return " / ".join(
        form(figure) for figure in (found.figures.get(name) for name in ("member_success", "nonmember_success"))
    )


def missing(result: AuditResult) -> Iterator[str]:
    """Why some cells of the tables have no figure, one line per reason."""
    cells: dict[str, list[str]] = {}
    for name, attack in result.attacks.items():
        for model, cell in attack.cells.items():
            if cell.status == "not_applicable":
                cells.setdefault(cell.reason, []).append(f"{name} on {model}")
                continue
            for metric, title in METRICS.items():
                found = metric_of(attack, model, metric)
                if found is not None and found.value is None:
                    cells.setdefault(f"no {title}: {found.reason}", []).append(f"{name} on {model}")
    n_cells = len(result.attacks) * len(result.models)
    for reason, listed in cells.items():
        yield f"{'every cell' if len(listed) == n_cells else ', '.join(listed)}: {reason}"


def supervision_table(pair: Supervision) -> tuple[list[str], list[list[str]]]:
    """Head and rows of figures x (members, non-members, the former minus the latter)."""
    has_start = pair.gain_over == "start"
    gain = "student's gain over its start" if has_start else "student's own log-likelihood"
    rank = "rank correlation of the two"
    both = (pair.members, pair.nonmembers)
    rows = [
        ["teacher's probability of the true token", *(interval(one.teacher_mean_probability) for one in both), ABSENT],
        [f"{gain}, nats per token", *(interval(one.student_gain) for one in both), ABSENT],
        [
            f"{rank}, at equal loss of the start" if has_start else rank,
            *(signed(one.correlation) for one in both),
            ABSENT,
        ],
        [
            "student's excess per nat of the teacher's excess",
            *(signed(one) for one in (pair.slopes.members, pair.slopes.nonmembers)),
            signed(pair.slopes.interaction),
        ],
    ]
    return ["figure", f"{pair.members.n} members", f"{pair.nonmembers.n} non-members", "difference"], rows


def quarter_table(pair: Supervision) -> tuple[list[str], list[list[str]]]:
    """Head and rows of quarters of the teacher's probability x (members, non-members, gap of the gains)."""
    gain = "gain" if pair.gain_over == "start" else "log-likelihood"
    rows = [
        [_range(quarter), str(quarter.n_members), str(quarter.n_nonmembers), difference(quarter.gap)]
        for quarter in pair.quarters
    ]
    return ["teacher's probability", "members", "non-members", f"{gain} of members − of non-members"], rows


def _range(quarter: Quarter) -> str:
    if quarter.low is None:
        return "all" if quarter.high is None else f"up to {quarter.high:.3f}"
    return f"above {quarter.low:.3f}" if quarter.high is None else f"{quarter.low:.3f} to {quarter.high:.3f}"


def supervision_tables(result: AuditResult) -> dict[str, tuple[list[str], list[list[str]]]]:
    """By title, two tables per student: members beside non-members, and quarters of the teacher's probability."""
    found = {}
    for student, pair in result.mixed_supervision.items():
        found[f"mixed supervision: {student}"] = supervision_table(pair)
        found[f"mixed supervision: {student}, by the teacher's probability"] = quarter_table(pair)
    return found


def supervision_notes(result: AuditResult) -> Iterator[str]:
    """How to read the tables, why a gain is over nothing, and what no figure in them can tell."""
    if result.mixed_supervision:
        yield SUPERVISION_FIGURES
    for student, pair in result.mixed_supervision.items():
        if pair.gain_note:
            yield f"{student}: {pair.gain_note}"
    if result.mixed_supervision:
        yield SUPERVISION_LIMIT


SUPERVISION_FIGURES = (
    "The quarters are those of the non-members' probabilities, and the intervals of the gaps are Welch's. A model's "
    "excess is what a fit on non-members, by the starts' log-likelihoods and the length of the text, leaves of its "
    "mean log-likelihood per token; its intervals draw the records and fit anew 2000 times."
)
"""What the figures are."""
SUPERVISION_LIMIT = (
    "These figures tell whether the student took more from its teacher on members than on non-members, at equal "
    "difficulty for its start; they cannot tell whether the teacher's word is the cause, since what the teacher learnt "
    "easily a student of hard labels alone learns easily too: kdaudit mitigate --method hard-only trains that control."
)
"""What mixed supervision can and cannot tell without a control."""


def signed(found: Estimate | Difference | None) -> str:
    """A correlation or a slope with its 95 % interval and sign: `+0.41 [+0.38, +0.45]`; a reason where it lacks one."""
    if found is not None and found.value is not None and found.low is None and found.reason:
        return f"{found.value:+.2f} ({found.reason})"
    return _with_reason(found, _figure(found, "+.2f"))


def validity_notes(result: AuditResult) -> Iterator[str]:
    """The validity of the comparison, one line each: blind baseline, references, power, unscored, warnings."""
    validity = result.validity
    yield blind_note(validity)
    yield from reference_notes(validity)
    smallest = result.power.smallest_detectable_auc
    if smallest is None:
        yield "power: this run is too small to tell any AUC from 0.5"
    else:
        shared = power_level(0.95, result.power.cells)
        yield f"power: the smallest AUC that this run could have told from 0.5 is {smallest:.3f} ({shared}, 80 % power)"
    yield from unscored_notes(result)
    yield from validity.warnings


def power_level(level: float, cells: int | None) -> str:
    """The level at which an AUC is told from 0.5; `cells` is None in files of versions that knew of one cell alone."""
    if cells is None:
        return f"{100 * level:g} % level"
    shared = f" shared by {cells} cells" if cells > 1 else ""
    return f"{100 * level:g} % level{shared}, above the blind classifier too"


def strongest_notes(result: AuditResult) -> Iterator[str]:
    """The largest AUC on every model, one line each where several attacks were measured."""
    for model, found in result.strongest.items():
        if len(found.attacks) > 1:
            yield (
                f"the strongest of {len(found.attacks)} attacks on {model}: {found.attack}, AUC {found.value:.3f} "
                f"[{found.low:.3f}, {found.high:.3f}], a simultaneous {100 * found.level:g} % interval over all of them"
            )


def blind_note(validity: Validity) -> str:
    """How well members and non-members can be told apart by their texts alone."""
    return f"blind baseline ({validity.blind_name}): AUC {interval(validity.blind_auc)}, no model involved"


def reference_notes(validity: Validity) -> Iterator[str]:
    """What each reference, which ought to have seen neither set, finds by itself; equal references once."""
    models: dict[str, list[str]] = {}
    for model, by_attack in validity.reference_alone.items():
        figures = ", ".join(f"{name} {interval(found)}" for name, found in by_attack.items())
        models.setdefault(figures, []).append(model)
    for figures, names in models.items():
        yield f"{REFERENCE_ALONE} ({name_models(names)}): AUC {figures}; it saw neither set, so each ought to be at 0.5"


def unscored_notes(result: AuditResult) -> Iterator[str]:
    """How many records have no score, one line per count."""
    unscored: dict[int, list[str]] = {}
    for name, attack in result.attacks.items():
        unscored.setdefault(max((cell.unscored for cell in attack.cells.values()), default=0), []).append(name)
    for count, names in sorted(unscored.items()):
        if count:
            yield f"records without a score (NaN), left out for every model: {count} under {', '.join(names)}"


def utility_table(utility: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of models x held-out losses, from a student's manifest."""
    columns = {"nats per token": "nll", "bits per byte": "bits_per_byte", "perplexity": "perplexity"}
    models = [name for name in ("teacher", "start", "student") if name in utility["nll"]]
    rows = [[name, *(_unsigned(utility[key][name]) for key in columns.values())] for name in models]
    return ["model", *columns], rows


def agreement_notes(utility: Mapping[str, Any]) -> Iterator[str]:
    """How far a student agrees with its teacher on the held-out records."""
    agreement = utility["agreement"]
    yield f"the student's top token is its teacher's: {_unsigned(agreement['top1'])} of the tokens"
    yield f"KL(teacher || student): {_unsigned(agreement['forward_kl'])} nats per token"
    yield from missing_figures(utility)


def missing_figures(utility: Mapping[str, Any]) -> Iterator[str]:
    """Why a model has no held-out loss or no perplexity."""
    for figure, words in (("nll", "held-out loss"), ("perplexity", "perplexity")):
        for name, found in utility[figure].items():
            reason = found.get("reason") or ""
            if reason and reason != (utility["nll"][name].get("reason") if figure == "perplexity" else None):
                yield f"no {words} of the {name}: {reason}"


def _unsigned(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None or figure["low"] is None:
        return ABSENT if figure["value"] is None else f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
