"""A comparison of mitigations with every finding, for the tests of its reports."""

from __future__ import annotations

import math
from dataclasses import replace

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.excess import SupervisionEffect
from kdaudit.metrics.frontier import ALL, BEYOND, Beside, Finding, Placed, PlainPoint, Point
from kdaudit.results import AttackResult, AuditedModel, Cell, ComparedRecords, Comparison, GateResult, Overlap, Validity
from kdaudit.results.mitigation import Arm, Leak, Mitigation, Student

TOO_FEW = "needs 99 held-out records, there are 50"
ABSENT = Placed(None, {}, "no evidence", TOO_FEW)


def audit(auc: float) -> AttackResult:
    """Of a teacher and two students of that AUC, with intervals from which any bound can be read."""
    cells = {name: cell(value) for name, value in (("teacher", 0.7), ("student", auc), ("student-2", auc))}
    found = Difference(auc - 0.7, auc - 0.72, auc - 0.68, n=500, m=500, se=0.01)
    return AttackResult(
        1, False, cells, dict.fromkeys(("student", "student-2"), Comparison("ok", figures={"auc": found})), {}, {}, {}
    )


def cell(auc: float) -> Cell:
    beyond_blind = Difference(auc - 0.51, auc - 0.53, auc - 0.49, n=500, m=500, se=0.01)
    figure = Estimate(auc, auc - 0.02, auc + 0.02, 500, 500, logit_value=math.log(auc / (1 - auc)), logit_se=0.05)
    return Cell("ok", figures={"auc": figure}, nulls={"blind": {"auc": beyond_blind}})


GAPS = (0.02, -0.02)


def student(
    seed: int, folder: str, nll: float, auc: float, change: float | None = None, *, epoch: int | None = None
) -> Student:
    leak = Leak(
        {"auc": Estimate(auc, auc - 0.02, auc + 0.02, 500, 500), "tpr@0.01": Estimate(None, reason=TOO_FEW)},
        {}
        if change is None
        else {
            "auc": Difference(change, change - 0.01, change + 0.01, 0.01, n=500, m=500, se=0.005),
            "tpr@0.01": Difference(None, reason=TOO_FEW),
        },
    )
    return Student(
        seed, folder, Estimate(nll, nll - 0.1, nll + 0.1, 500), Estimate(nll / 3, n=500), {"loss": leak}, epoch
    )


def beside(n: int, leak: float, stair: float) -> Beside:
    gap = leak - stair
    next_stair = stair + 0.1
    return Beside(
        n, leak, stair, Difference(gap, gap - 0.03, gap + 0.03, 0.004), next_stair,
        Difference(leak - next_stair, leak - next_stair - 0.03, leak - next_stair + 0.03, 0.004),
    )  # fmt: skip


def arm(
    name: str, nll: float, auc: float, stair: float | None, finding: Finding, *, reason: str = "", p: float = 0.004
) -> Arm:
    names = ("kept", "dropped") if name.startswith("non-vulnerable") else ("given away", "the others")
    groups = {} if stair is None else {ALL: beside(500, auc, stair)}
    groups |= (
        {} if stair is None else {group: beside(250, auc + gap, stair) for group, gap in zip(names, GAPS, strict=True)}
    )
    placed = Placed(Point(nll, auc), groups, finding, reason, None if stair is None else p)
    students = tuple(student(seed, f"{name}/seed-{seed}", nll, auc, auc - 0.85) for seed in (0, 1))
    gates = (
        GateResult(
            "student.auc[loss]<=0.8", "pass" if auc < 0.75 else "fail", "", "student", "auc", 0.8, "loss", auc,
            auc + 0.02, "upper", 0.9875,
        ),
    )  # fmt: skip
    return Arm(
        name,
        f"does {name}",
        students,
        {"loss": audit(auc)},
        {"loss": {"auc": placed, "tpr@0.01": ABSENT}},
        finding,
        reason,
        gates=gates,
    )


PLAIN = tuple(
    student(seed, f"plain/seed-{seed}/epochs/{epoch}", nll, auc, None if epoch == 3 else auc - 0.85, epoch=epoch)
    for seed in (0, 1)
    for epoch, nll, auc in ((1, 3.6, 0.6), (2, 3.3, 0.75), (3, 3.2, 0.85))
)
KEPT = {
    "kept": {"loss": Estimate(0.95, 0.93, 0.97)},
    "kept_plain": {"loss": Estimate(0.8, 0.78, 0.82)},
    "dropped": {"loss": Estimate(0.55, 0.53, 0.57)},
    "dropped_plain": {"loss": Estimate(0.9, 0.88, 0.92)},
}
APART = Difference(0.015, -0.006, 0.033, 0.15)
CHOSEN = arm("non-vulnerable", 3.4, 0.6, 0.7, "helps")
TABLE = Mitigation(
    "0.1.0",
    {"teacher": AuditedModel("t", 9), "start": AuditedModel("s", 5)},
    ComparedRecords(500, 500, "ab" * 32),
    "loss",
    "auc",
    PLAIN,
    {
        "loss": {
            "auc": (
                PlainPoint(3.9, 0.5, 0, 0.0, is_stair=True),
                PlainPoint(3.6, 0.6, 3, 1.0, is_stair=True),
                PlainPoint(3.4, 0.7, 3, 1.5, is_stair=False),
                PlainPoint(3.3, 0.75, 3, 2.0, is_stair=True),
                PlainPoint(3.2, 0.85, 3, 3.0, is_stair=True),
                PlainPoint(3.42, 0.66, 2, 2.0, is_stair=True),
            ),
            "tpr@0.01": (),
        }
    },
    {
        "plain": replace(arm("plain", 3.2, 0.85, None, "no evidence"), students=(PLAIN[2], PLAIN[5]), is_plain=True),
        "plain-2": replace(arm("plain-2", 3.42, 0.66, None, "no evidence"), is_plain=True),
        "non-vulnerable": replace(
            CHOSEN,
            placed={
                "loss": {
                    "auc": replace(CHOSEN.placed["loss"]["auc"], vs_control=APART),
                    "tpr@0.01": ABSENT,
                }
            },
            subsets=KEPT,
            kept_change={"loss": Difference(0.15, 0.12, 0.18, 0.001)},
        ),
        "non-vulnerable-control": replace(
            arm("non-vulnerable-control", 3.45, 0.62, 0.6, "moves the risk", reason="less for dropped, more for kept"),
            control_of="non-vulnerable",
            summary="leaves out as many members at random",
            subsets=KEPT,
            kept_change={"loss": Difference(0.15, 0.12, 0.18, 0.001)},
        ),
        "bottleneck": arm("bottleneck", 3.55, 0.55, 0.54, "undertrained", p=0.7),
        "no-norm": arm("no-norm", 3.1, 0.93, 0.85, "no evidence", reason=BEYOND, p=1.0),
        "early-stop-1": replace(
            arm("early-stop-1", 3.6, 0.6, None, "no evidence"), students=(PLAIN[0], PLAIN[3]), is_plain=True
        ),
    },
    config={"epochs": 3, "plain_epochs": [2]},
    recommended="non-vulnerable",
    validity=Validity("ok", Estimate(0.51, 0.47, 0.55), "tfidf", {}, {}, Overlap(13), ()),
    warnings=("be careful",),
    mixed_supervision=SupervisionEffect(
        Difference(0.293, 0.27, 0.32, n=500, m=500),
        Difference(0.255, 0.23, 0.28, n=500, m=500),
        Difference(0.038, 0.026, 0.051, n=500, m=500),
    ),
)
