"""A report of made-up figures, each of a known value, and the same with names that mean harm."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdaudit.config import ReportConfig
from kdaudit.metrics import METRICS
from kdaudit.metrics.association import Quarter
from kdaudit.metrics.estimate import QUANTILE_GRID, Difference, Estimate
from kdaudit.metrics.excess import Slopes
from kdaudit.metrics.strongest import Strongest
from kdaudit.report.reading import Report, read_report
from kdaudit.results import (
    Agreement,
    Alignment,
    AttackResult,
    AuditedModel,
    AuditedRecords,
    AuditResult,
    Cell,
    Comparison,
    Curve,
    Distillation,
    GateResult,
    Histogram,
    Overlap,
    Power,
    Source,
    Supervision,
    TwoByTwo,
    Utility,
    Validity,
    Verdict,
    save,
)

N, M = 1400, 1391
GATES = ("student.auc <= 0.6", "teacher.auc <= 0.99", "student.tpr@0.001 <= 0.05")
NO_REFERENCE = "no reference model was given"


def around(value: float, spread: float = 0.02) -> Estimate:
    """An estimate whose bootstrap quantiles lie evenly around `value`."""
    quantiles = tuple(round(value + (q - 0.5) * 2 * spread, 6) for q in QUANTILE_GRID)
    low, high = round(value - spread, 6), round(value + spread, 6)
    return Estimate(value, low, high, N, M, method="bootstrap", quantiles=quantiles)


def rate(value: float, realised: float) -> Estimate:
    low, high = round(realised / 2, 6), round(realised * 2, 6)
    return replace(around(value), threshold=1.5, realised_fpr=realised, realised_fpr_low=low, realised_fpr_high=high)


def gain(value: float, p: float = 0.0004) -> Difference:
    return Difference(value, round(value - 0.01, 6), round(value + 0.01, 6), p, p, N, M, se=0.005)


TOO_FEW = Estimate(None, n=N, m=M, reason="needs 2999 non-members in the calibration part, there are 600")


def cell(auc: float) -> Cell:
    rates = {"tpr@0.001": TOO_FEW, "tpr@0.01": rate(auc / 4, 0.008), "tpr@0.1": rate(auc / 2, 0.11)}
    figures = {
        "auc": around(auc), **rates, "balanced_accuracy": around(auc - 0.1), "member_success": around(auc - 0.05),
        "nonmember_success": around(auc - 0.15),
    }  # fmt: skip
    return Cell(
        "ok", figures=figures, unscored=3,
        nulls={"blind": dict.fromkeys(("auc", "tpr@0.01", "tpr@0.1"), gain(auc - 0.5))},
    )  # fmt: skip


def compared(value: float) -> Comparison:
    found = gain(value)
    missing = Difference(None, n=N, m=M, reason=TOO_FEW.reason)
    figures = {"tpr@0.001": missing, "nonmember_success": gain(-value, p=0.2)}
    return Comparison("ok", figures={**dict.fromkeys(METRICS, found), **figures})


def curve(power: float) -> Curve:
    fpr = (0.0, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
    tpr = tuple(round(x**power, 4) for x in fpr)
    return Curve(fpr, tpr, tuple(round(0.9 * y, 4) for y in tpr), tuple(round(min(1.1 * y, 1), 4) for y in tpr))


def histogram(shift: int) -> Histogram:
    members = tuple(5 + 40 * max(0, 4 - abs(place - 4 - shift)) for place in range(10))
    nonmembers = tuple(5 + 40 * max(0, 4 - abs(place - 4)) for place in range(10))
    return Histogram(tuple(-3 + 0.25 * place for place in range(11)), members, nonmembers)


def attack(teacher: float, student: float) -> AttackResult:
    counts = {"members": TwoByTwo(900, 20, 180, 300), "nonmembers": TwoByTwo(160, 60, 50, 1121)}
    return AttackResult(
        1, False, {"teacher": cell(teacher), "student": cell(student)},
        {"student": compared(round(student - teacher, 6))},
        {"teacher": curve(0.6), "student": curve(0.4)}, {"teacher": histogram(1), "student": histogram(2)},
        {"student": counts},
    )  # fmt: skip


def checkpoint(name: str, **others: Any) -> AuditedModel:
    known = AuditedModel(
        name, 1725696, fingerprint="f1" * 32, weights_sha256="0a" * 32, architecture="GPT2LMHeadModel",
        stored_dtype="float32", context=256,
    )  # fmt: skip
    return replace(known, **others)


def measured(name: str, **others: Any) -> AuditedModel:
    return checkpoint(name, dtype="float32", device="cpu", **{"reference": checkpoint(f"{name}-start"), **others})


def figure(value: float, spread: float = 0.05) -> Estimate:
    return Estimate(value, round(value - spread, 6), round(value + spread, 6), N, method="made up")


def per_model(teacher: float, start: float, student: float) -> dict[str, Estimate]:
    return {"teacher": figure(teacher), "start": figure(start), "student": figure(student)}


DISTILLATION = Distillation(
    "forward-kl", hard_weight=0.5, epochs=5, seed=0,
    utility=Utility(
        200, 9876, per_model(3.1, 3.9, 3.3), per_model(1.1, 1.4, 1.2), per_model(22.2, 49.4, 27.1),
        Agreement(figure(0.61), figure(0.42)),
    ),
)  # fmt: skip


def level(value: float, spread: float = 0.05) -> Estimate:
    return Estimate(value, round(value - spread, 6), round(value + spread, 6), N, M, method="made up")


def apart(value: float, spread: float = 0.05) -> Difference:
    return Difference(value, round(value - spread, 6), round(value + spread, 6), n=N, m=M, method="made up")


SIDE = Alignment(N, level(0.07, 0.002), level(0.18), level(1.2), level(0.41))
SUPERVISION = Supervision(
    "start", "", SIDE, replace(SIDE, teacher_mean_probability=level(0.06, 0.002), student_gain=level(0.7)),
    (Quarter(None, 0.041, 300, 348, apart(0.5)), Quarter(0.041, 0.06, 330, 348, apart(0.45)),
     Quarter(0.06, 0.09, 370, 348, apart(0.4)), Quarter(0.09, None, 400, 347, apart(0.35))),
    Slopes(level(0.9), level(0.95), apart(-0.05)), None,
)  # fmt: skip
NOT_RUN = Cell("not_applicable", NO_REFERENCE)
LEAKY = AuditResult(
    kdaudit_version="0.1.0",
    models={"teacher": measured("owner/teacher", revision="0123456789abcdef"),
            "student": measured("./student", load="4bit", distillation=DISTILLATION)},
    data=AuditedRecords(2000, 1988, 12, "ab" * 32, (Source("--members", "members.jsonl", 2000, 1, "cd" * 32),), seed=0,
                        calibration_share=0.3),
    attacks={"loss": attack(0.75, 0.81), "reference": attack(0.88, 0.93),
             "ez": AttackResult(1, False, {"teacher": NOT_RUN, "student": NOT_RUN},
                                {"student": Comparison("not_applicable", NO_REFERENCE)}, {}, {}, {})},
    validity=Validity("ok", around(0.51), "tfidf", {"tfidf": around(0.51), "surface": around(0.49)},
                      {"members": 1, "nonmembers": 0}, Overlap(13, max_share=0.93, n_above_20_percent=4),
                      ("6 of 3988 texts are longer than 256 tokens and were cut, the same for all models",),
                      {model: {"loss": around(0.503), "min-k++": around(0.492)} for model in ("teacher", "student")}),
    power=Power(0.523, n=2000, m=1988, cells=4),
    mixed_supervision={"student": SUPERVISION},
    verdict=Verdict("not_gated"),
    config={"seed": 0},
    measured="2026-11-25",
    strongest={"teacher": Strongest("reference", 0.88, 0.857, 0.903, 0.95, 2.21, ("loss", "reference")),
               "student": Strongest("reference", 0.93, 0.906, 0.954, 0.95, 2.2, ("loss", "reference"))},
)  # fmt: skip


def hostile(text: str) -> AuditResult:
    """The same result with `text` in every place that a path, a file or a name decides."""
    models = {name: measured(text, revision=text, load=text, reference=checkpoint(text)) for name in LEAKY.models}
    gates = (GateResult("student.auc<=0.6", "fail", text, "student", "auc", 0.6),)
    not_run = replace(LEAKY.attacks["ez"], cells=dict.fromkeys(LEAKY.models, Cell("not_applicable", text)))
    validity = replace(
        LEAKY.validity, warnings=(text,), blind={text: around(0.5)}, blind_name=text, duplicates={text: 1},
        reference_alone={"student": {text: around(0.5)}}, reasons=(text,), formats=(text,),
    )  # fmt: skip
    return replace(
        LEAKY,
        kdaudit_version=text,
        models=models,
        data=replace(LEAKY.data, sources=(Source(text, text, 1, 0, text),)),
        attacks={text: LEAKY.attacks["reference"], "loss": LEAKY.attacks["loss"], "ez": not_run},
        validity=validity,
        mixed_supervision={"student": replace(SUPERVISION, gain_note=text)},
        verdict=Verdict("fail", gates, 1, text, text),
        strongest={"student": Strongest(text, 0.93, 0.9, 0.95, 0.95, 2.2, (text, "loss"))},
    )


def write_run(folder: Path, result: AuditResult) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save(result, folder / "results.json")
    return folder


def read(*runs: Path, gates: Sequence[str] = GATES, **options: Any) -> Report:
    return read_report(ReportConfig(runs=runs, gates=tuple(gates), **options))
