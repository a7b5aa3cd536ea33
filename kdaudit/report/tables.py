"""The tables of figures of an audit. How a table looks is the renderer's matter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from kdaudit.attacks import ATTACKS
from kdaudit.attacks.settings import written
from kdaudit.config import TEACHER
from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import Estimate
from kdaudit.metrics.metric import Metric
from kdaudit.report.blocks import Detail, Table
from kdaudit.report.headline import adjusted_p, auc_of_chosen, is_clear, is_simultaneous, strongest
from kdaudit.report.reading import Declaration, Report
from kdaudit.report.text import ABSENT, capital, change, counted, difference, interval, level
from kdaudit.results import AuditResult, GateResult, TwoByTwo
from kdaudit.verdict.gates import DIFFERENCE, format_limit
from kdaudit.verdict.rules import ALPHA
from kdaudit.verdict.sentences import distinct, not_comparable

STATUS_WORDS = {
    "fail": "fail",
    "inconclusive": "inconclusive",
    "pass": "pass",
    "waived": "waived",
    "not_gated": "not gated",
}
"""The worst first."""
LAX = "lax"
"""A pass of which the leak is clear all the same."""
REFERENCE_ALONE = "reference alone"
SETS_DIFFER = "the sets differ: see the verdict"
NOT_APPLICABLE = "not applicable"


def comparison(report: Report) -> Table:
    """One row a run: its verdict, and the strongest attack on each of its students, or on its model alone."""
    has_teacher = any(run.result.has_teacher for run in report.runs)
    beside = ("teacher", "student − teacher") if has_teacher else ()
    head = ("run", "model", "verdict", "strongest attack", "AUC", *beside, "blind", "records")
    rows = []
    for run in report.runs:
        result, data = run.result, run.result.data
        for student in result.targets:
            name = strongest(result, student)
            attack = result.attacks[name] if name else None
            against = (
                interval(attack.cells[TEACHER].auc) if attack and TEACHER in attack.cells else ABSENT,
                difference(attack.comparison[student].auc) if attack and student in attack.comparison else ABSENT,
            )
            rows.append(
                (
                    run.name,
                    student,
                    _verdict_on(result, student),
                    name or ABSENT,
                    interval(auc_of_chosen(result, name, student)) if name else ABSENT,
                    *(against if has_teacher else ()),
                    interval(result.validity.blind_auc),
                    f"{data.members} + {data.nonmembers}",
                )
            )
    notes = []
    if any(row[2] == LAX for row in rows):
        notes.append("Lax: the limits are kept, but what is given away is far above chance.")
    if any(is_simultaneous(run.result, model) for run in report.runs for model in run.result.models):
        notes.append("The interval of the strongest attack is simultaneous over all attacks of its run.")
    if len({run.result.data.sha256 for run in report.runs}) > 1:
        notes.append("Runs on other records differ by their records too: the data's hashes stand under each run.")
    names = dict.fromkeys(name for run in report.runs for name in run.result.attacks)
    each = {
        name: [run.result.attacks[name].settings for run in report.runs if name in run.result.attacks] for name in names
    }
    if other := [name for name, found in each.items() if any(one != found[0] for one in found)]:
        notes.append(f"The runs set {', '.join(other)} otherwise (--set): what is under each run says how.")
    return Table("Runs side by side", head, rows, " ".join(notes), status=2)


def _verdict_on(result: AuditResult, model: str) -> str:
    """The verdict on one model; a pass about which nobody should relax is called lax."""
    found = status_of(result, model)
    return LAX if found == "pass" and is_clear(result) else STATUS_WORDS[found]


def status_of(result: AuditResult, model: str) -> str:
    """The worst that the gates say of one model: its own, and those on its difference from the teacher."""
    found: set[str] = set()
    for gate in result.verdict.gates:
        if gate.subject == model or (gate.subject == DIFFERENCE and len(result.compared) == 1):
            found.add(gate.status)
        elif gate.subject == DIFFERENCE:
            own: set[str] = {cell.status for cell in gate.cells if cell.label.endswith(f" on {model}")}
            if gate.status == "waived" and "fail" in own:
                own = own - {"fail"} | {"waived"}
            found |= own
    return next((status for status in STATUS_WORDS if status in found), "not_gated")


def gates(result: AuditResult, declared: Mapping[str, Declaration], *, baseline: str = "") -> Table:
    """Every gate as judged, and where it was declared; `baseline` names the earlier run that some compare with."""
    head = ["limit", "gate", "result", "measured", "by attack", "distance", "reason"]
    head += ["declared in"] if declared else []
    differ = not_comparable(result.validity) if result.validity.status == "failed" else None
    rows = [
        (
            in_words(gate),
            gate.gate,
            STATUS_WORDS[gate.status],
            _measured(gate),
            gate.deciding_attack or ABSENT,
            _distance(gate),
            SETS_DIFFER if gate.reason == differ else gate.reason,
            *([_place(declared.get(gate.gate))] if declared else []),
        )
        for gate in result.verdict.gates
    ]
    cells = counted(result.verdict.n_cells, "scored cell")
    level = 100 * (1 - ALPHA / max(result.verdict.n_cells, 1))
    note = (
        f"A limit is broken where a lower bound lies above it ({level:.4g} %, corrected for {cells}), and kept where "
        "every one-sided 95 % upper bound lies at or below it. Between the two nothing is settled."
    )
    if baseline:
        note += f" A limit on a rise says how far a figure may lie above that of {baseline}, on the same records."
    return Table("Limits", head, rows, note, extra=[0], under=[1], status=2)


def in_words(gate: GateResult) -> str:
    """`Student, AUC at most 0.6`."""
    metric, since, _ = gate.metric.partition("-baseline")
    short = METRICS[metric].short if metric in METRICS else metric
    who = "student minus teacher" if gate.subject == DIFFERENCE else gate.subject
    named = named_attack(gate)
    under = f" under {named}" if named else ""
    risen = ", rise since the baseline" if since else ""
    return f"{capital(who)}, {short}{under}{risen} at most {format_limit(gate.limit)}"


def named_attack(gate: GateResult) -> str | None:
    """The attack that a gate names; None where it covers all of them."""
    found = re.search(r"\[(.+)\]", gate.gate)
    return found[1] if found else None


def _is_signed(gate: GateResult) -> bool:
    return gate.subject == DIFFERENCE or gate.metric.endswith("-baseline")


def _measured(gate: GateResult) -> str:
    """`0.958, at least 0.936`."""
    if gate.value is None:
        return ABSENT
    form = "+" if _is_signed(gate) else ""
    value = distinct(gate.value, gate.limit, form=form)
    if gate.bound is None:
        return value
    side = "at least" if gate.bound_side == "lower" else "at most"
    return f"{value}, {side} {distinct(gate.bound, gate.limit, form=form)}"


def _distance(gate: GateResult) -> str:
    """How far the bound that settles a gate lies from the limit, or the figure where none does."""
    if gate.value is None:
        return ABSENT
    is_settled = gate.status != "inconclusive" and gate.bound is not None
    gap = (gate.bound if is_settled and gate.bound is not None else gate.value) - gate.limit
    words = f"{distinct(abs(gap), 0.0)} {'over' if gap > 0 else 'within'}"
    return words if is_settled else f"{words}, not settled"


def _place(found: Declaration | None) -> str:
    return ABSENT if found is None else f"{found.path}:{found.line}"


def figures(result: AuditResult) -> Iterator[Table]:
    """Attacks x (models, differences from the teacher), a table per metric that was measured.

    A terminal shows the metrics of a short text, and of a group of them the first that was measured.
    """
    shown: set[str] = set()
    for metric in METRICS.values():
        if metric.name in shown:  # beside another one
            continue
        is_measured = any(found.value is not None for found in _of_metric(result, metric.name))
        if metric.group and not is_measured:
            continue
        is_short = metric.is_headline and not (metric.group and metric.group in shown)
        shown |= {metric.beside, *([metric.group] if is_short else [])}
        table = metric_table(result, *([metric, METRICS[metric.beside]] if metric.beside else [metric]))
        yield table if is_short else replace(table, detail=Detail.WHOLE)


def _of_metric(result: AuditResult, metric: str) -> Iterator[Estimate]:
    for attack in result.attacks.values():
        for cell in attack.cells.values():
            if (found := cell.figures.get(metric)) is not None:
                yield found


def metric_table(result: AuditResult, *metrics: Metric) -> Table:
    """Levels and differences of one metric, or of several side by side in every cell.

    One alone has its p-values, and where a threshold was drawn, what that let through.
    """
    first, *others = metrics
    has_threshold = not others and any(found.realised_fpr is not None for found in _of_metric(result, first.name))
    compared = result.compared if first.has_difference else []
    head, extra = ["attack"], []
    for model in result.models:
        head.append(model)
        if has_threshold:
            extra.append(len(head))
            head.append("realised FPR")
    head += [words for name in compared for words in (f"{name} − teacher", *([] if others else ["p (Holm)"]))]
    rows = []
    for name, attack in result.attacks.items():
        row = [name]
        for model in result.models:
            cell = attack.cells[model]
            levels = " / ".join(level(cell.figures.get(metric.name)) for metric in metrics)
            row.append(levels if cell.status == "ok" else NOT_APPLICABLE)
            row += [_realised(cell.figures.get(first.name))] if has_threshold else []
        for student in compared:
            found = attack.comparison.get(student)
            changes = [found.figures.get(metric.name) if found else None for metric in metrics]
            is_absent = found is not None and found.status != "ok"
            row.append(NOT_APPLICABLE if is_absent else " / ".join(map(change, changes)))
            row += [] if others else [adjusted_p(changes[0])]
        rows.append(row)
    if first.name == "auc" and result.validity.reference_alone:
        _add_reference_alone(rows, result, n_compared=2 * len(compared))
    chosen = {strongest(result, model) for model in result.models}
    whole = [place for place, row in enumerate(rows) if row[0] in chosen]
    title = " / ".join([*(metric.short for metric in metrics[:-1]), metrics[-1].title])
    return Table(f"{capital(title)} with 95 % interval", head, rows, first.note, extra=extra, under=extra, whole=whole)


def _realised(found: Estimate | None) -> str:
    if found is None or found.realised_fpr is None:
        return ABSENT
    if found.realised_fpr_low is None or found.realised_fpr_high is None:
        return f"{found.realised_fpr:.4f}"
    return f"{found.realised_fpr:.4f} [{found.realised_fpr_low:.4f}, {found.realised_fpr_high:.4f}]"


def _add_reference_alone(rows: list[list[str]], result: AuditResult, *, n_compared: int) -> None:
    """A row below the attacks that compare with a reference, if any ran: what the reference finds by itself."""
    comparing = {name for name, attack in ATTACKS.items() if attack.needs_reference}
    places = [place for place, row in enumerate(rows, start=1) if row[0] in comparing]
    if places:
        alone = result.validity.reference_alone
        cells = [_strongest_alone(alone[model]) if model in alone else ABSENT for model in result.models]
        rows.insert(places[-1], [REFERENCE_ALONE, *cells, *[ABSENT] * n_compared])


def _strongest_alone(by_attack: Mapping[str, Estimate]) -> str:
    """The figure that lies furthest from 0.5, and its attack: `0.624 [0.607, 0.641] min-k++`."""
    distance = {name: abs(found.value - 0.5) for name, found in by_attack.items() if found.value is not None}
    if not distance:
        return ABSENT
    name = max(distance, key=lambda one: distance[one])
    return f"{interval(by_attack[name])} {name}"


def missing(result: AuditResult) -> Iterator[str]:
    """Why some cells of the short tables have no figure, one line per reason."""
    cells: dict[str, list[str]] = {}
    for name, attack in result.attacks.items():
        for model, cell in attack.cells.items():
            if cell.status == "not_applicable":
                cells.setdefault(cell.reason, []).append(f"{name} on {model}")
                continue
            for metric in _reported(METRICS.values()):
                found = cell.figures.get(metric.name)
                if found is not None and found.value is None:
                    cells.setdefault(f"no {metric.title}: {found.reason}", []).append(f"{name} on {model}")
    n_cells = len(result.attacks) * len(result.models)
    for reason, listed in cells.items():
        yield f"{'every cell' if len(listed) == n_cells else ', '.join(listed)}: {reason}"


def settings(result: AuditResult) -> Iterator[str]:
    """The attacks that are not as their authors, or kdaudit, define them, and what each is; one line for each."""
    for name, attack in result.attacks.items():
        if not attack.settings:
            continue
        known = {one.name: one for one in ATTACKS[name].parameters} if name in ATTACKS else {}
        chosen = {one: tuple(value) if isinstance(value, list) else value for one, value in attack.settings.items()}
        told = ", ".join(
            f"{one} {written(value)}" + (f" in the place of {written(known[one].default)}" if one in known else "")
            for one, value in chosen.items()
        )
        is_known = {*chosen} <= {*known}
        yield f"{name}: {told}" + (f"; {ATTACKS[name].tuned(chosen).described}" if is_known and known else "")


def _reported(metrics: Iterable[Metric]) -> Iterator[Metric]:
    """Those whose absence a reader of a short text asks about: of a group the first one, of a pair none."""
    groups: set[str] = set()
    for metric in metrics:
        if metric.is_headline and not metric.beside and metric.group not in groups:
            groups |= {metric.group} - {""}
            yield metric


def detections(result: AuditResult) -> Iterator[Table]:
    """Per student: who detects which records, teacher, student, both or neither."""
    found_by = ("both", "teacher only", "student only", "neither")
    head = ("attack", *(f"{kind}: {who}" for kind in ("members", "non-members") for who in found_by))
    for student in result.compared:
        rows = [
            (name, *_counts(by_class["members"]), *_counts(by_class["nonmembers"]))
            for name, attack in result.attacks.items()
            if {"members", "nonmembers"} <= (by_class := attack.two_by_two.get(student, {})).keys()
        ]
        if rows:
            yield Table(
                f"Teacher × {student}: records called members",
                head,
                rows,
                "Counts of the evaluation part, each model at its own threshold. Non-members found are false alarms.",
                right=range(1, len(head)),
                detail=Detail.WHOLE,
            )


def _counts(found: TwoByTwo) -> tuple[str, ...]:
    return tuple(map(str, (found.both, found.teacher_only, found.student_only, found.neither)))
