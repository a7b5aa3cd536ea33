"""The verdict in words, for a reader who has not read the rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from kdaudit.config import LONE, TEACHER
from kdaudit.results import CellFinding, GateResult, Validity
from kdaudit.verdict.gates import Gate, format_limit

NOT_GATED = "Not gated: no limit was set, so nothing passed or failed."
ALL_BELOW = "every upper bound lies at or below the limit"
NOT_IN_RUN = "not measured in this run"
NOT_APPLICABLE = "not applicable"
NO_VALUE = "no value was measured"
NO_NULLS = "above the limit, but not held against the start or a classifier without a model"
NULLS = {  # the start first: a true positive rate is held against it alone, where there is one
    "start": "the model's start, which saw neither set",
    "blind": "a classifier that never sees a model",
}
WIDE = "the interval reaches to both sides of the limit"
NOT_IN_BASELINE = "not measured in the baseline"
OTHER_VERSION = "the baseline measured it with another version of the attack"
OTHER_SETTINGS = "the baseline measured it with other settings of the attack (--set)"

SAME_SOURCE = "Draw members and non-members from one source, so that only membership differs, and audit again."
MEASURE_IT = (
    "Give the run what the reason names as lacking (a reference, more records, records that no model saw, the "
    "baseline's data), or gate another metric or attack."
)
SCORE_THEM = "See in scores.parquet which records have no score, take them out of the data, and audit again."
TO_BEAT = {
    "start": (
        "Audit with more records, drawn from one source: what the start tells apart too says nothing about membership."
    ),
    "blind": "Compare with the model before it saw the members (--reference), on records drawn from one source.",
}
MEASURE_AGAIN = "Run `kdaudit attack` again: these results come from an earlier version, or lack a cell."
MEMBERS, NONMEMBERS = "members", "non-members"
MAX_FACTOR = 100
"""Where more times the records would be needed, nobody audits again."""
NARROW = "Audit with more records: four times as many halve the interval."
PAIR_THEM = (
    "Keep scores.parquet beside both results.json: paired over records the interval is narrower. Or audit with more "
    "records."
)
SINCE_BASELINE = (
    "Find what changed since the baseline (epochs, hard-label weight, data), or accept the rise: make this run the "
    "new baseline."
)


def distinct(value: float, *others: float, form: str = "", digits: int = 3) -> str:
    """The value with as many digits as tell it from what it is held against, up to six: 0.1001 above 0.1."""
    for n in range(digits, 6):
        text = f"{value:{form}.{n}f}"
        if all(text != f"{other:{form}.{n}f}" for other in others if other != value):
            return text
    return f"{value:{form}.6f}"


def set_a_gate(subject: str) -> str:
    """What to do where no limit was set on a run about `subject`."""
    return f"Set a limit to get a verdict, for example --gate '{subject}.auc <= 0.6'."


def name_the_attack(gate: Gate) -> str:
    """What to do where a gate over all attacks covers too few cells."""
    named = replace(gate, attack="loss")
    return f"Run more attacks (--attack paper), or name the attack in the gate, as in '{named}'."


def more_records(n: int, m: int, n_required: int) -> str:
    """What to do where a class of `n` members or of `m` non-members is too small."""
    lacking = [
        f"{n_required - found:,} more {words}" for found, words in ((n, MEMBERS), (m, NONMEMBERS)) if found < n_required
    ]
    return (
        f"Audit with more records, at least {' and '.join(lacking)}: {n_required} scored ones of each class are "
        "needed, in the evaluation part alone where the metric needs a threshold."
    )


def more_nonmembers(m: int, n_required: int, metric: str) -> str:
    """What to do where `metric` is not measured, since there are but `m` non-members."""
    return f"Add at least {n_required - m:,} non-members: {metric} needs {n_required:,}, and there are {m:,}."


def enough_records(n: int, m: int, factor: float) -> str:
    """What to do where `factor` times as many records would bring the interval to one side of the limit."""
    if factor > MAX_FACTOR:
        return (
            f"The figure lies so close to the limit that more than {MAX_FACTOR} times as many records would be needed. "
            "Gate another metric, or set another limit."
        )
    needed = " and about ".join(
        f"{_rounded_up(factor * found):,} {words}" for found, words in ((n, MEMBERS), (m, NONMEMBERS))
    )
    return (
        f"Audit with more records: about {needed} settle it if the figure stays where it is, since four times as many "
        "halve the interval."
    )


def _rounded_up(count: float) -> int:
    """To two digits."""
    unit: int = 10 ** max(math.floor(math.log10(count)) - 1, 0)
    return math.ceil(count / unit) * unit


def reduce(subject: str) -> str:
    """What to do about a leak of `subject`."""
    if subject in {TEACHER, LONE}:
        return f"Train the {subject} for fewer epochs, then audit again on the same records."
    return "Distill again with fewer epochs or a lower weight on the hard label, then audit on the same records."


def lies_above(label: str, limit: float) -> str:
    """Why a gate failed."""
    return f"the lower bound of {label} lies above the limit {format_limit(limit)}"


def too_few_cells(n_scored: int) -> str:
    """Why a gate over all attacks is not settled by so few of them."""
    scored = "nothing was measured" if n_scored == 0 else "only one cell was measured"
    return f"{scored}: too little for a gate over all attacks"


def too_few_records(n: int, m: int, n_required: int) -> str:
    """Why a cell of `n` members and `m` non-members is not judged."""
    return f"{n} members and {m} non-members, {n_required} of each needed"


def unscored(share: float) -> str:
    """Why a cell with such a share of records without a score is not judged."""
    return f"{100 * share:.1f} % of the records have no score"


def not_beyond(null: str, reason: str) -> str:
    """Why a cell above its limit fails no gate: it does not beat what saw neither set, or was not compared with it."""
    if reason:
        return f"above the limit, but not held against {NULLS[null]}: {reason}"
    return f"above the limit, but not surely above {NULLS[null]}"


def not_comparable(validity: Validity) -> str:
    """Why no gate can be judged where a validity check failed."""
    if validity.reasons:
        return "; ".join(validity.reasons)
    blind = validity.blind_auc.value
    figure = "" if blind is None else f": AUC {blind:.3f}"
    return f"members and non-members differ without any model ({validity.blind_name}{figure})"


def not_gated_nor_comparable(validity: Validity) -> str:
    """The verdict without gates on a run whose figures say nothing."""
    return f"{NOT_GATED} No figure says anything about membership: {not_comparable(validity)}."


def comparable(validity: Validity) -> str:
    """What to do where a validity check failed: first what is known to set the sets apart."""
    mends = "".join(f"{words[:1].upper()}{words[1:]}. " for words in validity.formats)
    return f"{mends}{SAME_SOURCE}"


def grouped(reasons: Sequence[tuple[str, str]]) -> str:
    """`(words, label)` pairs as one text that gives every reason once: `words (label, label); words (label)`."""
    labels: dict[str, list[str]] = {}
    for words, label in reasons:
        labels.setdefault(words, []).append(label)
    return "; ".join(f"{words} ({', '.join(names)})" for words, names in labels.items())


def without(reason: str, left_out: Sequence[str]) -> str:
    """The reason, and which cells the gate says nothing about since they are not applicable."""
    return f"{reason}; not applicable, so not judged: {', '.join(left_out)}" if left_out else reason


def sentence(status: str, gates: Sequence[GateResult]) -> str:
    """The verdict in one sentence; `gates` holds at least one of this status, or of none but waived ones."""
    matching = [gate for gate in gates if gate.status == status]
    accepted = [gate for gate in gates if gate.status == "waived"]
    named = ", ".join(gate.gate for gate in accepted)
    if not matching:
        return f"Pass by waiver alone: {named} {'fails' if len(accepted) == 1 else 'fail'}, but this is waived."
    also = f" Waived, though failed: {named}." if accepted else ""
    others = f" ({len(matching)} of {len(gates)} gates)" if len(gates) > 1 else ""
    if status == "inconclusive":
        return f"Inconclusive{others}: {matching[0].gate}: {matching[0].reason}.{also}"
    if status == "fail":
        worst = max(matching, key=_excess)
        return f"Fail{others}: {_deciding(worst, 'at least')}, above the limit {format_limit(worst.limit)}.{also}"
    closest = max(matching, key=_excess)
    skipped = dict.fromkeys(entry.partition(":")[0] for gate in matching for entry in gate.skipped)
    left_out = f" Not applicable, so not judged: {', '.join(skipped)}." if skipped else ""
    told = _deciding(closest, "at most")
    return (
        f"Pass{others}, for these attacks on these records: the closest, {told}, keeps the limit "
        f"{format_limit(closest.limit)}.{left_out}{also}"
    )


def _excess(gate: GateResult) -> float:
    return -math.inf if gate.bound is None else gate.bound - gate.limit


def figures(gate: GateResult, cell: CellFinding, side: str) -> str:
    """`student.auc is 0.936 under reference, at least 0.927 (99.58 % bound)`; of a rise, by how much it changed.

    A cell may have no bound, or not even a value.

    Args:
        gate: as judged.
        cell: one that it covers.
        side: of the bound: `at least` or `at most`.
    """
    metric, since, _ = gate.metric.partition("-baseline")
    if cell.value is None:
        return f"{gate.subject}.{metric} has no value under {cell.label}"
    level = f"{100 * (cell.level or 0):.4g} %"
    if since:
        bounded = (
            "" if cell.bound is None else f", by {side} {distinct(cell.bound, gate.limit, form='+')} ({level} bound)"
        )
        value = distinct(cell.value, gate.limit, form="+")
        return f"{gate.subject}.{metric} changed by {value} under {cell.label} since the baseline{bounded}"
    bounded = "" if cell.bound is None else f", {side} {distinct(cell.bound, gate.limit)} ({level} bound)"
    return f"{gate.subject}.{metric} is {distinct(cell.value, gate.limit)} under {cell.label}{bounded}"


def _deciding(gate: GateResult, side: str) -> str:
    label = gate.deciding_attack or ""
    cell = CellFinding(label, label, "pass", "", gate.value, gate.bound, gate.bound_side, gate.level)
    return figures(gate, cell, side)
