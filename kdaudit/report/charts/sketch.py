"""The picture of a comparison of mitigations in characters, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase

from kdaudit.metrics import METRICS
from kdaudit.metrics.frontier import PlainPoint, Point
from kdaudit.report.mitigation_tables import off_frontier
from kdaudit.report.text import counted, plain
from kdaudit.results.mitigation import Mitigation

WIDTH, HEIGHT = 64, 16
"""Cells."""
MAX_NAME = 32
LINE, SEVERAL = ".", "*"
EPOCH, FURTHER = "o", "+"
LETTERS = (ascii_lowercase + ascii_uppercase).replace(EPOCH, "")
HARMLESS = str.maketrans("<>`", "()'")
"""What Markdown and HTML could act on in a name, were the picture taken out of its block of code."""


def sketch(table: Mitigation) -> list[str]:
    """Held-out loss across, leak upwards: dots for the stairs, digits for epochs of the plain run, letters for arms.

    By the attack and the metric of the verdict; no lines where they could not be measured.
    """
    checkpoints = table.frontier[table.attack][table.metric]
    if not checkpoints:
        return []
    longest = max(point.run for point in checkpoints)
    epochs = [point for point in checkpoints if point.run in (0, longest) and point.epochs == int(point.epochs)]
    further = [point for point in checkpoints if point.run not in (0, longest)]
    placed = {name: arm.placed[table.attack][table.metric].point for name, arm in off_frontier(table).items()}
    arms = {name: point for name, point in placed.items() if point is not None}
    points: list[Point | PlainPoint] = [*epochs, *further, *arms.values()]
    signs = [*_of_epochs(epochs), *(FURTHER for _ in further), *_of_arms(len(arms))]
    left, right = min(point.nll for point in points), max(point.nll for point in points)
    low, high = min(point.leak for point in points), max(point.leak for point in points)

    def cell(point: Point | PlainPoint) -> tuple[int, int]:
        across = (point.nll - left) / ((right - left) or 1)
        up = (point.leak - low) / ((high - low) or 1)
        return round((1 - up) * (HEIGHT - 1)), round(across * (WIDTH - 1))

    stairs = sorted((point for point in checkpoints if point.is_stair), key=lambda point: point.nll)
    cells = dict.fromkeys(_stairs([cell(replace(stairs[0], nll=left)), *map(cell, stairs)]), LINE) if stairs else {}
    taken: dict[tuple[int, int], str] = {}
    for sign, point in zip(signs, points, strict=True):
        taken[cell(point)] = SEVERAL if cell(point) in taken else sign
    cells |= taken
    rows = ["".join(cells.get((row, column), " ") for column in range(WIDTH)).rstrip() for row in range(HEIGHT)]
    measure = METRICS[table.metric].short
    return [
        f"{measure} of {table.attack} against held-out loss in nats per token (left is more useful, lower leaks less)",
        *_with_scale(rows, {0: f"{high:.3f}", HEIGHT - 1: f"{low:.3f}"}),
        f"      +{'-' * WIDTH}",
        f"       {left:<{WIDTH - 8}.3f}{right:>8.3f}",
        *_legend(epochs, further, list(arms), has_several=SEVERAL in taken.values()),
    ]


def _of_epochs(epochs: Sequence[PlainPoint]) -> str:
    """A digit each, or the same sign for all where there are too many."""
    last = int(max((point.epochs for point in epochs), default=0))
    return "".join(str(int(point.epochs)) if last < 10 else EPOCH for point in epochs)


def _of_arms(n: int) -> str:
    """A letter each; those beyond the alphabet share a question mark."""
    return LETTERS[:n] + "?" * (n - len(LETTERS))


def _stairs(corners: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The cells of stairs through corners from left to right: at each corner down or up, then level to the next."""
    for (row, column), (next_row, next_column) in pairwise(corners):
        yield from ((between, column) for between in range(min(row, next_row), max(row, next_row) + 1))
        yield from ((next_row, between) for between in range(column, next_column + 1))


def _with_scale(rows: Sequence[str], labels: Mapping[int, str]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield f"{labels.get(number, ''):>5} |{row}"


def runs_of(further: Sequence[PlainPoint]) -> str:
    """The further plain runs by their lengths."""
    if len(further) == 1:
        return f"a plain run of {counted(further[0].run, 'epoch')}"
    return f"plain runs of {', '.join(str(point.run) for point in further)} epochs"


def _legend(
    epochs: Sequence[PlainPoint], further: Sequence[PlainPoint], arms: Sequence[str], *, has_several: bool
) -> Iterator[str]:
    signs = _of_epochs(epochs)
    told = f"{signs[0]} to {signs[-1]}" if len({*signs}) > 1 else signs[:1]
    yield (
        f"{told}: the plain run after each of its epochs, 0 before it"
        + (f"; {FURTHER}: {runs_of(further)}" if further else "")
        + (f"; {SEVERAL}: several" if has_several else "")
    )
    names = (plain(name, limit=MAX_NAME).translate(HARMLESS) for name in arms)
    named = [f"{sign} {name}" for sign, name in zip(_of_arms(len(arms)), names, strict=True)]
    for start in range(0, len(named), 3):
        yield "   ".join(named[start : start + 3])
