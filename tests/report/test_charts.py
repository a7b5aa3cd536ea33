"""Pictures: whose a mark is, what stands beside it, and what those are told who do not see it."""

import re
from dataclasses import replace
from pathlib import Path

from kdaudit.metrics.estimate import Estimate
from kdaudit.report.charts.bars import Bar, bars
from kdaudit.report.charts.canvas import COLOURS, MODELS
from kdaudit.report.charts.pictures import pictures_of
from kdaudit.report.charts.plots import ForestRow, forest, levelled, roc
from kdaudit.results import Curve
from tests.report.reports import LEAKY, attack, read, write_run

MODELS_OF_RUN = ["teacher", "student"]
STUDENT = ForestRow("loss", {"teacher": Estimate(None, reason="no reference"), "student": Estimate(0.7, 0.6, 0.8)})


def drawn(row: ForestRow, *limits: tuple[str, float]) -> str:
    chart = forest(
        "AUC", [row], MODELS_OF_RUN, centre=0.5, centre_words="guessing", label="AUC", caption="", limits=limits
    )
    assert chart is not None
    return chart.svg


def test_a_model_without_a_value_is_not_in_the_legend() -> None:
    svg = drawn(STUDENT, ("student", 0.6))
    assert ">student<" in svg
    assert ">teacher<" not in svg


def test_a_limit_says_whose_it_is_in_its_models_colour() -> None:
    svg = drawn(STUDENT, ("student", 0.6), ("teacher", 0.9), ("difference", 0.02), ("student", 0.6))
    for words in ("student at most 0.6", "teacher at most 0.9", "difference at most 0.02"):
        assert svg.count(f">{words}<") == 1
    colour = COLOURS[MODELS[0]]
    assert colour in drawn(STUDENT, ("teacher", 0.9))
    assert colour not in drawn(STUDENT, ("student", 0.6))


def test_a_picture_without_a_value_is_none() -> None:
    empty = ForestRow("loss", {"teacher": None, "student": Estimate(None, reason="too few")})
    assert (
        forest(
            "AUC",
            [empty],
            MODELS_OF_RUN,
            centre=0.5,
            centre_words="guessing",
            label="AUC",
            caption="",
            limits=[("student", 0.6)],
        )
        is None
    )


def test_no_number_of_a_picture_is_rounded_with_its_coordinates() -> None:
    row = ForestRow("loss", {"student": Estimate(0.023, 0.012, 0.034)})
    svg = drawn(row, ("student", 0.02))
    assert ">student at most 0.02<" in svg
    (step,) = {round(float(b) - float(a), 6) for a, b in [re.findall(r">(0\.[0-9]+)<", svg)[:2]]}
    assert step > 0, "ticks that differ are written differently"


def test_who_points_at_a_mark_is_told_its_figure_and_who_sees_none_is_told_the_highest() -> None:
    svg = drawn(STUDENT)
    assert "<title>student, loss: 0.700 [0.600, 0.800]</title>" in svg
    assert 'aria-label="AUC. Highest: student 0.700 (loss)"' in svg


def test_guessing_is_named_at_its_line_and_not_in_a_legend() -> None:
    assert drawn(STUDENT).count(">guessing<") == 1
    chart = roc("reference", LEAKY.attacks["reference"], MODELS_OF_RUN)
    assert chart is not None
    assert chart.svg.count(">guessing<") == 1
    assert "at 1 % false positives it finds teacher 22 %, student 23 %" in chart.svg


def test_a_curve_is_level_and_hatched_where_no_false_alarm_is_seen() -> None:
    curve = Curve((0.0, 0.0, 0.002, 1.0), (0.0, 0.3, 0.5, 1.0), (0.0, 0.2, 0.4, 1.0), (0.0, 0.4, 0.6, 1.0))
    one = replace(LEAKY.attacks["reference"], curves={"student": curve})
    chart = roc("reference", one, MODELS_OF_RUN)
    assert chart is not None
    assert ">0 false alarms<" in chart.svg
    assert "<pattern" in chart.svg
    x, low, high, y = levelled(curve, 0.001)
    assert x == [0.001, 0.002, 0.002, 1.0]
    assert y == [0.3, 0.3, 0.5, 1.0]
    assert (low[0], high[0]) == (0.2, 0.4)


def test_a_name_that_begins_with_an_underscore_is_in_the_legend() -> None:
    rows = [ForestRow("loss", {"_a$_^b": Estimate(0.7, 0.6, 0.8), "b": Estimate(0.6, 0.5, 0.7)})]
    chart = forest("AUC", rows, ["_a$_^b", "b"], centre=0.5, centre_words="guessing", label="AUC", caption="")
    assert chart is not None
    assert "_a$_^b</text>" in chart.svg


def test_the_picture_of_the_verdict_begins_at_chance_and_names_its_limits() -> None:
    one = Bar("student", 1, 0.9, 0.85, 0.95, "90", "student: 90 in 100 <b>")
    found = bars("Right guesses", [one], chance=0.5, limits=[("limit 60", 0.6)], message="student 90").svg
    width = float(re.findall(r'width="([0-9.]+)" height="22"', found)[0])
    whole = 400 - 92 - 14
    assert width == round(whole * 0.8, 1), "0.9 lies at four fifths of the way from 0.5 to 1"
    assert ">limit 60<" in found
    assert "student: 90 in 100 &lt;b&gt;" in found
    below = bars("", [replace(one, value=0.42, low=0.38, high=0.46)], chance=0.5, limits=[], message="").svg
    assert float(re.findall(r'width="([0-9.]+)" height="22"', below)[0]) == round(whole / 0.7 * 0.08, 1)


def test_a_gated_rate_an_earlier_run_and_several_runs_have_pictures(tmp_path: Path) -> None:
    run = write_run(tmp_path / "now", LEAKY)
    then = replace(LEAKY, attacks={**LEAKY.attacks, "loss": attack(0.75, 0.7)})
    earlier = write_run(tmp_path / "then", then)
    _, (plain,) = pictures_of(read(run, gates=("student.tpr@0.1 <= 0.05",), baseline=earlier))
    labels = [re.findall(r'aria-label="([^"]*)"', picture.svg)[0] for picture in plain.levels]
    assert any(label.startswith("TPR at 10 % FPR of every attack") for label in labels)
    (student,) = (label for label in labels if label.startswith("AUC on the student, then and now"))
    assert "then 0.930 (reference), now 0.930 (reference)" in student
    compared, _ = pictures_of(read(run, earlier, gates=()))
    assert any("AUC of every attack in every run" in picture.svg for picture in compared)
