"""The tables of a report: figures in words, the same in every format; how a table looks is the template's matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kdaudit.report import wording
from kdaudit.report.content import Declaration, Report, Run
from kdaudit.report.headline import auc_of_chosen, is_simultaneous, strongest
from kdaudit.report.wording import ABSENT, ALL_RATES, difference, interval
from kdaudit.results import AttackResult, AuditResult, Distillation, GateResult, TwoByTwo, Utility

STATUS_WORDS = {
    "fail": "fail",
    "inconclusive": "inconclusive",
    "pass": "pass",
    "waived": "waived",
    "not_gated": "not gated",
}
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head; the first cell of a row names it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    """What a reader must know to read it."""


def comparison(report: Report) -> Table:
    """One row a run: its verdict, and the strongest attack on each of its students."""
    head = ("run", "model", "verdict", "strongest attack", "AUC", "teacher", "student − teacher", "blind", "records")
    rows = []
    for run in report.runs:
        result = run.result
        for student in _students(result) or list(result.models):
            name = strongest(result, student)
            attack = result.attacks[name] if name else None
            rows.append(
                (
                    run.name,
                    student,
                    STATUS_WORDS[result.verdict.status],
                    name or ABSENT,
                    interval(auc_of_chosen(result, name, student)) if name else ABSENT,
                    interval(attack.cells["teacher"].auc) if attack and "teacher" in attack.cells else ABSENT,
                    difference(attack.comparison[student].auc) if attack and student in attack.comparison else ABSENT,
                    interval(result.validity.blind_auc),
                    f"{run.result.data.members} + {run.result.data.nonmembers}",
                )
            )
    notes = []
    if any(is_simultaneous(run.result, model) for run in report.runs for model in run.result.models):
        notes.append("The interval of the strongest attack is simultaneous over all attacks of its run.")
    if len({run.result.data.sha256 for run in report.runs}) > 1:
        notes.append("Runs on other records differ by their records too: the data's hashes stand under each run.")
    return Table("Runs side by side", head, rows, " ".join(notes))


def gates(result: AuditResult, declared: Mapping[str, Declaration], *, baseline: str = "") -> Table:
    """Every gate as judged, and where it was declared; `baseline` names the earlier run that some compare with."""
    head = ["gate", "status", "decided by", "value", "bound", "reason", *(["declared in"] if declared else [])]
    rows = [
        (
            gate.gate,
            STATUS_WORDS[gate.status],
            gate.deciding_attack or ABSENT,
            ABSENT if gate.value is None else f"{gate.value:.3f}",
            _bound(gate),
            gate.reason,
            *([_place(declared.get(gate.gate))] if declared else []),
        )
        for gate in result.verdict.gates
    ]
    note = (
        f"A gate fails on a lower bound corrected for {_counted(result.verdict.n_cells, 'scored cell')} "
        "and passes on a one-sided 95 % upper bound; between the two it is inconclusive."
    )
    if baseline:
        note += f" A gate on …-baseline limits how far that figure rose above {baseline}, on the same records."
    return Table("Gates", head, rows, note)


def _bound(gate: GateResult) -> str:
    if gate.bound is None or gate.level is None:
        return ABSENT
    return f"{gate.bound_side} {gate.bound:.3f} ({100 * gate.level:.4g} %)"


def _place(found: Declaration | None) -> str:
    return ABSENT if found is None else f"{found.path}:{found.line}"


def figures(result: AuditResult) -> Iterator[Table]:
    """Attacks x models, a table per metric that was measured: level, difference from the teacher, p-value."""
    yield _metric(result, "AUC", "auc", "The chance that a random member is scored above a random non-member.")
    for rate, words in ALL_RATES.items():
        if _is_measured(result, rate):
            yield _rate(result, rate, words)
    yield _metric(
        result,
        "Balanced accuracy",
        "balanced_accuracy",
        "Half of member success and non-member success at the threshold of the calibration part; 0.5 is guessing.",
    )
    yield Table(
        "Member / non-member success",
        *wording.success_table(result),
        "At the same threshold. A rise of one with an equal fall of the other is a shifted threshold, not a leak.",
    )


def _metric(result: AuditResult, title: str, metric: str, note: str) -> Table:
    return Table(title, *wording.table(result, metric), note)


def _rate(result: AuditResult, rate: str, words: str) -> Table:
    """True positive rates, and beside each the share of the non-members above its threshold."""
    head, rows = wording.table(result, f"tpr@{rate}")
    for position in range(len(result.models), 0, -1):
        head.insert(position + 1, "realised FPR")
        for row, attack in zip(rows, result.attacks.values(), strict=True):
            row.insert(position + 1, _realised(attack, list(result.models)[position - 1], rate))
    return Table(
        f"True positive rate at {words} false positive rate",
        head,
        rows,
        "Of all records, with exact bounds. The threshold is the highest score that leaves no more than this share of "
        "non-members above it; the realised rate is the share that it does leave.",
    )


def _realised(attack: AttackResult, model: str, rate: str) -> str:
    found = attack.cells[model].figures.get(f"tpr@{rate}")
    if found is None or found.realised_fpr is None:
        return ABSENT
    if found.realised_fpr_low is None or found.realised_fpr_high is None:
        return f"{found.realised_fpr:.4f}"
    return f"{found.realised_fpr:.4f} [{found.realised_fpr_low:.4f}, {found.realised_fpr_high:.4f}]"


def _is_measured(result: AuditResult, rate: str) -> bool:
    cells = [cell for attack in result.attacks.values() for cell in attack.cells.values()]
    return any((found := cell.figures.get(f"tpr@{rate}")) is not None and found.value is not None for cell in cells)


def detections(result: AuditResult) -> Iterator[Table]:
    """Per student: who detects which records, teacher, student, both or neither."""
    found_by = ("both", "teacher only", "student only", "neither")
    head = ("attack", *(f"{kind}: {who}" for kind in ("members", "non-members") for who in found_by))
    for student in _students(result):
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
            )


def _counts(found: TwoByTwo) -> tuple[str, ...]:
    return tuple(map(str, (found.both, found.teacher_only, found.student_only, found.neither)))


def supervision(result: AuditResult) -> Iterator[Table]:
    """Per student: members beside non-members, then how far they lie apart by quarter of the teacher's probability."""
    for title, (head, rows) in wording.supervision_tables(result).items():
        yield Table(f"{title[0].upper()}{title[1:]}", head, rows)


def validity(run: Run) -> Table:
    """The checks of the sets themselves, and how each is to be read."""
    result = run.result
    smallest, shared = result.power.smallest_detectable_auc, result.validity.overlap
    rows = [
        (
            f"blind classifier {name}: AUC",
            interval(found),
            "tells members from non-members by their texts alone, so it ought to be at 0.5",
        )
        for name, found in result.validity.blind.items()
    ]
    rows += [
        (
            f"reference alone ({model}), {attack}: AUC",
            interval(alone),
            "the reference saw neither set, so it ought to be at 0.5",
        )
        for model, by_attack in result.validity.reference_alone.items()
        for attack, alone in by_attack.items()
    ]
    rows += [(f"duplicates in --{name}", str(count), "kept once") for name, count in result.validity.duplicates.items()]
    if shared.max_share is not None:
        rows.append(
            (
                f"non-members that share more than 20 % of their {shared.n}-grams with members",
                f"{shared.n_above_20_percent} (largest share {100 * shared.max_share:.0f} %)",
                "they may be members in part",
            )
        )
    rows.append(
        (
            "smallest AUC that this run could have told from 0.5",
            ABSENT if smallest is None else f"{smallest:.3f}",
            f"{wording.power_level(result.power.level, result.power.cells)}, {100 * result.power.power:g} % power: "
            "a weaker leak may go unseen",
        )
    )
    return Table("Checks", ("check", "found", "how to read it"), rows)


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def utility(run: Run) -> Iterator[Table]:
    """Per student whose folder says how it was made: what it is worth on held-out records."""
    for name, model in run.result.models.items():
        made = model.distillation
        if made is not None and made.utility is not None:
            yield _utility(name, made, made.utility)


def _utility(student: str, made: Distillation, found: Utility) -> Table:
    models = list(dict.fromkeys([*found.nll, *found.bits_per_byte, *found.perplexity]))
    rows = [
        (words, *(interval(figures.get(model)) for model in models))
        for words, figures in (
            ("loss, nats per token", found.nll),
            ("bits per byte", found.bits_per_byte),
            ("perplexity", found.perplexity),
        )
    ]
    agreement = ""
    if found.agreement is not None:
        top1, forward_kl = interval(found.agreement.top1), interval(found.agreement.forward_kl)
        agreement = (
            f" Share of tokens with the teacher's first choice: {top1}; forward KL: {forward_kl} nats per token."
        )
    how = (
        ""
        if not made.objective or made.epochs is None
        else f" Distilled with {made.objective}, {_counted(made.epochs, 'epoch')}."
    )
    note = f"{found.n_records} held-out records, {found.n_tokens} tokens; lower is better.{agreement}{how}"
    return Table(f"Utility of {student}", ("figure", *models), rows, note)


def _students(result: AuditResult) -> list[str]:
    return [name for name in result.models if name != "teacher"]
