"""Forest plots: who is in the legend, and whose limit a line is."""

from kdaudit.metrics.estimate import Estimate
from kdaudit.report.charts.canvas import COLOURS, MODELS
from kdaudit.report.charts.plots import ForestRow, forest

MODELS_OF_RUN = ["teacher", "student"]
STUDENT = ForestRow("loss", {"teacher": Estimate(None, reason="no reference"), "student": Estimate(0.7, 0.6, 0.8)})


def drawn(row: ForestRow, *limits: tuple[str, float]) -> str:
    chart = forest("AUC", [row], MODELS_OF_RUN, centre=0.5, label="AUC", caption="", limits=limits)
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
    assert forest("AUC", [empty], MODELS_OF_RUN, centre=0.5, label="AUC", caption="", limits=[("student", 0.6)]) is None
