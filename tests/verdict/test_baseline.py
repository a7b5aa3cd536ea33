"""Regression against an earlier run: what rises, what cannot be compared, and how sure it is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from kdaudit.metrics.auc import auc_estimate
from kdaudit.metrics.estimate import Difference
from kdaudit.results import AttackResult, AuditedModel, AuditedRecords, AuditResult, Cell, Power, Verdict
from kdaudit.verdict import judge
from kdaudit.verdict.baseline import Paired, rises
from tests.verdict.audits import INVALID, NO_REFERENCE, VALID, beyond, gain

DATA = AuditedRecords(2000, 2000, 12, "ab" * 32, window_tokens=256)
CONFIG = {"seed": 0, "limit": None, "max_tokens": None, "n_shots": 12, "calibration_share": 0.3}


def scored(area: float, *, n: int = 2000, seed: int = 0) -> Cell:
    """A cell of `n` + `n` records with about that AUC, by DeLong."""
    rng = np.random.default_rng(seed)
    figure = auc_estimate(rng.normal(np.sqrt(2) * norm.ppf(area), 1, n), rng.normal(0, 1, n))
    return Cell("ok", figures={"auc": figure}, nulls={"blind": beyond(gain(0.2))})


def run(
    attacks: Mapping[str, Mapping[str, Cell]], *, version: int = 1, fingerprint: str = "", **changes: Any
) -> AuditResult:
    """A run of `attacks`, each with its cells by model."""
    found = {name: AttackResult(version, False, cells, {}, {}, {}, {}) for name, cells in attacks.items()}
    models = {model: AuditedModel(model, 9, fingerprint=fingerprint) for cells in attacks.values() for model in cells}
    whole = AuditResult("0.1.0", models, DATA, found, VALID, Power(None), {}, Verdict("not_gated"), CONFIG)
    return replace(whole, **changes)


def verdict(now: AuditResult, then: AuditResult, *, tolerance: float = 0.02, paired: Paired | None = None) -> Verdict:
    return judge(now.attacks, now.validity, [], rises=rises(now, then, tolerance=tolerance, paired=paired))


LOW, HIGH = run({"loss": {"student": scored(0.6)}}), run({"loss": {"student": scored(0.75)}})


def test_a_clear_rise_fails_and_a_clear_fall_passes() -> None:
    failed = verdict(HIGH, LOW)
    (gate,) = failed.gates
    assert (failed.status, gate.gate, gate.deciding_attack) == ("fail", "student.auc-baseline<=0.02", "loss")
    assert failed.sentence.startswith("Fail: student.auc changed by +0.1")
    assert "baseline" in failed.next_step
    assert verdict(LOW, HIGH).status == "pass"


def test_the_same_weights_have_not_risen_whatever_the_sampling_error() -> None:
    known = {name: replace(LOW, models={"student": AuditedModel("s", 9, fingerprint=name)}) for name in "ab"}
    assert verdict(known["a"], known["a"], tolerance=0).status == "pass"
    assert verdict(known["a"], known["b"], tolerance=0).status == "inconclusive"
    assert verdict(LOW, LOW, tolerance=0).status == "inconclusive", "without a fingerprint nothing says so"


def test_without_scores_the_error_is_that_of_two_sets_of_records() -> None:
    now, then = (found.attacks["loss"].cells["student"].auc for found in (HIGH, LOW))
    assert now is not None
    assert then is not None
    ((_, (cell,)),) = rises(HIGH, LOW, tolerance=0)
    assert isinstance(cell.figure, Difference)
    assert cell.figure.value == pytest.approx((now.value or 0) - (then.value or 0))
    raw = [(found.logit_se or 0) * (found.value or 0) * (1 - (found.value or 0)) for found in (now, then)]
    assert cell.figure.se == pytest.approx((raw[0] ** 2 + raw[1] ** 2) ** 0.5)


def test_paired_figures_replace_the_unpaired_ones() -> None:
    paired = {("loss", "student"): Difference(0.01, n=2000, m=2000, se=0.001)}
    assert verdict(HIGH, LOW, paired=paired).status == "pass"
    assert verdict(HIGH, LOW, paired={}).status == "inconclusive", "a figure that is missing there is missing"


def test_a_wide_interval_without_scores_says_how_to_narrow_it() -> None:
    small = run({"loss": {"student": scored(0.6, n=300)}})
    other = run({"loss": {"student": scored(0.6, n=300, seed=1)}})
    found = verdict(small, other)
    assert found.status == "inconclusive"
    assert "scores.parquet" in found.next_step


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (replace(HIGH, data=replace(DATA, sha256="cd" * 32)), "other data"),
        (replace(HIGH, data=replace(DATA, members=1999)), "other members"),
        (replace(HIGH, data=replace(DATA, window_tokens=128)), "other cuts of the texts"),
        (replace(HIGH, config={**CONFIG, "seed": 1}), "other seed"),
        (replace(HIGH, config={**CONFIG, "limit": 600, "calibration_share": 0.5}), "other limit, calibration-share"),
        (replace(HIGH, validity=INVALID), "the baseline's members and non-members cannot be compared"),
        (run({"loss": {"student": scored(0.75)}}, version=2), "another version of the attack"),
        (
            run({"loss": {"student": scored(0.75)}, "zlib": {"student": scored(0.75)}}),
            "not measured in this run (zlib)",
        ),
        (run({"loss": {"teacher": scored(0.75)}}), "not measured in the baseline (loss)"),
    ],
)
def test_what_cannot_be_compared_is_inconclusive(then: AuditResult, words: str) -> None:
    """The run leaks far less than each of these baselines, so that nothing else keeps it from passing."""
    found = verdict(LOW, then)
    assert found.status == "inconclusive"
    assert words in found.sentence
    assert verdict(LOW, HIGH).status == "pass"


def test_a_cell_that_the_baseline_lacks_is_left_out_and_named() -> None:
    now = run({"loss": {"student": scored(0.6)}, "zlib": {"student": scored(0.6)}, "ez": {"student": NO_REFERENCE}})
    found = verdict(now, HIGH)
    assert found.status == "pass"
    assert found.gates[0].skipped == ("zlib: not measured in the baseline", "ez: not measured in the baseline")
    assert found.n_cells == 1


def test_a_cell_that_is_no_longer_applicable_is_inconclusive() -> None:
    now = run({"loss": {"student": scored(0.6)}, "reference": {"student": NO_REFERENCE}})
    then = run({"loss": {"student": scored(0.7)}, "reference": {"student": scored(0.7)}})
    assert verdict(now, then).status == "inconclusive"


def test_rises_share_the_correction_with_the_other_gates() -> None:
    cells = rises(HIGH, LOW, tolerance=0.02)
    assert judge(HIGH.attacks, VALID, [], rises=cells).gates[0].level == 0.95
    assert judge(HIGH.attacks, VALID, [], rises=[*cells, *cells]).gates[0].level == 0.975


AUDITS = 2000


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("is_paired", [True, False])
def test_a_rise_of_just_the_tolerance_fails_or_passes_in_at_most_5_percent(correlation: float, is_paired: bool) -> None:
    """600 records a class, AUC 0.70 then and 0.72 now; the two scores of a record correlate as given."""
    from kdaudit.metrics.auc import auc_difference

    rng, n, counts = np.random.default_rng(7), 600, {"pass": 0, "fail": 0, "inconclusive": 0}
    shifts = np.sqrt(2) * norm.ppf([0.70, 0.72])
    mixing = np.linalg.cholesky([[1.0, correlation], [correlation, 1.0]])
    for _ in range(AUDITS):
        members, nonmembers = mixing @ rng.normal(size=(2, n)) + shifts[:, None], mixing @ rng.normal(size=(2, n))
        then, now = (
            run(
                {
                    "loss": {
                        "student": Cell(
                            "ok",
                            figures={"auc": auc_estimate(members[k], nonmembers[k])},
                            nulls={"blind": beyond(gain(0.2))},
                        )
                    }
                }
            )
            for k in range(2)
        )
        difference = auc_difference(members[1], nonmembers[1], members[0], nonmembers[0])
        paired = {("loss", "student"): difference} if is_paired else None
        counts[verdict(now, then, paired=paired).status] += 1
    print(f"correlation {correlation}, paired {is_paired}: {counts} of {AUDITS}")  # noqa: T201 - the figure for the record
    assert max(counts["fail"], counts["pass"]) <= 0.063 * AUDITS  # 5 % and 2.7 standard errors
