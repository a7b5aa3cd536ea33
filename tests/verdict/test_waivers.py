"""What a waiver sets aside, and what it does not."""

from datetime import date
from pathlib import Path

import pytest

from kdaudit.errors import ConfigError, ExitCode
from kdaudit.results import Verdict
from kdaudit.verdict import exit_code, judge, parse_gate
from kdaudit.verdict.waivers import waive, waivers_by_gate
from kdaudit.waivers import Waiver
from tests.verdict.audits import INVALID, VALID, attack, cell, shares


def waiver(gate: str, line: int = 3) -> Waiver:
    return Waiver(gate, "accepted by the board", date(2030, 1, 31), Path("kdaudit.toml"), line)


def waiving(
    *waived: str, gates: tuple[str, ...] = ("student.auc<=0.6",), auc: float = 0.7, is_valid: bool = True
) -> Verdict:
    attacks = {name: attack(cell(shares(auc))) for name in ("loss", "zlib")}
    waivers = waivers_by_gate([waiver(gate) for gate in waived], gates)
    return waive(judge(attacks, VALID if is_valid else INVALID, [parse_gate(gate) for gate in gates]), waivers)


def test_a_waived_failure_exits_zero_and_stays_visible() -> None:
    verdict = waiving("student.auc <= 0.60")
    (gate,) = verdict.gates
    assert exit_code(verdict) is ExitCode.PASSED
    assert gate.status == "waived"
    assert gate.reason.endswith("above the limit 0.6; waived until 2030-01-31: accepted by the board")
    assert verdict.sentence == "Pass by waiver alone: student.auc<=0.6 fails, but this is waived."
    assert verdict.next_step == ""


def test_other_gates_count_as_if_the_waived_one_were_not_there() -> None:
    gates = ("student.auc<=0.6", "student.auc<=0.65")
    failed = waiving("student.auc<=0.6", gates=gates)
    assert failed.status == "fail"
    assert failed.sentence.startswith("Fail (1 of 2 gates): student.auc is 0.700")
    assert failed.sentence.endswith("Waived, though failed: student.auc<=0.6.")
    passed = waiving("student.auc<=0.6", gates=("student.auc<=0.6", "student.auc<=0.8"))
    assert passed.status == "pass"
    assert passed.sentence.endswith("Waived, though failed: student.auc<=0.6.")


def test_only_a_failure_is_waived() -> None:
    assert waiving("student.auc<=0.6", auc=0.6).status == "inconclusive"
    assert waiving("student.auc<=0.6", is_valid=False).status == "inconclusive"
    kept = waiving("student.auc<=0.6", auc=0.5)
    assert (kept.status, kept.gates[0].status) == ("pass", "pass")


def test_a_waiver_of_no_gate_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(ConfigError, match=r"line 3: the waiver of 'student\.auc<=0\.7': no such gate") as caught:
        waivers_by_gate([waiver("student.auc<=0.7")], ["student.auc<=0.6"])
    assert caught.value.hint == "did you mean 'student.auc<=0.6'?"
    with pytest.raises(ConfigError, match="unknown metric 'acu'"):
        waivers_by_gate([waiver("student.acu<=0.7")], ["student.auc<=0.6"])


def test_a_gate_has_one_waiver() -> None:
    with pytest.raises(ConfigError, match=r"line 9: .*line 3 waives the same gate"):
        waivers_by_gate([waiver("student.auc<=0.6"), waiver("student.auc <= 0.6", line=9)], ["student.auc<=0.6"])


def test_a_rise_since_the_baseline_can_be_waived() -> None:
    assert waivers_by_gate([waiver("student.auc-baseline <= 0.02")], ["student.auc-baseline<=0.02"])
