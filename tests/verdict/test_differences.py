from dataclasses import replace

from kdaudit.metrics.estimate import Difference
from kdaudit.results import AttackResult, Comparison
from tests.verdict.audits import NO_REFERENCE, attack, cell, gain, judged, shares


def compared(*figures: Difference, beyond_blind: float = 0.2, unscored: int = 0) -> AttackResult:
    names = ["student", "student-2", "student-3"][: len(figures)]
    student = cell(shares(0.7), beyond_blind=beyond_blind)
    comparison = {name: Comparison("ok", figures={"auc": figure}) for name, figure in zip(names, figures, strict=True)}
    result = attack(student, teacher=cell(shares(0.7), beyond_blind=-0.5, unscored=unscored), comparison=comparison)
    return replace(result, cells={**result.cells, **dict.fromkeys(names, student)})


def test_a_difference_is_student_minus_teacher() -> None:
    assert judged(["difference.auc[loss]<=0.02"], {"loss": compared(gain(-0.1))}).status == "pass"
    assert judged(["difference.auc[loss]<=0.02"], {"loss": compared(gain(0.1))}).status == "fail"
    assert judged(["difference.auc[loss]<=0.02"], {"loss": compared(gain(0.02))}).status == "inconclusive"


def test_a_difference_covers_every_student() -> None:
    attacks = {"loss": compared(gain(-0.1), gain(0.1)), "zlib": compared(gain(-0.1), gain(-0.1))}
    verdict = judged(["difference.auc<=0.02"], attacks)
    assert verdict.status == "fail"
    assert verdict.n_cells == 4
    assert verdict.gates[0].value == 0.1
    assert "loss on student-2" in verdict.gates[0].reason


def test_it_is_the_student_that_must_beat_the_blind_classifier() -> None:
    assert judged(["difference.auc[loss]<=0"], {"loss": compared(gain(0.1), beyond_blind=0.2)}).status == "fail"
    assert judged(["difference.auc[loss]<=0"], {"loss": compared(gain(0.1), beyond_blind=0.0)}).status == "inconclusive"


def test_a_difference_is_not_judged_where_the_teacher_has_unscored_records() -> None:
    assert judged(["difference.auc[loss]<=0.5"], {"loss": compared(gain(0.1), unscored=50)}).status == "inconclusive"


def test_a_comparison_that_is_not_applicable_is_skipped_and_named() -> None:
    absent = attack(NO_REFERENCE, comparison={"student": Comparison("not_applicable", "no reference was given")})
    attacks = {"loss": compared(gain(-0.1)), "zlib": compared(gain(-0.1)), "reference": absent}
    verdict = judged(["difference.auc<=0"], attacks)
    assert verdict.status == "pass"
    assert verdict.gates[0].skipped == ("reference: no reference was given",)
