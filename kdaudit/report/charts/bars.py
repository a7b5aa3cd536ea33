"""The picture of the verdict: a bar for each model on a scale from guessing to certainty, with the limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from kdaudit.report.blocks import Picture
from kdaudit.report.text import plain

WIDTH = 400
"""The text is 14 high on this width: 12 pixels on a telephone, 8 points in half a printed page."""
LEFT, RIGHT, ROW, ABOVE = 92, 14, 40, 62
BAR = 22
SVG = "http://www.w3.org/2000/svg"
N_COLOURS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One model: a share in [0, 1] with its interval, and how it is written."""

    name: str
    place: int
    """Among the models, which decides its colour."""
    value: float
    low: float | None
    high: float | None
    text: str
    told: str
    """What a reader who points at it is told."""


def bars(
    title: str, rows: Sequence[Bar], *, chance: float, limits: Sequence[tuple[str, float]], message: str
) -> Picture:
    """Draw the bars from `chance` on.

    Args:
        title: what is counted, out of 100.
        rows: from top to bottom.
        chance: what guessing gives, in [0, 1]: where every bar begins.
        limits: each with the words beside its line.
        message: what the picture says, for those who do not see it.
    """
    known = [value for row in rows for value in (row.value, row.low) if value is not None]
    start = min([chance, *known, *(limit for _, limit in limits)])
    start = chance if start >= chance else max(0.0, int(start * 10) / 10)
    scale = (WIDTH - LEFT - RIGHT) / (1 - start)

    def across(value: float) -> float:
        return round(LEFT + (value - start) * scale, 1)

    bottom = ABOVE + 18 * max(len(limits) - 1, 0) + ROW * len(rows)
    top = bottom - ROW * len(rows)
    svg = ElementTree.Element("svg", xmlns=SVG, viewBox=f"0 0 {WIDTH} {bottom + 44}", role="img")
    svg.set("aria-label", plain(message))
    _text(svg, 0, 16, title, weight="600")
    _line(svg, across(chance), top - 6, bottom, "var(--faint)", dashes="3 3")
    for place, row in enumerate(rows):
        _draw_bar(svg, row, top + ROW * place + ROW / 2, across, chance)
    for place, (words, limit) in enumerate(limits):
        level = top - 10 - 18 * (len(limits) - 1 - place)
        _line(svg, across(limit), level + 4, bottom, "var(--fail)", width="2")
        is_left = across(limit) > WIDTH * 0.62
        _text(svg, across(limit) + (-5 if is_left else 5), level, words, anchor="end" if is_left else "start",
              colour="var(--fail)")  # fmt: skip
    _line(svg, across(start), bottom, bottom, "var(--faint)", to=across(1))
    _text(svg, across(chance), bottom + 18, f"{100 * chance:g}", anchor="middle")
    _text(svg, across(chance), bottom + 36, "guessing", anchor="middle", colour="var(--soft)")
    _text(svg, across(1), bottom + 18, "100", anchor="end")
    _text(svg, across(1), bottom + 36, "certain", anchor="end", colour="var(--soft)")
    return Picture(ElementTree.tostring(svg, encoding="unicode"), "")


def _draw_bar(
    svg: ElementTree.Element, row: Bar, middle: float, across: Callable[[float], float], chance: float
) -> None:
    group = ElementTree.SubElement(svg, "g")
    ElementTree.SubElement(group, "title").text = plain(row.told)
    _text(group, 0, middle + 5, row.name)
    left, right = sorted((across(chance), across(row.value)))
    ElementTree.SubElement(
        group, "rect", x=f"{left}", y=f"{middle - BAR / 2:g}", width=f"{right - left:.1f}", height=f"{BAR}",
        style=f"fill:var(--model-{row.place % N_COLOURS})",
    )  # fmt: skip
    end = right
    if row.low is not None and row.high is not None:
        _line(group, across(row.low), middle, middle, "var(--ink)", to=across(row.high), width="2")
        end = max(right, across(row.high))
    is_inside = end + 8 * len(row.text) + 8 > WIDTH
    if is_inside:
        inner = min(left + 6, right) if right - left > 8 * len(row.text) + 12 else left - 6
        _text(group, inner, middle + 5, row.text, anchor="start" if inner > left else "end", weight="600",
              colour="var(--page)" if inner > left else "var(--ink)")  # fmt: skip
    else:
        _text(group, end + 6, middle + 5, row.text, weight="600")


def _line(
    parent: ElementTree.Element, x: float, y: float, until: float, colour: str, *, to: float | None = None,
    width: str = "1", dashes: str = "",
) -> None:  # fmt: skip
    line = ElementTree.SubElement(
        parent, "line", x1=f"{x:g}", x2=f"{x if to is None else to:g}", y1=f"{y:g}", y2=f"{until:g}"
    )
    line.set("style", f"stroke:{colour};stroke-width:{width}" + (f";stroke-dasharray:{dashes}" if dashes else ""))


def _text(
    parent: ElementTree.Element, x: float, y: float, text: str, *, anchor: str = "start", colour: str = "var(--ink)",
    weight: str = "400",
) -> None:  # fmt: skip
    found = ElementTree.SubElement(parent, "text", x=f"{x:g}", y=f"{y:g}")
    found.set("style", f"fill:{colour};stroke:none;text-anchor:{anchor};font-size:14px;font-weight:{weight}")
    found.text = plain(text)
