"""A run for a reader with two minutes."""

from dataclasses import replace

import pytest

from kdaudit.metrics.estimate import Difference, lower_bound, upper_bound
from kdaudit.metrics.strongest import Strongest
from kdaudit.report.headline import auc_of_chosen, headline, strongest
from kdaudit.results import AuditResult, Cell, Comparison
from tests.report.reports import LEAKY, around, attack

NAMES = ("loss", "reference")


def of_auc(value: float) -> Cell:
    return Cell("ok", figures={"auc": around(value)})


def audit(student: float, difference: Difference | None = None) -> AuditResult:
    one = attack(0.88, student)
    if difference is not None:
        one = replace(one, comparison={"student": Comparison("ok", figures={"auc": difference})})
    strongest = {"student": Strongest("reference", student, student - 0.025, student + 0.022, 0.95, 2.2, NAMES)}
    return replace(LEAKY, attacks={"loss": attack(0.6, 0.55), "reference": one}, strongest=strongest)


def test_it_names_the_strongest_attack_its_strength_and_the_teachers_with_intervals() -> None:
    strength, against, low_rate = headline(audit(0.93))
    assert strength == (
        "The strongest of 2 attacks on student is reference: given one member and one non-member, it tells which is "
        "which in 93.0 % of cases (simultaneous 95 % interval 90.5 to 95.2), by guessing in 50 %."
    )
    assert against == (
        "Student leaks more than its teacher: under the same attack the teacher reaches 88.0 % (95 % interval 86.0 to "
        "90.0), a difference of +5.0 percentage points (+4.0 to +6.0), p < 0.001 after adjusting for all attacks."
    )
    finds = "reference finds 23.2 % (95 % interval 21.2 to 25.2) of the members"
    assert low_rate == f"With false alarms on about 1 % of the non-members, {finds}."


@pytest.mark.parametrize(
    ("value", "p", "words"),
    [
        (0.05, 0.01, "Student leaks more than its teacher"),
        (-0.05, 0.01, "Student leaks less than its teacher"),
        (0.05, 0.2, "Student and teacher cannot be told apart by this attack"),
        (-0.05, 0.05, "Student and teacher cannot be told apart by this attack"),
        (0.05, None, "Student and teacher cannot be told apart by this attack"),
    ],
)
def test_a_difference_is_called_one_only_after_adjusting_for_many(value: float, p: float | None, words: str) -> None:
    _, against, _ = headline(audit(0.93, Difference(value, value - 0.01, value + 0.01, 0.001, p, 1400, 1391)))
    assert against.startswith(f"{words}: ")


def test_an_interval_that_reaches_guessing_is_said_to() -> None:
    one = replace(
        attack(0.5, 0.51),
        cells={
            "teacher": Cell("ok", figures={"auc": around(0.5)}),
            "student": Cell("ok", figures={"auc": around(0.51)}),
        },
    )
    strength, *_ = headline(replace(LEAKY, attacks={"loss": one}))
    assert strength.startswith("loss on student: ")
    assert strength.endswith("this may be no more than guessing.")


def test_where_no_check_is_passed_it_says_so_first() -> None:
    first, *rest = headline(replace(LEAKY, validity=replace(LEAKY.validity, status="failed")))
    assert "can be told apart by what no model remembers" in first
    assert rest == list(headline(LEAKY))


def test_what_was_not_measured_is_not_made_up() -> None:
    ez = LEAKY.attacks["ez"]
    assert list(headline(replace(LEAKY, attacks={"ez": ez}))) == ["No attack could be measured on student."]
    alone = replace(attack(0.8, 0.9), cells={"teacher": ez.cells["teacher"], "student": of_auc(0.9)})
    alone = replace(alone, comparison={"student": Comparison("not_applicable", "no reference")})
    _, against = headline(replace(LEAKY, attacks={"reference": alone}))
    assert against == "Student could not be compared with its teacher under any attack."


def test_where_the_strongest_attack_ran_on_the_student_alone_the_next_one_compares_them() -> None:
    alone = replace(attack(0.8, 0.95), cells={**attack(0.8, 0.95).cells, "teacher": Cell("not_applicable", "none")})
    alone = replace(alone, comparison={"student": Comparison("not_applicable", "no reference")})
    found = replace(
        LEAKY, strongest={}, attacks={"zlib": attack(0.6, 0.7), "loss": attack(0.8, 0.85), "reference": alone}
    )
    strength, against, _ = headline(found)
    assert "is reference" in strength
    assert against.startswith(
        "Student leaks more than its teacher: under loss, the strongest attack that ran on both, it reaches 85.0 % "
        "(95 % interval 83.0 to 87.0) and its teacher 80.0 % (95 % interval 78.0 to 82.0), a difference of "
    )


def test_the_strongest_attack_is_the_one_of_the_largest_auc_on_that_model() -> None:
    attacks = {"loss": attack(0.9, 0.6), "zlib": attack(0.5, 0.7), "ez": LEAKY.attacks["ez"]}
    result = replace(LEAKY, attacks=attacks)
    assert (strongest(result, "teacher"), strongest(result, "student")) == ("loss", "zlib")
    assert strongest(replace(LEAKY, attacks={}), "student") is None


def test_an_attack_that_was_chosen_has_an_interval_that_allows_for_the_choice() -> None:
    first, second = attack(0.6, 0.81), attack(0.88, 0.93)
    found = Strongest("reference", 0.93, 0.9, 0.96, 0.95, 2.5758, ("loss", "reference"))
    result = replace(LEAKY, attacks={"loss": first, "reference": second}, strongest={"student": found})
    chosen, other = (auc_of_chosen(result, name, "student") for name in ("reference", "loss"))
    assert chosen is not None
    assert (chosen.value, chosen.low, chosen.high) == (0.93, 0.9, 0.96)
    own = first.cells["student"].auc
    assert other is not None
    assert own is not None
    assert (other.low, other.high) == pytest.approx((lower_bound(own, 0.995), upper_bound(own, 0.995)), abs=1e-5)
    assert auc_of_chosen(replace(result, strongest={}), "reference", "student") == second.cells["student"].auc
    assert auc_of_chosen(result, "reference", "teacher") == second.cells["teacher"].auc


@pytest.mark.parametrize(
    ("m", "words"), [(10_000, "about 0.1 %"), (9999, "about 1 %"), (1000, "about 1 %"), (50, "about 10 %")]
)
def test_the_low_rate_is_one_that_ten_false_alarms_settle(m: int, words: str) -> None:
    one = attack(0.88, 0.93)
    rates = {key: replace(around(0.3), m=m) for key in ("tpr@0.001", "tpr@0.01", "tpr@0.1")}
    cells = {**one.cells, "student": replace(one.cells["student"], figures={**one.cells["student"].figures, **rates})}
    *_, last = headline(replace(LEAKY, attacks={"loss": replace(one, cells=cells)}))
    assert words in last
