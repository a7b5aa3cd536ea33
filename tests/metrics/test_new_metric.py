"""A metric is one file and one line: an unbounded one is found in results, gates, console and reports."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kdaudit import metrics
from kdaudit.errors import ConfigError
from kdaudit.metrics.estimate import QUANTILE_GRID, Difference, Estimate
from kdaudit.metrics.metric import Case, Family, Figures, Metric, Pair
from kdaudit.metrics.scores import Floats
from kdaudit.verdict import parse_gate
from tests.commands import Given, kdaudit

# What follows, down to FAMILY, is the one file of a new metric.
RESAMPLES = 200


def epsilon(members: Floats, nonmembers: Floats) -> float:
    """The privacy loss that the median score shows: the log of the odds between the two error rates, at least 0."""
    threshold = np.median(np.concatenate([members, nonmembers]))
    found, alarms = ((np.sum(scores > threshold) + 1) / (scores.size + 2) for scores in (members, nonmembers))
    return max(0.0, math.log(found / alarms))


def estimate(pair: Pair, rng: np.random.Generator) -> Estimate:
    draws = [epsilon(*(rng.choice(scores, scores.size) for scores in pair)) for _ in range(RESAMPLES)]
    grid = np.quantile(draws, QUANTILE_GRID)
    low, high = np.quantile(draws, [0.025, 0.975])
    n, m = (scores.size for scores in pair)
    return Estimate(epsilon(*pair), low, high, n, m, method="bootstrap", quantiles=tuple(grid.tolist()))


def measure(case: Case) -> Figures:
    levels = {name: {"epsilon": estimate(pair, case.rng("epsilon"))} for name, pair in case.scores.items()}
    if case.baseline is None:
        return Figures(levels)
    base = levels[case.baseline]["epsilon"].value or 0.0
    gaps = {
        name: {"epsilon": Difference((found["epsilon"].value or 0.0) - base, -9.0, 9.0, 0.5, n=30, m=30)}
        for name, found in levels.items()
        if name != case.baseline
    }
    return Figures(levels, gaps)


FAMILY = Family(
    (Metric("epsilon", "privacy loss at the median score", "epsilon", highest=math.inf, null_metric="auc"),), measure
)


@pytest.fixture
def with_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line in the table."""
    monkeypatch.setattr(metrics, "FAMILIES", (*metrics.FAMILIES, FAMILY))
    monkeypatch.setitem(metrics.METRICS, "epsilon", FAMILY.metrics[0])


@pytest.mark.usefixtures("with_epsilon")
def test_a_gate_on_an_unbounded_metric_may_have_any_limit_that_is_not_negative() -> None:
    assert str(parse_gate("student.epsilon <= 7.5")) == "student.epsilon<=7.5"
    assert parse_gate("difference.epsilon <= -3").range == (-math.inf, math.inf)
    with pytest.raises(ConfigError, match="out of range") as error:
        parse_gate("student.epsilon <= -1")
    assert error.value.hint == "a limit on epsilon of student lies at 0 or above"


@pytest.mark.usefixtures("with_epsilon")
def test_a_new_metric_is_found_in_results_gates_console_and_reports(given: Given, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = given.attack(out, "--attack", "loss", "--gate", "student.epsilon[loss] <= 7.5", "--exit-zero")
    assert done.code == 0, done.err
    loss = json.loads((out / "results.json").read_text(encoding="utf-8"))["attacks"]["loss"]
    value = loss["student"]["epsilon"]["value"]
    assert value >= 0
    assert loss["comparison"]["student"]["epsilon"]["value"] == pytest.approx(
        value - loss["teacher"]["epsilon"]["value"]
    )
    assert loss["comparison"]["student"]["epsilon"]["p_value_holm"] == 0.5
    assert "student.epsilon[loss]<=7.5" in done.out
    title, shown = "Privacy loss at the median score with 95 % interval", f"{value:.3f} ["
    assert title in done.out
    assert shown in done.out
    assert kdaudit("report", out, "--exit-zero").code == 0
    for file in ("report.html", "report.md", "summary.md"):
        text = (out / file).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
        assert title in text, file
        assert shown in text, file
    assert 'aria-label="epsilon of every attack' in (out / "report.html").read_text(encoding="utf-8")
