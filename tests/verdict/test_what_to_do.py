"""What to do about an open gate: how much is missing, in numbers that hold."""

import math
import re

import pytest

from kdaudit.metrics.estimate import Estimate
from kdaudit.results import Verdict
from tests.verdict.audits import attack, cell, judged, of_aucs, shares

N = 1000


def told(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"about ([0-9,]+) (?:non-)?members", text)]


@pytest.mark.parametrize(("value", "then"), [(0.57, "pass"), (0.63, "fail")])
def test_as_many_records_as_are_named_settle_the_gate_and_fewer_do_not(value: float, then: str) -> None:
    def verdict(n: float) -> Verdict:
        one = shares(value, spread=0.03 * math.sqrt(N / n), n=int(n), m=int(n))
        return judged(["student.auc[loss] <= 0.6"], {"loss": attack(cell(one))})

    opened = verdict(N)
    assert opened.status == "inconclusive"
    n, m = told(opened.next_step)
    assert n == m
    assert verdict(n).status == then
    assert verdict(0.8 * n).status == "inconclusive"


def test_where_one_cell_may_break_the_limit_the_nearest_one_is_told_and_else_the_one_that_needs_most() -> None:
    near = told(of_aucs(shares(0.61, spread=0.02), shares(0.64, spread=0.02)).next_step)
    assert near == told(of_aucs(shares(0.64, spread=0.02), 0.5).next_step)
    most = told(of_aucs(shares(0.59, spread=0.02), shares(0.57, spread=0.02)).next_step)
    assert most == told(of_aucs(shares(0.59, spread=0.02), 0.5).next_step)


def test_a_figure_on_its_limit_is_not_settled_by_any_number_of_records() -> None:
    assert "more than 100 times as many" in of_aucs(shares(0.6), 0.5).next_step


def test_the_missing_nonmembers_of_a_rate_are_counted() -> None:
    too_few = Estimate(None, n=500, m=300, reason="needs 999 non-members, there are 300")
    found = judged(["student.tpr@0.001 <= 0.05"], {"loss": attack(cell(shares(0.5), others={"tpr@0.001": too_few}))})
    assert found.next_step == "Add at least 699 non-members: TPR at 0.1 % FPR needs 999, and there are 300."


def test_the_missing_records_of_each_class_are_counted() -> None:
    found = of_aucs(shares(0.3, n=150, m=190), shares(0.3, n=150, m=190)).next_step
    assert "at least 50 more members and 10 more non-members" in found
    alone = of_aucs(shares(0.3, n=150), shares(0.3, n=150)).next_step
    assert "at least 50 more members:" in alone
