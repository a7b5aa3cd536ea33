from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.attacks import ATTACKS
from kdaudit.errors import ExitCode
from kdaudit.metrics.estimate import Difference, Estimate, lower_bound, upper_bound
from kdaudit.results import AttackResult, CellFinding, GateResult, Verdict
from kdaudit.verdict import exit_code, sentences
from tests.verdict.audits import (
    CONSTANT,
    INVALID,
    NO_REFERENCE,
    VALID,
    attack,
    beyond,
    cell,
    exactly,
    gain,
    judged,
    of_aucs,
    shares,
)


def test_a_run_without_gates_is_not_gated_and_exits_zero() -> None:
    verdict = of_aucs(0.9, 0.9, gates=[])
    assert verdict.status == "not_gated"
    assert exit_code(verdict) is ExitCode.PASSED
    assert "no limit was set" in verdict.sentence


def test_a_gate_passes_where_every_upper_bound_keeps_the_limit() -> None:
    verdict = of_aucs(0.52, 0.55)
    (gate,) = verdict.gates
    assert verdict.status == gate.status == "pass"
    assert (gate.deciding_attack, gate.value, gate.bound_side, gate.level) == ("zlib", 0.55, "upper", 0.95)
    assert gate.bound == pytest.approx(0.55 + 1.645 * 0.01, abs=1e-4)
    assert (
        verdict.sentence
        == "Pass, for these attacks on these records: the closest, student.auc is 0.550 under zlib, at most 0.566 "
        "(95 % bound), keeps the limit 0.6."
    )


def test_a_gate_fails_where_one_corrected_lower_bound_lies_above_the_limit() -> None:
    verdict = of_aucs(0.52, 0.7, 0.65)
    (gate,) = verdict.gates
    assert verdict.status == gate.status == "fail"
    assert verdict.n_cells == 3
    assert (gate.deciding_attack, gate.value, gate.bound_side) == ("zlib", 0.7, "lower")
    assert gate.level == pytest.approx(1 - 0.05 / 3)
    assert gate.bound == lower_bound(shares(0.7), 1 - 0.05 / 3)
    assert "student.auc is 0.700 under zlib, at least 0.679 (98.33 % bound), above the limit 0.6" in verdict.sentence
    assert verdict.next_step


def test_an_interval_across_the_limit_is_inconclusive() -> None:
    verdict = of_aucs(0.52, 0.6)
    (gate,) = verdict.gates
    assert verdict.status == gate.status == "inconclusive"
    assert (gate.deciding_attack, gate.bound_side, gate.level) == ("zlib", "upper", 0.95)
    assert gate.reason == "the interval reaches to both sides of the limit (zlib)"
    assert "times as many records" in verdict.next_step


def test_a_value_below_the_limit_is_no_pass_where_its_bound_is_above() -> None:
    assert of_aucs(0.5, shares(0.55, spread=0.1)).status == "inconclusive"


def test_a_bound_on_the_limit_passes_and_never_fails() -> None:
    assert of_aucs(exactly(0.6), exactly(0.6)).status == "pass"
    assert of_aucs(exactly(0.1 + 0.2), exactly(0.3), gates=["student.auc <= 0.30000000000000004"]).status == "pass"
    assert of_aucs(exactly(0.6000000000000001), exactly(0.5)).status == "fail"


def test_a_limit_of_one_passes_whatever_was_measured() -> None:
    assert of_aucs(0.9, 0.99, gates=["student.auc <= 1"]).status == "pass"


def test_the_teacher_is_judged_by_its_own_cells() -> None:
    leaky = attack(cell(shares(0.5)), teacher=cell(shares(0.8)))
    verdict = judged(["teacher.auc<=0.6", "student.auc<=0.6"], {"loss": leaky, "zlib": leaky})
    assert [gate.status for gate in verdict.gates] == ["fail", "pass"]
    assert verdict.status == "fail"
    assert "teacher" in verdict.next_step


def test_a_gate_on_one_attack_leaves_the_others_alone() -> None:
    assert of_aucs(0.5, 0.9, gates=["student.auc[loss] <= 0.6"]).status == "pass"
    assert of_aucs(0.5, 0.9, gates=["student.auc[zlib] <= 0.6"]).status == "fail"


@pytest.mark.parametrize("fpr", ["0.001", "0.01", "0.1"])
def test_a_rate_is_read_at_its_own_false_positive_rate(fpr: str) -> None:
    rates = {key: shares(0.3 if key == fpr else 0.01, spread=0.003) for key in ("0.001", "0.01", "0.1")}
    attacks = {"loss": attack(cell(shares(0.5), others={f"tpr@{key}": rate for key, rate in rates.items()}))}
    statuses = {key: judged([f"student.tpr@{key}[loss]<=0.05"], attacks).status for key in rates}
    assert statuses == {key: "fail" if key == fpr else "pass" for key in rates}


def test_balanced_accuracy_is_a_metric_of_its_own() -> None:
    attacks = {"loss": attack(cell(shares(0.9), others={"balanced_accuracy": shares(0.55)}))}
    assert judged(["student.balanced_accuracy[loss]<=0.6"], attacks).status == "pass"
    assert judged(["student.balanced_accuracy[loss]<=0.5"], attacks).status == "fail"


def test_the_correction_counts_the_scored_cells_of_all_gates() -> None:
    names = list(ATTACKS)[:6]
    together = of_aucs(*[0.5] * 6)
    one_by_one = of_aucs(*[0.5] * 6, gates=[f"student.auc[{name}] <= 0.6" for name in names])
    assert together.n_cells == one_by_one.n_cells == 6


def test_one_gate_per_attack_does_not_dodge_the_correction() -> None:
    value = 0.6 + 2 * 0.01  # above the limit at 95 %, not at 1 - 0.05/6
    assert lower_bound(shares(value), 0.95) > 0.6 > lower_bound(shares(value), 1 - 0.05 / 6)  # type: ignore[operator]
    names = list(ATTACKS)[:6]
    assert of_aucs(value, gates=["student.auc[loss] <= 0.6"]).status == "fail"
    assert of_aucs(value, *[0.5] * 5).status == "inconclusive"
    assert of_aucs(value, *[0.5] * 5, gates=[f"student.auc[{name}] <= 0.6" for name in names]).status == "inconclusive"


def test_a_gate_fails_and_passes_among_two_hundred_cells_too() -> None:
    gates = [f"student.balanced_accuracy <= {0.6 + step / 1000}" for step in range(20)]
    attacks = {name: attack(cell(shares(0.9), others={"balanced_accuracy": shares(0.52)})) for name in ATTACKS}
    passing = judged(gates, attacks)
    assert (passing.n_cells, passing.status) == (200, "pass")
    attacks["loss"] = attack(cell(shares(0.9), others={"balanced_accuracy": shares(0.64)}))
    verdict = judged(gates, attacks)
    assert verdict.status == verdict.gates[0].status == "fail"
    assert verdict.gates[0].bound == pytest.approx(0.64 - 3.4808 * 0.01, abs=1e-4)  # z at 1 - 0.05 / 200
    attacks["loss"] = attack(cell(shares(0.9), others={"balanced_accuracy": shares(0.634)}))
    assert judged(gates, attacks).status == "inconclusive"


def test_a_pass_needs_no_correction() -> None:
    value = 0.6 - 2 * 0.01  # below the limit at 95 %, not at 1 - 0.05/6
    assert of_aucs(*[value] * 6).status == "pass"


def test_cells_without_a_figure_do_not_widen_the_correction() -> None:
    attacks = {"loss": attack(cell(shares(0.7))), "zlib": attack(cell(CONSTANT)), "reference": attack(NO_REFERENCE)}
    assert judged(["student.auc<=0.6"], attacks).n_cells == 1


BEATEN, EVEN = gain(0.2), gain(0.01)
METRIC_OF = {"auc": "auc", "balanced_accuracy": "balanced_accuracy", "tpr": "tpr@0.1"}


def held_against(**nulls: Mapping[str, Difference] | Difference) -> dict[str, AttackResult]:
    """An attack far above every limit, held against these nulls; a figure stands for all metrics."""
    figures = {name: beyond(null) if isinstance(null, Difference) else null for name, null in nulls.items()}
    rates = {"tpr@0.1": shares(0.9), "balanced_accuracy": shares(0.9)}
    leaky = attack(cell(shares(0.9), nulls=figures, others=rates))
    return {"loss": leaky, "zlib": leaky}


@pytest.mark.parametrize("metric", METRIC_OF.values())
@pytest.mark.parametrize("null", [EVEN, gain(-0.2), Difference(None, reason="no scores")])
@pytest.mark.parametrize("kind", ["start", "blind"])
def test_an_attack_that_does_not_beat_what_saw_neither_set_fails_no_gate(
    metric: str, null: Difference, kind: str
) -> None:
    verdict = judged([f"student.{metric}<=0.6"], held_against(**{kind: null}))
    assert verdict.status == "inconclusive"
    assert {"start": "the model's start", "blind": "a classifier that never sees a model"}[kind] in verdict.sentence
    assert (null.reason or "not surely above") in verdict.gates[0].reason
    assert verdict.gates[0].bound_side == "lower"
    assert judged([f"student.{metric}<=0.6"], held_against(**{kind: BEATEN})).status == "fail"


@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy"])
def test_an_auc_must_beat_both_the_start_and_the_blind_classifier(metric: str) -> None:
    gates = [f"student.{metric}<=0.6"]
    assert judged(gates, held_against(start=BEATEN, blind=BEATEN)).status == "fail"
    assert judged(gates, held_against(start=EVEN, blind=BEATEN)).status == "inconclusive"
    assert judged(gates, held_against(start=BEATEN, blind=EVEN)).status == "inconclusive"


def test_a_rate_must_beat_the_start_alone_where_there_is_one_and_only_at_its_own_rate() -> None:
    """Where few members are exposed the AUC is hardly above the blind one."""
    gates = ["student.tpr@0.1<=0.6"]
    assert judged(gates, held_against(start=BEATEN, blind=EVEN)).status == "fail"
    assert judged(gates, held_against(start=EVEN, blind=BEATEN)).status == "inconclusive"
    only = {**beyond(EVEN), "tpr@0.1": BEATEN}
    assert judged(gates, held_against(start=only)).status == "fail"
    assert judged(gates, held_against(start={**beyond(BEATEN), "tpr@0.1": EVEN})).status == "inconclusive"


@pytest.mark.parametrize("nulls", [{}, {"start": {}}, {"another": beyond(BEATEN)}])
def test_a_file_of_an_earlier_version_without_nulls_fails_no_gate(nulls: dict[str, Mapping[str, Difference]]) -> None:
    verdict = judged(["student.auc<=0.6"], held_against(**nulls))
    assert verdict.status == "inconclusive"
    assert "not held against" in verdict.gates[0].reason
    assert judged(["student.auc<=0.95"], held_against(**nulls)).status == "pass"


def test_the_blind_comparison_is_one_sided_at_95_percent() -> None:
    assert of_aucs(0.9, 0.9, beyond_blind=0.0165).status == "fail"
    assert of_aucs(0.9, 0.9, beyond_blind=0.0164).status == "inconclusive"


def test_one_failing_cell_is_enough_beside_one_that_does_not_beat_the_blind_classifier() -> None:
    attacks = {"loss": attack(cell(shares(0.9), beyond_blind=0.0)), "zlib": attack(cell(shares(0.8)))}
    verdict = judged(["student.auc<=0.6"], attacks)
    assert verdict.status == "fail"
    assert verdict.gates[0].deciding_attack == "zlib"


def test_a_failed_validity_check_makes_every_gate_inconclusive() -> None:
    attacks = {"loss": attack(cell(shares(0.9))), "zlib": attack(cell(shares(0.5)))}
    gates = ["student.auc<=0.6", "student.auc[zlib]<=0.6", "student.auc<=1"]
    assert judged(gates, attacks).status == "fail"
    verdict = judged(gates, attacks, INVALID)
    assert [gate.status for gate in verdict.gates] == ["inconclusive"] * 3
    assert verdict.status == "inconclusive"
    assert "members and non-members differ without any model (tf-idf: AUC 0.710)" in verdict.sentence
    assert judged([], attacks, INVALID).status == "not_gated"


def test_a_failed_gate_outweighs_an_inconclusive_one_and_that_a_passed_one() -> None:
    attacks = {"loss": attack(cell(shares(0.9))), "zlib": attack(cell(shares(0.6))), "min-k": attack(cell(shares(0.5)))}
    gates = {name: f"student.auc[{name}]<=0.6" for name in attacks}
    assert judged([gates["min-k"], gates["zlib"], gates["loss"]], attacks).status == "fail"
    assert judged([gates["min-k"], gates["zlib"]], attacks).status == "inconclusive"
    assert judged([gates["min-k"]], attacks).status == "pass"
    sentence = judged([gates["min-k"], gates["zlib"], gates["loss"]], attacks).sentence
    assert sentence.startswith("Fail (1 of 3 gates): student.auc is 0.900 under loss")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("pass", ExitCode.PASSED),
        ("not_gated", ExitCode.PASSED),
        ("fail", ExitCode.GATE_FAILED),
        ("inconclusive", ExitCode.INCONCLUSIVE),
    ],
)
def test_each_status_has_its_exit_code(status: str, code: ExitCode) -> None:
    verdict = Verdict(status)  # type: ignore[arg-type]
    assert exit_code(verdict) is code
    assert exit_code(verdict, exit_zero=True) is ExitCode.PASSED


figures = st.builds(
    lambda value, spread, n, is_constant: CONSTANT if is_constant else shares(value, spread=spread, n=n),
    st.floats(0.4, 0.8),
    st.floats(0.001, 0.1),
    st.sampled_from([150, 200, 2000]),
    st.booleans(),
)


@given(st.lists(figures, min_size=1, max_size=6), st.floats(0.4, 0.8))
def test_a_verdict_follows_from_the_bounds_alone(aucs: list[Estimate], limit: float) -> None:
    verdict = of_aucs(*aucs, gates=[f"student.auc <= {limit!r}"])
    level = 1 - 0.05 / max(1, sum(auc.value is not None for auc in aucs))
    usable = [auc for auc in aucs if auc.value is not None and auc.n >= 200]
    lower = [lower_bound(auc, level) or 0 for auc in usable]
    upper = [upper_bound(auc, 0.95) or 0 for auc in usable]
    if any(bound > limit for bound in lower):
        assert verdict.status == "fail"
    elif len(usable) == len(aucs) >= 2 and all(bound <= limit for bound in upper):
        assert verdict.status == "pass"
    else:
        assert verdict.status == "inconclusive"
    assert verdict.sentence.startswith(verdict.status.capitalize())
    assert bool(verdict.next_step) == (verdict.status != "pass")


def test_a_gates_row_holds_what_a_reader_needs() -> None:
    (row,) = of_aucs(0.52, 0.7).gates
    assert row == GateResult(
        "student.auc<=0.6",
        "fail",
        "the lower bound of zlib lies above the limit 0.6",
        "student",
        "auc",
        0.6,
        "zlib",
        0.7,
        lower_bound(shares(0.7), 0.975),
        "lower",
        0.975,
        cells=(
            CellFinding("loss", "loss", "pass", "", 0.52, upper_bound(shares(0.52), 0.95), "upper", 0.95),
            CellFinding(
                "zlib",
                "zlib",
                "fail",
                "",
                0.7,
                lower_bound(shares(0.7), 0.975),
                "lower",
                0.975,
                sentences.reduce("student"),
            ),
        ),
        next_step=sentences.reduce("student"),
    )


@given(st.lists(figures, min_size=1, max_size=4), st.booleans())
def test_a_gates_cells_show_what_its_status_says(aucs: list[Estimate], is_valid: bool) -> None:
    attacks = dict(zip(ATTACKS, (attack(cell(auc)) for auc in aucs), strict=False))
    (gate,) = judged(["student.auc <= 0.6"], attacks, VALID if is_valid else INVALID).gates
    statuses = {found.status for found in gate.cells}
    assert [found.attack for found in gate.cells] == list(attacks)
    if gate.status == "pass":
        assert statuses == {"pass"}
    else:
        assert gate.status in statuses
        assert gate.status == "fail" or "fail" not in statuses
