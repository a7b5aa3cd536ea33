"""Gates on the arms of a comparison: every seed is held against them, at a level for all arms."""

from dataclasses import replace

import pytest
from scipy.special import expit, logit, ndtri

from kdaudit.results.mitigation import Mitigation
from kdaudit.verdict import parse_gate
from kdaudit.verdict.mitigation import judge_arms, problems_of_gates
from tests.report.tables import TABLE


def judged(*gates: str, table: Mitigation = TABLE) -> Mitigation:
    return judge_arms(table, [parse_gate(gate) for gate in gates])


def statuses(table: Mitigation) -> dict[str, list[str]]:
    return {name: [gate.status for gate in arm.gates] for name, arm in table.arms.items()}


def test_every_seed_of_every_arm_is_judged_at_an_upper_bound_for_all_arms() -> None:
    table = judged("student.auc[loss] <= 0.8", "teacher.auc[loss] <= 0.8")
    for name, arm in table.arms.items():
        first, second, teacher = arm.gates
        assert [gate.gate for gate in arm.gates] == [
            "student.auc[loss]<=0.8", "student-2.auc[loss]<=0.8", "teacher.auc[loss]<=0.8",
        ]  # fmt: skip
        assert teacher.bound == pytest.approx(expit(logit(0.7) + ndtri(1 - 0.05 / 7) * 0.05))
        assert (teacher.level, teacher.status) == (1 - 0.05 / 7, "pass")
        assert first.status == second.status == ("fail" if name in {"plain", "no-norm"} else "pass")


@pytest.mark.parametrize(
    ("limit", "taken"),
    [(0.9, "plain"), (0.8, "non-vulnerable"), (0.59, "bottleneck"), (0.5, None)],
)
def test_the_most_useful_arm_that_passes_is_taken_the_plain_run_where_nothing_need_be_lowered(
    limit: float, taken: str | None
) -> None:
    table = judged(f"student.auc[loss] <= {limit}")
    assert table.recommended == taken
    assert table.is_failed == (taken is None)


def test_one_seed_above_the_limit_is_enough_to_fail_an_arm() -> None:
    arm = TABLE.arms["plain"]
    cells = {**arm.attacks["loss"].cells, "student": TABLE.arms["bottleneck"].attacks["loss"].cells["student"]}
    mixed = replace(arm, attacks={"loss": replace(arm.attacks["loss"], cells=cells)})
    table = judged("student.auc[loss] <= 0.8", table=replace(TABLE, arms={**TABLE.arms, "plain": mixed}))
    assert statuses(table)["plain"] == ["pass", "fail"]
    assert table.recommended == "non-vulnerable"


def test_a_control_is_never_taken() -> None:
    control = TABLE.arms["non-vulnerable-control"]
    useful = tuple(replace(one, nll=replace(one.nll, value=3.0)) for one in control.students)
    arms = {**TABLE.arms, "non-vulnerable-control": replace(control, students=useful)}
    table = judged("student.auc[loss] <= 0.8", table=replace(TABLE, arms=arms))
    assert statuses(table)["non-vulnerable-control"] == ["pass", "pass"]
    assert table.recommended == "non-vulnerable"


def test_without_gates_nothing_is_recommended_and_nothing_failed() -> None:
    table = judged()
    assert (table.recommended, table.is_failed) == (None, False)
    assert not any(statuses(table).values())


def test_records_that_differ_without_any_model_settle_nothing() -> None:
    table = judged("student.auc[loss] <= 0.9", table=replace(TABLE, validity=replace(TABLE.validity, status="failed")))
    assert {status for arm in statuses(table).values() for status in arm} == {"inconclusive"}
    assert table.is_failed


def test_an_arm_whose_loss_has_no_value_is_taken_last() -> None:
    arm = TABLE.arms["non-vulnerable"]
    lost = replace(arm.students[0], nll=replace(arm.students[0].nll, value=None))
    arms = {**TABLE.arms, "non-vulnerable": replace(arm, students=(lost, arm.students[1]))}
    assert judged("student.auc[loss] <= 0.8", table=replace(TABLE, arms=arms)).recommended == "plain-2"


def test_gates_that_no_arm_could_be_judged_by_are_named() -> None:
    gates = [parse_gate(gate) for gate in ("student.auc[zlib]<=1", "student-2.auc<=1", "difference.auc[loss]<=0.1")]
    assert list(problems_of_gates(gates, ["loss", "min-k"])) == [
        "gate 'student.auc[zlib]<=1': the students are attacked by loss, min-k, not by zlib",
        "gate 'student-2.auc<=1': every student of an arm is judged as 'student'; there is no student-2",
    ]
