"""The rules by which measured intervals settle gates: absence of evidence is never a pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from kdaudit.config import LONE, TEACHER
from kdaudit.errors import ExitCode
from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import Difference, Estimate, lower_bound, upper_bound
from kdaudit.results import AttackResult, Cell, CellFinding, Comparison, GateResult, Validity, Verdict
from kdaudit.verdict import sentences
from kdaudit.verdict.gates import DIFFERENCE, Gate

ALPHA = 0.05  # chance that a run whose every true value lies on its limit fails, and that a wrong pass is given
MIN_RECORDS = 200  # scored records of either class in the part that the metric uses
MAX_UNSCORED = 0.01  # share of records without a score
MIN_CELLS = 2  # scored cells under a gate over all attacks

Status = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One cell under a gate: an attack on a model, or on a student minus the teacher."""

    attack: str
    label: str
    """The attack, with the student's name where a difference covers several."""
    is_requested: bool
    """Asked for by name, by the run or by the gate."""
    reason: str = ""
    """Why the cell is not applicable, or why there is no figure."""
    is_applicable: bool = True
    figure: Estimate | Difference | None = None
    to_beat: Mapping[str, Difference] = field(default_factory=dict)
    """By null, `start` or `blind`: how far the attack lies above it in the same metric. A failure needs one at least,
    and every lower bound above 0."""
    unscored_share: float = 0.0
    narrow: str = sentences.NARROW
    """What to do where the interval reaches to both sides of the limit."""

    @property
    def is_scored(self) -> bool:
        """Whether there is a number to hold against the limit."""
        return self.is_applicable and self.figure is not None and self.figure.value is not None


@dataclass(frozen=True, slots=True)
class CellJudgement:
    """What one cell says about its gate, and the bound that says so."""

    cell: Measurement
    status: Status
    words: str = ""
    """Why it is inconclusive."""
    next_step: str = ""
    bound: float | None = None
    side: Literal["lower", "upper"] | None = None
    level: float | None = None
    factor: float | None = None
    """How many times as many records would settle it, if the figure stays where it is."""


def judge(
    attacks: Mapping[str, AttackResult],
    validity: Validity,
    gates: Sequence[Gate],
    *,
    rises: Sequence[tuple[Gate, Sequence[Measurement]]] = (),
    pass_level: float = 1 - ALPHA,
) -> Verdict:
    """Hold every gate against the intervals.

    A gate fails where some cell's lower bound at level 1 - 0.05/K lies above the limit and the attack beats what saw
    neither set (`nulls_to_beat`); K counts the scored cells of all gates, so that one gate per attack does not dodge
    the correction. It passes where every cell's 95 % upper bound is at or below the limit and nothing asked for is
    missing (an intersection-union test: no correction). Else, and always where the validity check failed, it is
    inconclusive.

    Args:
        attacks: the run's results by attack.
        validity: whether the sets can be compared at all.
        gates: in the order in which the verdict lists them; none: not gated.
        rises: gates on the rise since a baseline with the cells of each; see `verdict.baseline`.
        pass_level: of the upper bounds; higher where one of several runs is chosen because it passes.
    """
    covered = [*((gate, _measurements(gate, attacks)) for gate in gates), *rises]
    if not covered:
        if validity.status == "failed":
            words, next_step = sentences.not_gated_nor_comparable(validity), sentences.comparable(validity)
        else:
            is_alone = any(LONE in result.cells for result in attacks.values())
            words, next_step = sentences.NOT_GATED, sentences.set_a_gate(LONE if is_alone else "student")
        return Verdict("not_gated", sentence=words, next_step=next_step)
    n_cells = sum(cell.is_scored for _, cells in covered for cell in cells)
    judged = [_judge_gate(gate, cells, 1 - ALPHA / max(n_cells, 1), pass_level) for gate, cells in covered]
    if validity.status == "failed":
        words = sentences.not_comparable(validity)
        next_step = sentences.comparable(validity)
        judged = [_all_open(replace(gate, reason=words, next_step=next_step), words) for gate in judged]
    return conclude(judged, n_cells)


def conclude(gates: Sequence[GateResult], n_cells: int) -> Verdict:
    """The verdict on a run with at least one gate: any failure fails it, else any open question leaves it open."""
    statuses: Sequence[Status] = ("fail", "inconclusive", "pass")
    found = {gate.status for gate in gates}
    status = next((status for status in statuses if status in found), statuses[-1])  # else every gate is waived
    next_step = next((gate.next_step for gate in gates if gate.status == status), "")
    return Verdict(status, tuple(gates), n_cells, sentences.sentence(status, gates), next_step)


def exit_code(verdict: Verdict, *, exit_zero: bool = False) -> ExitCode:
    """What the process ends with; `exit_zero` turns a failed or inconclusive verdict into PASSED."""
    if exit_zero or verdict.status in ("pass", "not_gated"):
        return ExitCode.PASSED
    return ExitCode.GATE_FAILED if verdict.status == "fail" else ExitCode.INCONCLUSIVE


def _measurements(gate: Gate, attacks: Mapping[str, AttackResult]) -> list[Measurement]:
    """The cells that a gate covers; one that ought to be there and is not comes without a figure."""
    names = list(attacks) if gate.attack is None else [gate.attack]
    return [cell for name in names for cell in _of_attack(gate, name, attacks.get(name))]


def _of_attack(gate: Gate, name: str, result: AttackResult | None) -> list[Measurement]:
    absent = Measurement(name, name, is_requested=True, reason=sentences.NOT_IN_RUN)
    if result is None:
        return [absent]
    if gate.subject != DIFFERENCE:
        cell = result.cells.get(gate.subject)
        return [absent] if cell is None else [_measurement(gate, name, name, result, cell, [gate.subject])]
    is_one = len(result.comparison) == 1
    return [
        _measurement(gate, name, name if is_one else f"{name} on {student}", result, comparison, [student, TEACHER])
        for student, comparison in result.comparison.items()
    ] or [absent]


def _measurement(
    gate: Gate, attack: str, label: str, result: AttackResult, part: Cell | Comparison, models: Sequence[str]
) -> Measurement:
    """`part` holds the figure; `models` are those behind it, first the one that must beat its nulls."""
    is_requested = result.requested or gate.attack is not None
    if part.status == "not_applicable":
        return Measurement(attack, label, is_requested, part.reason or sentences.NOT_APPLICABLE, is_applicable=False)
    figure: Estimate | Difference | None = part.figures.get(gate.metric)
    cells = [result.cells[model] for model in models if model in result.cells]
    return Measurement(
        attack,
        label,
        is_requested,
        figure.reason if figure is not None and figure.reason else sentences.NO_VALUE,
        figure=figure,
        to_beat=nulls_to_beat(cells[0], gate.metric) if len(cells) == len(models) else {},
        unscored_share=max(map(_unscored_share, cells), default=0.0),
    )


def nulls_to_beat(cell: Cell, metric: str) -> dict[str, Difference]:
    """What saw neither set and must be beaten before a gate fails, like held against like.

    An AUC and a balanced accuracy must lie above those of the blind classifier and, where there is a start, above the
    start's. A TPR must lie above that of the start at the same rate, or of the blind classifier where there is none:
    where few members are exposed the AUCs hardly differ.

    Args:
        cell: as measured.
        metric: the name of one of METRICS.
    """
    names = [name for name in sentences.NULLS if name in cell.nulls]
    if METRICS[metric].beats_start_alone:
        names = names[:1]
    by = METRICS[metric].null_metric or metric
    return {name: cell.nulls[name].get(by, Difference(None, reason=sentences.NO_VALUE)) for name in names}


def _unscored_share(cell: Cell) -> float:
    n_scored = 0 if cell.auc is None else cell.auc.n + cell.auc.m
    return cell.unscored / max(cell.unscored + n_scored, 1)


def _judge_gate(gate: Gate, cells: Sequence[Measurement], level: float, pass_level: float) -> GateResult:
    findings = [_finding(cell, gate, level, pass_level) for cell in cells if cell.is_applicable or cell.is_requested]
    status, reason, next_step, deciding = _settle(gate, findings)
    figure = deciding.cell.figure if deciding else None
    left_out = [cell.label for cell in cells if not cell.is_applicable and not cell.is_requested]
    told = {finding.cell.label: _told(finding) for finding in findings}
    absent = {cell.label: CellFinding(cell.attack, cell.label, "not_applicable", cell.reason) for cell in cells}
    row = GateResult(
        str(gate),
        status,
        sentences.without(reason, left_out),
        gate.subject,
        gate.figure,
        gate.limit,
        deciding_attack=deciding.cell.label if deciding else None,
        value=figure.value if figure else None,
        bound=deciding.bound if deciding else None,
        bound_side=deciding.side if deciding else None,
        level=deciding.level if deciding else None,
        skipped=tuple(f"{cell.label}: {cell.reason}" for cell in cells if not cell.is_applicable),
        cells=tuple({**absent, **told}.values()),
        next_step=next_step,
    )
    is_open = status == "inconclusive" and not any(finding.status == status for finding in findings)
    return _all_open(row, reason) if is_open else row


def _told(finding: CellJudgement) -> CellFinding:
    cell, figure = finding.cell, finding.cell.figure
    value = figure.value if figure else None
    return CellFinding(
        cell.attack, cell.label, finding.status, finding.words, value, finding.bound, finding.side, finding.level,
        finding.next_step,
    )  # fmt: skip


def _all_open(gate: GateResult, words: str) -> GateResult:
    """An inconclusive gate none of whose cells settles anything, whatever its own interval says."""
    cells = [
        cell
        if cell.status == "not_applicable"
        else replace(cell, status="inconclusive", reason=words, next_step=gate.next_step)
        for cell in gate.cells
    ]
    return replace(gate, status="inconclusive", cells=tuple(cells))


def _settle(gate: Gate, findings: Sequence[CellJudgement]) -> tuple[Status, str, str, CellJudgement | None]:
    """Status, reason, next step and the deciding finding: one failing cell is enough, a pass needs them all."""
    by_bound = sorted(findings, key=lambda one: (_or_least(one.bound), _or_least(_value_of(one))), reverse=True)
    failing = [finding for finding in by_bound if finding.status == "fail"]
    if failing:
        return "fail", sentences.lies_above(failing[0].cell.label, gate.limit), failing[0].next_step, failing[0]
    open_findings = [finding for finding in by_bound if finding.status == "inconclusive"]
    if open_findings:
        reason = sentences.grouped([(finding.words, finding.cell.label) for finding in open_findings])
        return "inconclusive", reason, _to_settle(open_findings, gate.limit).next_step, open_findings[0]
    n_scored = len(by_bound)
    if n_scored < (MIN_CELLS if gate.attack is None and not gate.since_baseline else 1):
        deciding = by_bound[0] if by_bound else None
        return "inconclusive", sentences.too_few_cells(n_scored), sentences.name_the_attack(gate), deciding
    return "pass", sentences.ALL_BELOW, "", by_bound[0]


def _value_of(finding: CellJudgement) -> float | None:
    return finding.cell.figure.value if finding.cell.figure else None


def _or_least(value: float | None) -> float:
    return -math.inf if value is None else value


def _to_settle(findings: Sequence[CellJudgement], limit: float) -> CellJudgement:
    """The finding that says what settles the gate: one cell above its limit is enough, below it all are needed."""
    if any(finding.factor is None for finding in findings):
        return next(finding for finding in findings if finding.factor is None)
    above = [finding for finding in findings if finding.cell.figure and (finding.cell.figure.value or 0.0) > limit]
    if above:
        return min(above, key=lambda finding: finding.factor or 0.0)
    return max(findings, key=lambda finding: finding.factor or 0.0)


def _factor(figure: Estimate | Difference, limit: float, lower: float | None, upper: float | None) -> float | None:
    """How many times as many records bring the bound beyond the limit: an interval shrinks with the root of them."""
    value = figure.value
    bound = None if value is None else upper if value <= limit else lower
    if value is None or bound is None:
        return None
    return math.inf if value == limit else ((bound - value) / (limit - value)) ** 2


def _finding(cell: Measurement, gate: Gate, level: float, pass_level: float) -> CellJudgement:
    """What one cell says; `level` is the corrected one at which it may fail its gate, `pass_level` that of a pass."""
    figure, limit = cell.figure, gate.limit
    if not cell.is_scored or figure is None:
        return CellJudgement(cell, "inconclusive", cell.reason, _measure_it(figure, gate))
    if min(figure.n, figure.m) < MIN_RECORDS:
        words = sentences.too_few_records(figure.n, figure.m, MIN_RECORDS)
        return CellJudgement(cell, "inconclusive", words, sentences.more_records(figure.n, figure.m, MIN_RECORDS))
    if cell.unscored_share > MAX_UNSCORED:
        return CellJudgement(cell, "inconclusive", sentences.unscored(cell.unscored_share), sentences.SCORE_THEM)
    lower, upper = lower_bound(figure, level, gate.range), upper_bound(figure, pass_level, gate.range)
    if lower is not None and lower > limit:
        if not cell.to_beat:
            return CellJudgement(
                cell, "inconclusive", sentences.NO_NULLS, sentences.MEASURE_AGAIN, lower, "lower", level
            )
        for null, beyond in cell.to_beat.items():
            least = lower_bound(beyond, 1 - ALPHA)
            if least is None or least <= 0:
                words = sentences.not_beyond(null, "" if least is not None else beyond.reason)
                return CellJudgement(cell, "inconclusive", words, sentences.TO_BEAT[null], lower, "lower", level)
        next_step = sentences.SINCE_BASELINE if gate.since_baseline else sentences.reduce(gate.subject)
        return CellJudgement(cell, "fail", "", next_step, lower, "lower", level)
    if upper is not None and upper <= limit:
        return CellJudgement(cell, "pass", bound=upper, side="upper", level=pass_level)
    factor = _factor(figure, limit, lower, upper) if cell.narrow == sentences.NARROW else None
    narrow = cell.narrow if factor is None else sentences.enough_records(figure.n, figure.m, factor)
    return CellJudgement(cell, "inconclusive", sentences.WIDE, narrow, upper, "upper", pass_level, factor)


def _measure_it(figure: Estimate | Difference | None, gate: Gate) -> str:
    """What to do where there is no figure: how many records are missing, where that is why."""
    metric = METRICS[gate.metric]
    if figure is not None and 0 < figure.m < metric.least_nonmembers:
        return sentences.more_nonmembers(figure.m, metric.least_nonmembers, metric.short)
    return sentences.MEASURE_IT
