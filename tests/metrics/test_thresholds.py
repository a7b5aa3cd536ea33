"""Metrics at a calibrated threshold: against a bootstrap written out record by record, and laws."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kdaudit.metrics.bootstrap import Rate, draw_counts, mean_rate_spread, quantiles
from kdaudit.metrics.calibration import (
    FALSE_POSITIVE_RATES,
    WIDTH,
    balanced_threshold,
    best_in_sample,
    replicate_balanced,
    replicate_conformal,
)
from kdaudit.metrics.estimate import lower_bound, upper_bound
from kdaudit.metrics.scores import Floats, Integers, split_parts
from kdaudit.metrics.thresholds import paired_detections, threshold_metrics
from kdaudit.metrics.tpr import conformal_threshold

KEYS = ("0.01", "0.1")
coarse = arrays(np.float64, st.integers(3, 30), elements=st.integers(-3, 3).map(float))


def correlated(n: int, m: int, shifts: Sequence[float], *, seed: int = 0) -> dict[str, tuple[Floats, Floats]]:
    """Binormal scores of one model per shift, which share half of their variance."""
    rng = np.random.default_rng([seed, n])
    shared = rng.normal(size=n + m)
    models = [(shared + rng.normal(size=n + m)) / math.sqrt(2) for _ in shifts]
    names = ["teacher", "student", "student-2"]
    return {name: (model[:n] + shift, model[n:]) for name, model, shift in zip(names, models, shifts, strict=False)}


def audit(
    scores: Mapping[str, tuple[Floats, Floats]],
    *,
    seed: int = 0,
    share: float = 0.3,
    baseline: str | None = None,
    resamples: int = 2000,
) -> Any:  # what these tests read is known to be set
    n, m = (each.size for each in scores["teacher"])
    parts = split_parts(n, m, share=share, rng=np.random.default_rng(1))
    return threshold_metrics(scores, parts, rng=np.random.default_rng(seed), baseline=baseline, resamples=resamples)


def smoothed_gain(
    threshold: float,
    values: list[float],
    positions: list[float],
    resampled_members: Floats,
    resampled_nonmembers: Floats,
    half: float,
) -> float:
    """Integral over the window around one threshold of the gain, joined linearly between candidates."""
    gains = np.array([0, *(np.mean(resampled_nonmembers <= v) - np.mean(resampled_members <= v) for v in values)])
    knots = np.array([0.0, *positions])
    centre = positions[values.index(threshold)]
    start, end = max(centre - half, 0), min(centre + half, 1)
    points = np.array([start, *(k for k in knots if start < k < end), end])
    return float(np.trapezoid(np.interp(points, knots, gains), points))


def thresholds_by_definition(
    members: Floats, nonmembers: Floats, member_counts: Integers, nonmember_counts: Integers
) -> tuple[float, list[float]]:
    """Balanced threshold of a resample, and the conformal ones of its non-members, from copied records."""
    n, m = members.size, nonmembers.size
    drawn_members, drawn_nonmembers = np.repeat(members, member_counts), np.repeat(nonmembers, nonmember_counts)
    values = sorted({*members.tolist(), *nonmembers.tolist()})
    positions = [float(np.mean(members <= v) + np.mean(nonmembers <= v)) / 2 for v in values]
    half = WIDTH * (4 * n * m / (n + m)) ** -0.2
    gains = [smoothed_gain(v, values, positions, drawn_members, drawn_nonmembers, half) for v in values]
    rounding = 1e-9 * np.abs(gains).max()
    best = int(np.argmax(np.array(gains) >= max(gains) - rounding))
    falling = np.sort(drawn_nonmembers)[::-1]
    conformal = [float(falling[int(f * (m + 1) + 1e-9) - 1]) for f in (0.01, 0.1) if f * (m + 1) >= 1]
    return (values[best] if gains[best] > rounding else values[-1]), conformal


def test_replicated_thresholds_are_those_of_the_copied_records():
    scores = correlated(60, 110, [0.8, 1.2])
    models = [(members.round(1), nonmembers.round(1)) for members, nonmembers in scores.values()]
    balanced = replicate_balanced(models, resamples=40, rng=np.random.default_rng(3))
    conformal = replicate_conformal([m for _, m in models], KEYS, resamples=40, rng=np.random.default_rng(3))
    rng, of_nonmembers = np.random.default_rng(3), np.random.default_rng(3)
    for replicate in range(40):
        counts, alone = (draw_counts(60, rng), draw_counts(110, rng)), draw_counts(110, of_nonmembers)
        for thresholds, rates, model in zip(balanced, conformal, models, strict=True):
            assert thresholds[replicate] == thresholds_by_definition(*model, *counts)[0]
            expected = thresholds_by_definition(*model, counts[0], alone)[1]
            assert [rates[key][replicate] for key in KEYS] == expected


@given(coarse, coarse)
@settings(max_examples=60)
def test_the_fitted_threshold_is_the_one_of_the_definition_however_many_ties(members, nonmembers):
    once = np.ones(members.size, dtype=int), np.ones(nonmembers.size, dtype=int)
    balanced, _ = thresholds_by_definition(members, nonmembers, *once)
    assert balanced_threshold(members, nonmembers) == balanced


@pytest.mark.parametrize(("n", "m"), [(40, 40), (300, 40), (40, 300), (9000, 7000)])
def test_separable_scores_are_split_without_an_error(n, m):
    rng = np.random.default_rng(0)
    members, nonmembers = rng.exponential(size=n) + 9, -rng.exponential(size=m)
    assert balanced_threshold(members, nonmembers) == nonmembers.max()
    nothing = balanced_threshold(nonmembers, members)
    assert nothing == members.max()  # worse than chance at every threshold: nobody is called a member


def test_the_smoothed_threshold_attains_nearly_the_best_balanced_accuracy():
    for shift in (0.5, 1.0, 3.0):
        members, nonmembers = correlated(6000, 6000, [shift])["teacher"]
        threshold = balanced_threshold(members, nonmembers)
        attained = (np.mean(members > threshold) + np.mean(nonmembers <= threshold)) / 2
        assert attained > best_in_sample(members, nonmembers).balanced_accuracy - 0.005


def test_intervals_agree_with_a_bootstrap_of_copied_records():
    scores = correlated(400, 400, [0.9, 1.3])
    parts = split_parts(400, 400, share=0.4, rng=np.random.default_rng(1))
    found: Any = threshold_metrics(scores, parts, rng=np.random.default_rng(2), baseline="teacher")
    rng = np.random.default_rng(4)
    member_rows, nonmember_rows = parts.calibration_members, parts.calibration_nonmembers
    calibration = [(members[member_rows], nonmembers[nonmember_rows]) for members, nonmembers in scores.values()]
    replicated = replicate_balanced(calibration, resamples=1500, rng=rng)
    draws: dict[str, list[float]] = {"tpr": [], "member": [], "nonmember": [], "balanced": []}
    for replicate in range(1500):
        rows = rng.choice(parts.evaluation_members, parts.evaluation_members.size)
        columns = rng.choice(parts.evaluation_nonmembers, parts.evaluation_nonmembers.size)
        all_rows, all_columns = rng.choice(400, 400), rng.choice(400, 400)
        figures = []
        for (members, nonmembers), thresholds in zip(scores.values(), replicated, strict=True):
            t = thresholds[replicate]
            tpr = np.mean(members[all_rows] > conformal_threshold(nonmembers[all_columns], "0.1"))
            figures.append((tpr, np.mean(members[rows] > t), np.mean(nonmembers[columns] <= t)))
        gap = np.subtract(figures[1], figures[0])
        for name, draw in zip(draws, (*gap, (gap[1] + gap[2]) / 2), strict=True):
            draws[name].append(draw)
    differences = found.differences["student"]
    pairs = {
        "tpr": differences["tpr@0.1"],
        "member": differences["member_success"],
        "nonmember": differences["nonmember_success"],
        "balanced": differences["balanced_accuracy"],
    }
    for name, difference in pairs.items():
        expected, spread = np.quantile(draws[name], [0.025, 0.975]), float(np.std(draws[name]))
        assert [difference.low, difference.high] == pytest.approx(expected, abs=0.2 * spread)
        below = (np.count_nonzero(np.array(draws[name]) <= 0) + 1) / 1501
        above = (np.count_nonzero(np.array(draws[name]) >= 0) + 1) / 1501
        assert difference.p_value == pytest.approx(min(1, 2 * min(below, above)), abs=0.05)


def test_changing_evaluation_scores_moves_no_balanced_threshold():
    scores = correlated(1200, 1200, [1.0])
    parts = split_parts(1200, 1200, share=0.3, rng=np.random.default_rng(1))
    changed = {name: (members.copy(), nonmembers.copy()) for name, (members, nonmembers) in scores.items()}
    for members, nonmembers in changed.values():
        members[parts.evaluation_members] += 5
        nonmembers[parts.evaluation_nonmembers] -= 5
    one: Any
    other: Any
    one, other = (
        threshold_metrics(each, parts, rng=np.random.default_rng(0), resamples=50).models["teacher"]
        for each in (scores, changed)
    )
    assert one["member_success"].threshold == other["member_success"].threshold
    assert (other["balanced_accuracy"].value, one["balanced_accuracy"].value < 0.8) == (1, True)


def test_a_null_model_is_at_one_half_on_average():
    values = []
    for seed in range(60):  # fitted and judged on the same records it would be 0.541
        scores = correlated(100, 100, [0.0], seed=seed)
        values.append(audit(scores, share=0.5, resamples=2).models["teacher"]["balanced_accuracy"].value)
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)


def test_a_false_positive_rate_is_reported_only_where_enough_records_bear_it_out():
    found = audit(correlated(1000, 998, [1.0, 1.2]), resamples=50, baseline="teacher")
    metrics, differences = found.models["teacher"], found.differences["student"]
    assert metrics["tpr@0.001"].value is None
    assert metrics["tpr@0.001"].reason == "needs 999 non-members, there are 998"
    assert metrics["tpr@0.01"].value is not None
    assert differences["tpr@0.001"].reason == "needs 2999 non-members, there are 998"
    assert differences["tpr@0.01"].value is not None
    more = audit(correlated(1000, 999, [1.0]), resamples=50).models["teacher"]
    assert more["tpr@0.001"].value is not None


def test_an_estimate_says_what_it_rests_on():
    scores = correlated(1000, 1000, [1.0])
    estimate = audit(scores, resamples=200).models["teacher"]["tpr@0.1"]
    assert (estimate.n, estimate.m, estimate.quantiles) == (1000, 1000, None)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.realised_fpr_low < estimate.realised_fpr < estimate.realised_fpr_high
    assert estimate.realised_fpr == 99 / 1000  # the 100th of 1000 is the threshold itself
    assert estimate.threshold == np.sort(scores["teacher"][1])[-100]
    assert estimate.low < estimate.fixed_threshold_low < estimate.fixed_threshold_high < estimate.high


def test_equal_models_differ_by_exactly_nothing():
    pair = correlated(300, 300, [1.0])["teacher"]
    found = audit({"teacher": pair, "student": pair}, baseline="teacher", resamples=100)
    differences = found.differences["student"]
    for difference in (differences["member_success"], differences["balanced_accuracy"], differences["tpr@0.1"]):
        assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)
    assert differences["member_success"].mcnemar_p_value == 1
    parts = split_parts(300, 300, share=0.3, rng=np.random.default_rng(1))
    table = paired_detections({"teacher": pair, "student": pair}, parts, baseline="teacher")["student"]["members"]
    assert (table.baseline_only, table.other_only, table.both + table.neither) == (0, 0, 210)


def test_a_null_is_beaten_as_surely_as_a_baseline_that_scores_the_same():
    scores = correlated(600, 700, [0.8, 1.3])
    teacher, student = scores.values()
    parts = split_parts(600, 700, share=0.3, rng=np.random.default_rng(1))
    found: Any = threshold_metrics(
        {"student": student}, parts, rng=np.random.default_rng(0), nulls={"start": teacher, "blind": teacher},
        held_against={"student": ("start", "blind")},
    )  # fmt: skip
    compared = audit(scores, baseline="teacher").differences["student"]
    expected = {"balanced_accuracy": compared["balanced_accuracy"], "tpr@0.1": compared["tpr@0.1"]}
    assert set(found.models) == {"student"}
    for null in ("start", "blind"):
        beyond = found.beyond_nulls["student"][null]
        assert list(beyond) == ["tpr@0.001", "tpr@0.01", "tpr@0.1", "balanced_accuracy"]
        assert beyond["tpr@0.01"].value is not None
        assert beyond["tpr@0.001"].reason == "needs 2999 non-members, there are 700"
        for metric, difference in expected.items():
            assert beyond[metric].value == pytest.approx(difference.value)
            assert (beyond[metric].level, beyond[metric].quantiles) == (0.9, None)
            width = difference.high - difference.low
            assert lower_bound(beyond[metric], 0.95) == beyond[metric].low
            assert beyond[metric].low == pytest.approx(lower_bound(difference, 0.95), abs=0.1 * width)
            assert beyond[metric].high == pytest.approx(upper_bound(difference, 0.95), abs=0.1 * width)


def test_a_model_beats_no_null_that_is_itself():
    pair = correlated(300, 300, [1.0])["teacher"]
    parts = split_parts(300, 300, share=0.3, rng=np.random.default_rng(1))
    found = threshold_metrics(
        {"student": pair}, parts, rng=np.random.default_rng(0), nulls={"start": pair},
        held_against={"student": ["start"]}, resamples=50,
    )  # fmt: skip
    for metric, beyond in found.beyond_nulls["student"]["start"].items():
        assert (beyond.value, beyond.low, beyond.high) == ((0, 0, 0) if metric != "tpr@0.001" else (None,) * 3)


def test_the_two_by_two_table_adds_up_to_the_success_of_both():
    scores = correlated(300, 200, [1.0, 1.5])
    found = audit(scores, baseline="teacher", resamples=50)
    parts = split_parts(300, 200, share=0.3, rng=np.random.default_rng(1))
    tables = paired_detections(scores, parts, baseline="teacher")
    table = tables["student"]["members"]
    assert (table.both + table.baseline_only) / 210 == found.models["teacher"]["member_success"].value
    assert (table.both + table.other_only) / 210 == found.models["student"]["member_success"].value
    assert sum(asdict(table).values()) == 210
    of_nonmembers = tables["student"]["nonmembers"]
    assert 1 - (of_nonmembers.both + of_nonmembers.other_only) / 140 == pytest.approx(
        found.models["student"]["nonmember_success"].value
    )


def test_swapping_the_models_mirrors_the_difference():
    scores = correlated(500, 500, [0.8, 1.2])
    there = audit(scores, baseline="teacher").differences["student"]["member_success"]
    back = audit(scores, baseline="student").differences["teacher"]["member_success"]
    assert there.value == -back.value
    assert [there.low, there.high] == pytest.approx([-back.high, -back.low], abs=0.02)


def test_a_further_model_does_not_move_the_thresholds_and_draws_of_those_before_it():
    three = correlated(300, 300, [0.8, 1.2, 1.0])
    two = {name: three[name] for name in ("teacher", "student")}
    wide, narrow = (audit(each, baseline="teacher", resamples=300) for each in (three, two))
    assert wide.models["student"]["member_success"] == narrow.models["student"]["member_success"]
    assert set(wide.differences) == {"student", "student-2"}


def test_one_seed_gives_one_result():
    scores = correlated(200, 200, [0.8, 1.2])
    assert audit(scores, baseline="teacher", resamples=50) == audit(scores, baseline="teacher", resamples=50)


def test_a_rising_transform_changes_nothing_but_the_thresholds():
    scores = correlated(200, 200, [1.0])
    plain = audit(scores, resamples=100).models["teacher"]["member_success"]
    warped = audit({"teacher": (np.exp(scores["teacher"][0]), np.exp(scores["teacher"][1]))}, resamples=100)
    other = warped.models["teacher"]["member_success"]
    assert other.threshold == pytest.approx(math.exp(plain.threshold))
    assert replace(other, threshold=plain.threshold) == plain


def test_no_detection_among_many_still_leaves_an_upper_bound():
    rng = np.random.default_rng(0)
    members, nonmembers = rng.uniform(-1, 0.5, 500), rng.uniform(-1, 1, 500)  # no member reaches the top 10 %
    estimate = audit({"teacher": (members, nonmembers)}).models["teacher"]["tpr@0.1"]
    assert (estimate.value, estimate.low) == (0, 0)
    assert estimate.high >= estimate.fixed_threshold_high > 0.007


def test_scores_that_do_not_vary_give_reasons_and_leave_the_other_models_alone():
    scores = correlated(200, 200, [1.0, 1.0])
    scores["student"] = (np.ones(200), np.ones(200))
    found = audit(scores, baseline="teacher", resamples=50)
    student = found.models["student"]
    for estimate in (
        student["balanced_accuracy"],
        student["member_success"],
        *(student[f"tpr@{key}"] for key in FALSE_POSITIVE_RATES),
    ):
        assert (estimate.value, estimate.reason) == (None, "scores do not vary")
    assert found.models["teacher"]["balanced_accuracy"].value > 0.6
    assert found.differences["student"]["member_success"].reason == "scores do not vary"
    parts = split_parts(200, 200, share=0.3, rng=np.random.default_rng(1))
    assert paired_detections(scores, parts, baseline="teacher") == {}
    assert paired_detections(scores, parts, baseline="student") == {}
    stuck_baseline = audit(scores, baseline="student", resamples=50)
    assert stuck_baseline.differences["teacher"]["balanced_accuracy"].reason == "scores do not vary"


def test_a_part_without_records_gives_a_reason():
    scores = correlated(3, 3, [1.0])
    parts = split_parts(3, 3, share=0.1, rng=np.random.default_rng(0))
    metrics = threshold_metrics(scores, parts, rng=np.random.default_rng(0)).models["teacher"]
    assert metrics["balanced_accuracy"].reason == "no records of one class in the calibration part"
    assert audit(correlated(2, 2, [1.0]), share=0.5, resamples=20).models["teacher"]["member_success"].value is not None


def test_bad_input_is_refused():
    scores = correlated(20, 20, [1.0])
    with pytest.raises(ValueError, match="baseline"):
        audit(scores, baseline="nobody")
    parts = split_parts(20, 20, share=0.3, rng=np.random.default_rng(1))
    for model, null, words in (("nobody", "blind", "among the models"), ("teacher", "start", "among the nulls")):
        with pytest.raises(ValueError, match=words):
            threshold_metrics(
                scores, parts, rng=np.random.default_rng(0), nulls={"blind": scores["teacher"]},
                held_against={model: [null]},
            )  # fmt: skip
    with pytest.raises(ValueError, match="same records"):
        audit({**scores, "student": (np.ones(3), np.ones(3))})
    with pytest.raises(ValueError, match="finite"):
        audit({"teacher": (np.full(20, math.nan), np.ones(20))})


@given(coarse, coarse)
def test_the_in_sample_figures_are_the_best_there_are(members, nonmembers):
    found = best_in_sample(members, nonmembers)
    candidates = [(np.mean(members > t) + np.mean(nonmembers <= t)) / 2 for t in np.concatenate([members, nonmembers])]
    assert found.balanced_accuracy == pytest.approx(max(candidates))
    assert found.balanced_accuracy == pytest.approx((found.member_success + found.nonmember_success) / 2)


@pytest.mark.parametrize("seed", range(12))
def test_balanced_accuracy_has_no_interval_that_no_threshold_could_give(seed: int) -> None:
    """At chance the threshold wanders far: one success rises as the other falls, and their mean stays."""
    draws = np.random.default_rng(seed)
    scores = {name: (draws.normal(size=800), draws.normal(size=1088)) for name in ("teacher", "student")}
    parts = split_parts(800, 1088, share=0.3, rng=np.random.default_rng(seed))
    found = threshold_metrics(scores, parts, rng=np.random.default_rng(seed), baseline="teacher", resamples=400)
    for model in found.models.values():
        balanced = model["balanced_accuracy"]
        assert balanced.value is not None
        assert balanced.low is not None
        assert balanced.high is not None
        assert 0.43 < balanced.low <= balanced.value <= balanced.high < 0.57
    gap = found.differences["student"]["balanced_accuracy"]
    assert gap.low is not None
    assert gap.high is not None
    assert -0.1 < gap.low <= gap.high < 0.1


def test_few_detections_leave_the_mean_its_exact_doubt() -> None:
    """Of 50 members none is detected in any replicate, of 50 non-members all are cleared: 0.5, but not surely."""
    none = np.zeros(4000, dtype=np.intp)
    spread = mean_rate_spread(Rate(0, 50, none), Rate(0, 50, none).complement, np.random.default_rng(0))
    assert spread.value == 0.5
    low, high = quantiles(spread, np.array([0.025, 0.975]))
    members_high, nonmembers_low = 1 - 0.025 ** (1 / 50), 0.025 ** (1 / 50)  # Clopper-Pearson of 0 and of 50 in 50
    assert low == pytest.approx((0 + nonmembers_low) / 2, abs=0.004)
    assert high == pytest.approx((members_high + 1) / 2, abs=0.004)
