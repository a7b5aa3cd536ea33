"""The picture of a comparison in characters: every point where it belongs, nothing that Markdown acts on."""

from dataclasses import replace

from kdaudit.metrics.frontier import PlainPoint, Point
from kdaudit.report.charts.sketch import HEIGHT, WIDTH, sketch
from kdaudit.report.render import render_markdown
from kdaudit.results.mitigation import Arm, Mitigation
from tests.report.tables import TABLE

ARM = TABLE.arms["bottleneck"]


def at(nll: float, leak: float) -> Arm:
    placed = {"loss": {**ARM.placed["loss"], "auc": replace(ARM.placed["loss"]["auc"], point=Point(nll, leak))}}
    return replace(ARM, placed=placed)


def after(epochs: float, nll: float, leak: float, *, run: int = 12) -> PlainPoint:
    return PlainPoint(nll, leak, run, epochs, is_stair=True)


def comparison(arms: dict[str, Arm], *epochs: PlainPoint) -> Mitigation:
    frontier = {"loss": {**TABLE.frontier["loss"], "auc": epochs}} if epochs else TABLE.frontier
    return replace(TABLE, arms=arms, frontier=frontier, recommended=None)


def grid(lines: list[str]) -> list[str]:
    return [line[7:] for line in lines[1 : HEIGHT + 1]]


def test_the_corners_of_the_picture_are_the_ends_of_its_scales() -> None:
    lines = sketch(comparison({"worst": at(4.0, 1.0), "best": at(3.0, 0.5)}, after(1, 3.6, 0.6), after(2, 3.2, 0.85)))
    rows = grid(lines)
    assert (rows[0].index("a"), rows[-1].index("b")) == (WIDTH - 1, 0)
    assert lines[1].startswith("1.000 |")
    assert lines[HEIGHT].startswith("0.500 |")
    assert lines[HEIGHT + 2].split() == ["3.000", "4.000"]
    assert lines[-1] == "a worst   b best"


def test_epochs_are_digits_with_dots_between_them() -> None:
    points = after(0, 4.0, 0.5, run=0), after(1, 3.5, 0.75), after(2, 3.0, 1.0), after(2, 3.25, 0.6, run=2)
    lines = sketch(comparison({}, *points))
    rows = grid(lines)
    found = {sign: (i, row.index(sign)) for i, row in enumerate(rows) for sign in "012+" if sign in row}
    assert found == {"0": (HEIGHT - 1, WIDTH - 1), "1": (8, 32), "2": (0, 0), "+": (12, 16)}
    drawn = [column for row in rows for column, sign in enumerate(row) if sign != " "]
    assert {*drawn} == {*range(WIDTH)}, "stairs without a gap"
    assert lines[-1] == "0 to 2: the plain run after each of its epochs, 0 before it; +: a plain run of 2 epochs"


def test_points_in_one_cell_are_marked_as_several() -> None:
    lines = sketch(comparison({"x": at(3.6, 0.6), "y": at(3.6001, 0.6), "z": at(3.3, 0.55)}))
    assert any("*" in row for row in grid(lines))
    assert "a" not in "".join(grid(lines))
    assert lines[-2].endswith("; *: several")
    assert lines[-1] == "a x   b y   c z"


def test_what_could_not_be_measured_is_not_drawn() -> None:
    assert sketch(replace(TABLE, metric="tpr@0.01")) == []
    assert "```" not in render_markdown(replace(TABLE, metric="tpr@0.01"))
    lines = sketch(comparison({"lost": replace(ARM, placed={"loss": dict.fromkeys(("auc", "tpr@0.01"), LOST)})}))
    assert "lost" not in lines[-1]


LOST = replace(ARM.placed["loss"]["auc"], point=None)


def test_many_epochs_share_a_sign_and_arms_beyond_the_alphabet_too() -> None:
    epochs = [after(i + 1, 4 - i / 10, 0.5 + i / 40) for i in range(12)]
    lines = sketch(comparison({f"arm-{i}": at(3.0 + i / 60, 0.5) for i in range(60)}, *epochs))
    assert "".join(grid(lines)).count("o") == 12
    assert any(line.startswith("o: the plain run") for line in lines)
    assert any("? arm-59" in line for line in lines)


def test_equal_points_make_no_scale_of_length_zero() -> None:
    lines = sketch(comparison({}, after(1, 3.0, 0.5), after(2, 3.0, 0.5)))
    assert grid(lines)[-1] == "*"


def test_a_hostile_name_stays_in_its_line() -> None:
    name = "```\n<script>alert(1)</script>"
    lines = sketch(comparison({name: at(3.0, 0.5)}))
    assert all("\n" not in line and "`" not in line and "<" not in line for line in lines)
    assert render_markdown(comparison({name: at(3.0, 0.5)})).count("```") == 2
