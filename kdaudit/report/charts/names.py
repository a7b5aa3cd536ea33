"""Names beside the points of a picture, where they cover nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot

from matplotlib.axes import Axes

from kdaudit.report.charts.canvas import FAINT

LINE, CHARACTER = 11.5, 5.6
"""Points from one line to the next, and for a letter of a name."""
GAPS = (9.0, 20.0, 34.0, 50.0)
"""Points from a mark to its name, the nearest first."""
RISES = (0.0, 12.0, -12.0, 24.0, -24.0, 38.0, -38.0, 54.0, -54.0)
"""Points by which a name stands higher than its mark."""
LED = 14.0
"""Points from which on a line leads from a mark to its name."""


NUMBER = 12.0
"""Points to the right of a point, and above it, where its number may stand."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """The area that two share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        """In square points."""
        return (self.right - self.left) * (self.top - self.bottom)


def around(x: float, y: float, size: float) -> Box:
    """The square around a point."""
    return Box(x - size / 2, y - size / 2, x + size / 2, y + size / 2)


def place_names(points: Mapping[str, tuple[float, float]], taken: Iterable[Box], inside: Box) -> dict[str, Box]:
    """Where each name stands so that it covers least: of the free places the nearest one.

    Args:
        points: by name, where its mark lies, in points.
        taken: what is not to be covered.
        inside: of which no name is to stick out.
    """
    obstacles, found = list(taken), {}
    for name, (x, y) in sorted(points.items(), key=lambda item: (-item[1][1], item[1][0])):
        width = CHARACTER * len(name)

        def cost(box: Box, x: float = x, y: float = y) -> tuple[float, float]:
            covered = sum(box.shared(other) for other in obstacles) + box.area - box.shared(inside)
            near = min(max(box.left, min(x, box.right)) - x, 0) or max(box.left - x, 0.0)
            return round(covered, 1), hypot(near, (box.bottom + box.top) / 2 - y)

        places = [
            Box(left, y + rise - LINE / 2, left + width, y + rise + LINE / 2)
            for gap, rise in product(GAPS, RISES)
            for left in (x + gap, x - gap - width)
        ]
        found[name] = min(places, key=cost)
        obstacles.append(found[name])
    return found


def name_points(
    axes: Axes, points: Mapping[str, tuple[float, float]], bare: Sequence[Sequence[tuple[float, float]]]
) -> None:
    """Write each name beside its point, where it covers neither another name nor a mark.

    Args:
        axes: drawn, with its final limits.
        points: by name, in the units of the data.
        bare: what else is drawn, each a point or the two ends of an upright line, in the units of the data.
    """
    to_points = 72 / axes.figure.dpi
    axes.get_xlim(), axes.get_ylim()  # settles the limits, which matplotlib puts off

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y)) * to_points
        return float(across), float(up)

    marks = {name: place(*point) for name, point in points.items()}
    taken = [around(*mark, 9) for mark in marks.values()]
    for ends in bare:
        shown = [place(*end) for end in ends]
        across, ups = [x for x, _ in shown], [y for _, y in shown]
        beside = NUMBER if len(shown) == 1 else 3.0
        taken.append(Box(min(across) - 3, min(ups) - 3, max(across) + beside, max(ups) + beside))
    corners = [axes.transAxes.transform(end) * to_points for end in ((0, 0), (1, 1))]
    inside = Box(*(float(value) for corner in corners for value in corner))
    for name, box in place_names(marks, taken, inside).items():
        x, y = marks[name]
        middle = (box.bottom + box.top) / 2
        is_right = box.left > x
        edge = box.left if is_right else box.right
        is_led = hypot(edge - x, middle - y) > LED
        axes.annotate(
            name, points[name], xytext=(edge - x, middle - y), textcoords="offset points",
            ha="left" if is_right else "right", va="center",
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkB": 4} if is_led else None,
        )  # fmt: skip
