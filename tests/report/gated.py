"""A report whose gates came out in every way, for the formats that show gates alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from kdaudit.report.reading import Declaration, Report, Run
from kdaudit.results import AttackResult, AuditedModel, AuditResult, Comparison, Power, Validity, Verdict
from kdaudit.verdict import judge, parse_gate
from kdaudit.verdict.baseline import rises
from kdaudit.verdict.waivers import waive, waivers_by_gate
from kdaudit.waivers import Waiver
from tests.verdict.audits import NO_REFERENCE, VALID, attack, cell, gain, shares
from tests.verdict.test_baseline import CONFIG, DATA, scored

ROOT = Path("/repository")
FILE = ROOT / "audit" / "kdaudit.toml"
MODELS = {name: AuditedModel(name, 9) for name in ("teacher", "student")}
HOSTILE = (
    "<script>alert(1)</script>", "a|b", "%0A::error::forged", "]]>", "\u202egnp.exe", "x" * 10_000,
    "a\r\nb\x00\x1b[31m", "[click](https://example.org)", "&lt;", "\udcff", "-->", '" onload="x',
    "::warning file=x::forged",
)  # fmt: skip
"""What a path, a name or the reason of a waiver may hold."""


def leaky() -> dict[str, AttackResult]:
    """A student that leaks under loss, clearly more than its teacher, and cannot be attacked by reference."""
    compared = {"student": Comparison("ok", figures={"auc": gain(0.1)})}
    absent = {"student": Comparison("not_applicable", "no reference was given")}
    return {
        "loss": attack(cell(shares(0.7)), comparison=compared),
        "zlib": attack(cell(shares(0.55)), comparison={"student": Comparison("ok", figures={"auc": gain(0.015)})}),
        "reference": attack(NO_REFERENCE, teacher=NO_REFERENCE, comparison=absent),
    }


def audit(
    gates: Sequence[str], *, attacks: Mapping[str, AttackResult] | None = None, validity: Validity = VALID
) -> AuditResult:
    found = leaky() if attacks is None else attacks
    verdict = judge(found, validity, [parse_gate(gate) for gate in gates])
    return AuditResult("0.1.0", MODELS, DATA, found, validity, Power(0.527), {}, verdict, CONFIG)


def report(*results: AuditResult, waived: str = "", reason: str = "accepted by the board", name: str = "run") -> Report:
    """A report of these audits; `waived` names a gate of theirs, and the file declares the gate on the student."""
    waivers = {}
    if waived:
        waiver = Waiver(waived, reason, date(2030, 1, 31), FILE, 7)
        waivers = waivers_by_gate([waiver], {gate.gate for result in results for gate in result.verdict.gates})
    runs = [
        Run(
            name if position == 0 else f"{name}-{position + 1}",
            ROOT / "runs" / (name if len(name) < 200 else "long") / "results.json",
            replace(result, verdict=waive(result.verdict, waivers)),
        )
        for position, result in enumerate(results)
    ]
    return Report(tuple(runs), {"student.auc<=0.6": Declaration(FILE, 3)}, waivers, root=ROOT)


GATES = ("student.auc <= 0.6", "difference.auc <= 0.02", "teacher.auc <= 0.6", "student.tpr@0.01 <= 0.05")


def every_way() -> Report:
    """Failed, waived, inconclusive and passed gates, not applicable cells, and a rise since a baseline."""
    now = replace(audit(GATES), attacks={"loss": replace(leaky()["loss"], cells={"student": scored(0.75)})})
    then = replace(now, attacks={"loss": replace(now.attacks["loss"], cells={"student": scored(0.6)})})
    student = {"student": MODELS["student"]}
    risen = rises(replace(now, models=student), replace(then, models=student), tolerance=0.02)
    judged = judge(leaky(), VALID, [parse_gate(gate) for gate in GATES], rises=risen)
    return report(replace(audit(GATES), verdict=judged), waived="difference.auc <= 0.02")


NOT_GATED = Verdict("not_gated", sentence="Not gated: no limit was set, so nothing passed or failed.")
