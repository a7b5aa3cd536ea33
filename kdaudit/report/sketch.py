"""The picture of a comparison of mitigations in characters, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase

from kdaudit.metrics.frontier import Point
from kdaudit.report.arms import METRIC_WORDS, off_frontier
from kdaudit.report.text import plain
from kdaudit.results.mitigation import Mitigation

WIDTH, HEIGHT = 64, 16
"""Cells."""
MAX_NAME = 32
LINE, SEVERAL = ".", "*"
EPOCH, DIGITS = "o", "123456789"
LETTERS = (ascii_lowercase + ascii_uppercase).replace(EPOCH, "")
HARMLESS = str.maketrans("<>`", "()'")
"""What Markdown and HTML could act on in a name, were the picture taken out of its block of code."""


def sketch(table: Mitigation) -> list[str]:
    """Held-out loss across, leak upwards: dots through the plain run's epochs, which are digits, and a letter an arm.

    By the attack and the metric of the verdict; no lines where they could not be measured.
    """
    epochs = table.frontier[table.attack][table.metric]
    if not epochs:
        return []
    placed = {name: arm.placed[table.attack][table.metric].point for name, arm in off_frontier(table).items()}
    arms = {name: point for name, point in placed.items() if point is not None}
    points = [*epochs, *arms.values()]
    marks = zip([*_of_epochs(len(epochs)), *_of_arms(len(arms))], points, strict=True)
    left, right = min(point.nll for point in points), max(point.nll for point in points)
    low, high = min(point.leak for point in points), max(point.leak for point in points)

    def cell(point: Point) -> tuple[int, int]:
        across = (point.nll - left) / ((right - left) or 1)
        up = (point.leak - low) / ((high - low) or 1)
        return round((1 - up) * (HEIGHT - 1)), round(across * (WIDTH - 1))

    cells = dict.fromkeys(_line([cell(point) for point in epochs]), LINE)
    taken: dict[tuple[int, int], str] = {}
    for sign, point in marks:
        taken[cell(point)] = SEVERAL if cell(point) in taken else sign
    cells |= taken
    rows = ["".join(cells.get((row, column), " ") for column in range(WIDTH)).rstrip() for row in range(HEIGHT)]
    measure = METRIC_WORDS.get(table.metric, table.metric)
    return [
        f"{measure} of {table.attack} against held-out loss in nats per token (left is more useful, lower leaks less)",
        *_with_scale(rows, {0: f"{high:.3f}", HEIGHT - 1: f"{low:.3f}"}),
        f"      +{'-' * WIDTH}",
        f"       {left:<{WIDTH - 8}.3f}{right:>8.3f}",
        *_legend(len(epochs), list(arms), has_several=SEVERAL in taken.values()),
    ]


def _of_epochs(n: int) -> str:
    """A digit each, or the same sign for all where there are too many."""
    return DIGITS[:n] if n <= len(DIGITS) else EPOCH * n


def _of_arms(n: int) -> str:
    """A letter each; those beyond the alphabet share a question mark."""
    return LETTERS[:n] + "?" * (n - len(LETTERS))


def _line(corners: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The cells of straight lines from corner to corner."""
    for (row, column), (next_row, next_column) in pairwise(corners):
        steps = max(abs(next_row - row), abs(next_column - column), 1)
        for step in range(steps + 1):
            yield (
                round(row + (next_row - row) * step / steps),
                round(column + (next_column - column) * step / steps),
            )


def _with_scale(rows: Sequence[str], labels: Mapping[int, str]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield f"{labels.get(number, ''):>5} |{row}"


def _legend(n_epochs: int, arms: Sequence[str], *, has_several: bool) -> Iterator[str]:
    epochs = f"1 to {n_epochs}" if n_epochs <= len(DIGITS) else EPOCH
    yield f"{epochs}: the plain run after each of its epochs" + (f"; {SEVERAL}: several" if has_several else "")
    names = (plain(name, limit=MAX_NAME).translate(HARMLESS) for name in arms)
    named = [f"{sign} {name}" for sign, name in zip(_of_arms(len(arms)), names, strict=True)]
    for start in range(0, len(named), 3):
        yield "   ".join(named[start : start + 3])
