"""A small result of made-up figures with two students, for the tests of tables and statements."""

from dataclasses import replace

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.results import (
    AttackResult,
    AuditedModel,
    AuditedRecords,
    AuditResult,
    Cell,
    Comparison,
    Overlap,
    Power,
    Validity,
    Verdict,
)

AUC = Estimate(0.8125, 0.7994, 0.8261, 2000, 1988)
TOO_FEW = Estimate(None, n=40, m=40, reason="needs 299 non-members")
GAIN = Difference(0.0566, 0.0499, 0.0641, p_value=0.004, p_value_holm=0.012)
NOT_RUN = Cell("not_applicable", "no reference model was given")


def result(**attacks: AttackResult) -> AuditResult:
    blind = Estimate(0.5, 0.47, 0.53)
    blind = Estimate(0.5, 0.47, 0.53)
    validity = Validity("ok", blind, "tfidf", {"tfidf": blind}, {}, Overlap(13), ("a warning", "another"))
    return AuditResult(
        "0.1", {name: AuditedModel(name, 9) for name in ("teacher", "student", "student-2")},
        AuditedRecords(2000, 1988, 0, "ab" * 32, seed=0), attacks, validity, Power(0.527), {}, Verdict("not_gated"), {},
    )  # fmt: skip


def attack(teacher: Cell, student: Cell, comparison: Comparison) -> AttackResult:
    cells = {"teacher": teacher, "student": student, "student-2": student}
    return AttackResult(1, False, cells, {"student": comparison, "student-2": comparison}, {}, {}, {})


MEASURED = Cell(
    "ok", figures={"auc": AUC, "tpr@0.01": TOO_FEW, "balanced_accuracy": replace(AUC, value=0.7)}, unscored=2
)
COMPARED = Comparison("ok", figures={"auc": GAIN, "tpr@0.01": Difference(None, reason="needs 299 non-members")})
AUDIT = result(
    loss=attack(MEASURED, MEASURED, COMPARED),
    zlib=attack(MEASURED, MEASURED, COMPARED),
    reference=attack(NOT_RUN, replace(MEASURED, unscored=0), Comparison("not_applicable", "teacher: no reference")),
)
ALONE = {"student": {"loss": Estimate(0.51, 0.49, 0.53), "min-k++": Estimate(0.376, 0.36, 0.393)}}
WITH_ALONE = replace(AUDIT, validity=replace(AUDIT.validity, reference_alone=ALONE | {"student-2": ALONE["student"]}))
