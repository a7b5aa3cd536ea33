"""When two sets cannot be compared: by their texts, or by a start that saw neither."""

from dataclasses import replace

import numpy as np
import pytest

from kdaudit.audit.validity import BLIND_LIMIT, NULL_ATTACKS, blind_reasons, start_reasons
from kdaudit.metrics.auc import auc_estimate
from kdaudit.metrics.estimate import Estimate
from kdaudit.metrics.validity import BlindBaseline
from kdaudit.results import Overlap, Validity
from kdaudit.verdict import judge, parse_gate
from kdaudit.verdict.sentences import SAME_SOURCE


def shifted(by: float, n: int = 1000) -> Estimate:
    """Of scores whose members lie `by` standard deviations higher, evenly spread: no luck in it."""
    rng = np.random.default_rng(0)
    scores = rng.permutation(np.linspace(-2, 2, 2 * n))
    return auc_estimate(scores[:n] + by, scores[n:])


def blind(**aucs: Estimate) -> BlindBaseline:
    name = max(aucs, key=lambda one: aucs[one].value or 0)
    return BlindBaseline(name, aucs[name], aucs, np.empty(0), np.empty(0))


def of_start(**found: Estimate) -> dict[str, Estimate]:
    return {name: found.get(name.replace("-", "_").replace("+", "p"), shifted(0)) for name in NULL_ATTACKS}


def test_a_start_that_separates_the_sets_is_a_reason_with_its_figure() -> None:
    (reason,) = start_reasons({"teacher and student": of_start(loss=shifted(0.5))})
    assert "the reference of teacher and student" in reason
    assert f"loss: AUC {shifted(0.5).value:.3f} [" in reason


def test_a_start_that_separates_them_the_wrong_way_round_is_a_reason_too() -> None:
    assert start_reasons({"student": of_start(min_kpp=shifted(-0.5))})


def test_a_start_that_separates_nothing_is_no_reason() -> None:
    assert start_reasons({"student": of_start()}) == []
    assert start_reasons({}) == []


def test_the_interval_must_lie_beyond_the_margin_as_a_whole() -> None:
    """At 1000 + 1000 the half-width of one in eight is 0.035: 0.545 could be 0.51."""
    by = next(one for one in np.linspace(0, 0.5, 200) if (shifted(one).value or 0) > 0.545)
    two = {"teacher": of_start(loss=shifted(by)), "student": of_start()}
    assert start_reasons(two) == []
    by = next(one for one in np.linspace(0, 0.5, 200) if (shifted(one).value or 0) > 0.57)
    assert start_reasons({"teacher": of_start(loss=shifted(by)), "student": of_start()})


def test_a_start_whose_scores_do_not_vary_says_nothing() -> None:
    nothing = Estimate(None, reason="scores do not vary")
    assert start_reasons({"student": dict.fromkeys(NULL_ATTACKS, nothing)}) == []


def test_the_bounds_of_the_blind_classifiers_are_corrected_for_how_many_they_are() -> None:
    """One classifier surely above the limit by itself is not so among many."""
    edge = replace(shifted(0.2), value=0.56, logit_value=float(np.log(0.56 / 0.44)))
    reach = (edge.logit_value or 0) - np.log(BLIND_LIMIT / (1 - BLIND_LIMIT))
    edge = replace(edge, logit_se=float(reach) / 1.8)  # between the 95 % point and the 98.75 % point
    assert blind_reasons(blind(tfidf=edge))
    others = {"surface": shifted(0), "characters": shifted(0), "traits": shifted(0)}
    assert blind_reasons(blind(tfidf=edge, **others)) == []


def test_gates_of_sets_that_cannot_be_compared_name_the_reason_and_the_way_out() -> None:
    reason, mend = "the reference of student separates them", "the sets differ in their format: tabs; write spaces"
    failed = Validity("failed", shifted(0), "tfidf", {}, {}, Overlap(13), (), {}, (reason,), (mend,))
    verdict = judge({}, failed, [parse_gate("student.auc <= 0.6")])
    assert verdict.status == "inconclusive"
    assert verdict.gates[0].reason == reason
    assert verdict.next_step == f"The sets differ in their format: tabs; write spaces. {SAME_SOURCE}"


def test_a_file_of_an_earlier_version_still_says_why() -> None:
    failed = Validity("failed", Estimate(0.7, 0.6, 0.8), "tfidf", {}, {}, Overlap(13), ())
    verdict = judge({}, failed, [parse_gate("student.auc <= 0.6")])
    assert verdict.gates[0].reason == "members and non-members differ without any model (tfidf: AUC 0.700)"


@pytest.mark.parametrize("n", [30, 200])
def test_random_scores_of_a_start_are_hardly_ever_a_reason(n: int) -> None:
    n_refused = 0
    for seed in range(300):
        rng = np.random.default_rng([n, seed])
        found = {name: auc_estimate(rng.normal(size=n), rng.normal(size=n)) for name in NULL_ATTACKS}
        n_refused += bool(start_reasons({"student": found}))
    assert n_refused <= 9  # 5 % would be 15 without the margin
