"""JUnit XML, for CI's test view: a suite per run and attack, a case per gate.

Suites and classes carry the run's name, so that no two cases of a report, or of two reports on different runs, agree.

A failure is a limit exceeded, an error a question left open, a skipped case a cell that is not applicable, a failure
that is waived, or a question that is open beside a waived failure; the `type` of a skipped case says which. A case
that passes carries its figure too, as `system-out`; the properties of every case hold value, bound, level and limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from xml.etree import ElementTree

from kdaudit.report.reading import Report, Run
from kdaudit.report.text import MAX_NAME, plain
from kdaudit.results import CellFinding, GateResult
from kdaudit.verdict.gates import format_limit
from kdaudit.verdict.sentences import figures, lies_above
from kdaudit.waivers import Waiver

Outcome = Literal["passed", "failure", "error", "skipped"]
VERDICT = "verdict"
"""The suite of gates of which no attack was applicable, and of a run without gates."""


@dataclass(frozen=True, slots=True)
class GateCase:
    """One gate as one attack sees it."""

    suite: str
    name: str
    outcome: Outcome
    kind: str = ""
    message: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Figures, reason and next step by name."""


def render_junit(report: Report) -> str:
    """The gates of a report as JUnit XML."""
    suites: dict[tuple[str, str], list[GateCase]] = {}
    for name, run in zip(_names(report), report.runs, strict=True):
        for case in _cases(run, report.waivers):
            suites.setdefault((name, case.suite), []).append(case)
    root = ElementTree.Element("testsuites", {"name": "kdaudit", **_counts([c for s in suites.values() for c in s])})
    for (name, attack), cases in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": f"{name}: {plain(attack)}", **_counts(cases)})
        for case in cases:
            _append(suite, case, name)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _names(report: Report) -> list[str]:
    """One for every run, short and harmless; numbered where two are the same by now."""
    shown = [plain(run.name, limit=MAX_NAME) for run in report.runs]
    return [f"{name} ({position})" if shown.count(name) > 1 else name for position, name in enumerate(shown, start=1)]


def _cases(run: Run, waivers: Mapping[str, Waiver]) -> Iterator[GateCase]:
    """Suite by suite."""
    verdict = run.result.verdict
    for attack in run.result.attacks:
        for gate in verdict.gates:
            yield from (_case(gate, cell, waivers) for cell in gate.cells if cell.attack == attack)
    if not verdict.gates:
        yield GateCase(VERDICT, "gates", "skipped", "not_gated", verdict.sentence)
    for gate in verdict.gates:
        others = [cell for cell in gate.cells if cell.attack not in run.result.attacks]  # of the baseline alone
        yield from (_case(gate, cell, waivers) for cell in others)
        if gate.status == "inconclusive" and all(cell.status == "not_applicable" for cell in gate.cells):
            yield GateCase(VERDICT, gate.gate, "error", "inconclusive", f"{gate.reason}. {gate.next_step}")


def _case(gate: GateResult, cell: CellFinding, waivers: Mapping[str, Waiver]) -> GateCase:
    """What one cell says: its own figures, reason and next step, whatever decided the gate."""
    name = gate.gate if cell.label == cell.attack else f"{gate.gate} ({cell.label})"
    if cell.status == "not_applicable":
        return GateCase(cell.attack, name, "skipped", "not_applicable", cell.reason, _facts(gate, cell))
    told = figures(gate, cell, "at least" if cell.bound_side == "lower" else "at most")
    limit, waiver = format_limit(gate.limit), waivers.get(gate.gate) if gate.status == "waived" else None
    if cell.status == "pass":
        return GateCase(cell.attack, name, "passed", "", f"{told}, within the limit {limit}.", _facts(gate, cell))
    # the gate's advice is about what decided it: a cell without its own, of an earlier version, takes no other's
    is_like_the_gate = gate.status == cell.status or (gate.status == "waived" and cell.status == "fail")
    advice = cell.next_step or (gate.next_step if is_like_the_gate else "")
    facts = _facts(gate, cell, advice)
    if cell.status == "inconclusive":
        words = f"{told}, the limit is {limit}: {cell.reason}. {advice}"
        return GateCase(cell.attack, name, "error" if waiver is None else "skipped", "inconclusive", words, facts)
    words = f"{told}, above the limit {limit}."
    if waiver is not None:
        words = f"{words} Waived until {waiver.expires}: {waiver.reason}"
        facts = {**_facts(gate, cell), "waived until": str(waiver.expires), "waived because": waiver.reason}
        return GateCase(cell.attack, name, "skipped", "waived", words, facts)
    return GateCase(cell.attack, name, "failure", "limit_exceeded", f"{words} {advice}", facts)


def _facts(gate: GateResult, cell: CellFinding, next_step: str = "") -> Mapping[str, str]:
    """The figures of a cell, and why they mean what they mean, one by one; what is absent is left out."""
    found = {
        "value": "" if cell.value is None else f"{cell.value:.6g}",
        "bound": "" if cell.bound is None else f"{cell.bound:.6g}",
        "bound side": cell.bound_side or "",
        "level": "" if cell.level is None else f"{cell.level:.6g}",
        "limit": format_limit(gate.limit),
        "reason": cell.reason or (lies_above(cell.label, gate.limit) if cell.status == "fail" else ""),
        "next step": next_step,
    }
    return {name: text for name, text in found.items() if text}


def _counts(cases: list[GateCase]) -> dict[str, str]:
    counted = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    numbers = {key: sum(case.outcome == outcome for case in cases) for key, outcome in counted.items()}
    return {key: str(number) for key, number in {"tests": len(cases), **numbers}.items()} | {"time": "0"}


def _append(suite: ElementTree.Element, case: GateCase, run: str) -> None:
    attributes = {"classname": f"kdaudit.{run}.{plain(case.suite)}", "name": plain(case.name), "time": "0"}
    element = ElementTree.SubElement(suite, "testcase", attributes)
    facts = {name: plain(text) for name, text in case.facts.items()}
    if facts:
        properties = ElementTree.SubElement(element, "properties")
        for fact, text in facts.items():
            ElementTree.SubElement(properties, "property", {"name": fact, "value": text})
    if case.outcome == "passed":
        ElementTree.SubElement(element, "system-out").text = plain(case.message)
        return
    outcome = ElementTree.SubElement(element, case.outcome, {"type": case.kind, "message": plain(case.message)})
    if facts:  # some viewers show the text of the element alone
        outcome.text = "\n".join(f"{fact}: {text}" for fact, text in facts.items())
