"""A table as lines of a terminal: no figure is ever broken, and no line is wider than the terminal.

What does not fit gives way in this order: names are cut from the left, words wrap, and where even the figures do not
fit side by side, every row becomes lines of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import TypeAlias

from rich.cells import cell_len

Pattern: TypeAlias = "re.Pattern[str]"
GAP = 2
"""Spaces between two columns."""
REASON = "reason"
"""The title of a column whose texts are long and alike."""
INDENT = "    "
LEAST_TEXT = 24
"""Columns that a longer text must get to stand beside figures."""
_NUMBER = r"[<>≤≥]?\ ?[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?:\ ?%)?"
_INTERVAL = r"\[[-+−]?[\d.]+,\ [-+−]?[\d.]+\]"
_BEHIND = r"\([^()]{0,12}\)"  # such as the level of a bound
WHOLE = re.compile(rf"{_NUMBER}(?:\ {_INTERVAL})?(?:\ {_BEHIND})?")
"""A figure with its sign, its unit, its interval and a short word behind it."""
PARTED = re.compile(rf"{_NUMBER}|{_INTERVAL}|{_BEHIND}")
"""Its parts, of which each stays whole."""
INTERVAL = re.compile(rf"(?<=\d)\ {_INTERVAL}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a line, with the spaces around it."""

    text: str
    column: int
    """That it is of."""


Line: TypeAlias = "list[Piece]"


@dataclass(frozen=True, slots=True)
class Fitting:
    """How columns fit beside each other."""

    widths: Mapping[int, int]
    """By column."""
    figure: Pattern
    """What stays whole."""


def cut_from_left(text: str, width: int) -> str:
    """At most `width` columns: names differ at their end, so the end stays."""
    if cell_len(text) <= width:
        return text
    places = accumulate(cell_len(char) for char in reversed(text))
    kept = sum(place <= width - 1 for place in places)
    return f"…{text[len(text) - kept :]}" if width > 1 else "…"[:width]


def without_interval(text: str) -> str:
    """The figures of a cell alone."""
    return INTERVAL.sub("", text)


def said_once(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows with a reason that an earlier row has too replaced by a word on where it stands."""
    told = [list(row) for row in rows]
    for column in (place for place, title in enumerate(head) if title == REASON):
        first: dict[str, int] = {}
        for place, row in enumerate(rows):
            earlier = first.setdefault(row[column], place)
            if earlier < place and len(row[column]) >= LEAST_TEXT:
                is_next = all(one[column] == row[column] for one in rows[earlier:place])
                told[place][column] = "as above" if is_next else f"as for {rows[earlier][0]}"
    return told


def side_by_side(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int, right: Collection[int], longest_name: int
) -> list[Line] | None:
    """The table with its columns beside each other; None where not even the parts of figures fit.

    The first line is the head; a row with a cell that wraps gives several lines. Where a longer text would get a
    narrow column, it stands below the rest of its row.

    Args:
        head: titles of the columns.
        rows: cells, one for each title.
        width: columns of the terminal.
        right: columns that are set to the right.
        longest_name: a longer word is cut where room is needed.
    """
    everything = range(len(head))
    fitting = _in_columns((head, *rows), everything, width, longest_name)
    sizes = [max((cell_len(row[column]) for row in rows), default=0) for column in everything]
    longest = max(everything, key=lambda column: sizes[column])
    is_text = longest > 0 and sizes[longest] > 2 * LEAST_TEXT
    if is_text and (fitting is None or fitting.widths[longest] < LEAST_TEXT):
        kept = [column for column in everything if column != longest]
        hanging = _in_columns((head, *rows), kept, width, longest_name)
        if hanging is not None:
            lines = [*_lines(head, hanging, right)]
            for row in rows:
                lines += _lines(row, hanging, right)
                below = wrap(row[longest], width - len(INDENT))
                lines += [[Piece(f"{INDENT}{line}", longest)] for line in below]
            return lines
    return None if fitting is None else [line for row in (head, *rows) for line in _lines(row, fitting, right)]


def _in_columns(rows: Sequence[Sequence[str]], columns: Sequence[int], width: int, longest_name: int) -> Fitting | None:
    cells = {column: [row[column] for row in rows] for column in columns}
    wished = {column: max(map(cell_len, found)) for column, found in cells.items()}
    room = width - GAP * (len(columns) - 1)
    for figure in (WHOLE, PARTED):
        needed = {column: max(_need(cell, figure, longest_name) for cell in found) for column, found in cells.items()}
        if sum(needed.values()) <= room:
            return Fitting(_shared(needed, wished, room - sum(needed.values())), figure)
    return None


def _lines(row: Sequence[str], fitting: Fitting, right: Collection[int]) -> Iterator[Line]:
    wrapped = [wrap(row[column], width, figure=fitting.figure) for column, width in fitting.widths.items()]
    for parts in zip_longest(*wrapped, fillvalue=""):
        last = max((place for place, part in enumerate(parts) if part), default=0)
        yield [
            Piece(" " * (GAP if place else 0) + _padded(part, width, is_right=column in right), column)
            for place, (part, (column, width)) in enumerate(zip(parts, fitting.widths.items(), strict=True))
            if place <= last
        ]


def one_below_the_other(head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[Line]:
    """Every row as lines of its own: its name, then each cell behind the title of its column."""
    lines = []
    for row in rows:
        lines.append([Piece(cut_from_left(row[0], width), 0)])
        for column, (title, cell) in enumerate(zip(head[1:], row[1:], strict=True), start=1):
            beside = f"  {title}: "
            for place, line in enumerate(wrap(cell, max(8, width - cell_len(beside)))):
                lines.append([Piece(" " * cell_len(beside) if place else beside, 0), Piece(line, column)])
    return lines


def wrap(text: str, width: int, *, figure: Pattern = WHOLE, is_cut: bool = True) -> list[str]:
    """The text in lines of at most `width` columns; a figure stays whole, a longer word may be cut from the left."""
    lines = [""]
    for atom, is_figure in _atoms(text, figure):
        fitting = cut_from_left(atom, width) if is_cut and not is_figure else atom
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(fitting) > width:
            lines.append(fitting)
        else:
            lines[-1] = f"{lines[-1]} {fitting}" if lines[-1] else fitting
    return lines


def _atoms(text: str, figure: Pattern) -> Iterator[tuple[str, bool]]:
    """What no line may break, and whether it is a figure."""
    place = 0
    while place < len(text):
        if text[place] == " ":
            place += 1
            continue
        found = figure.match(text, place + (text[place] == "("))
        is_figure = found is not None and (found.end() == len(text) or text[found.end()] in " ,;:/).")
        end = found.end() if found is not None and is_figure else place
        while end < len(text) and text[end] != " ":
            end += 1
        end += 2 if is_figure and text.startswith(" / ", end) else 0
        yield text[place:end], is_figure
        place = end


def _need(cell: str, figure: Pattern, longest_name: int) -> int:
    sizes = ((cell_len(atom), is_figure) for atom, is_figure in _atoms(cell, figure))
    return max((size if is_figure else min(size, longest_name) for size, is_figure in sizes), default=0)


def _shared(needed: Mapping[int, int], wished: Mapping[int, int], spare: int) -> dict[int, int]:
    """The widths of columns: what each needs, and of what is left by how much more each wishes."""
    lacking = {column: wished[column] - need for column, need in needed.items()}
    share = min(1.0, spare / max(1, sum(lacking.values())))
    return {column: need + int(share * lacking[column]) for column, need in needed.items()}


def _padded(text: str, width: int, *, is_right: bool) -> str:
    fill = " " * (width - cell_len(text))
    return fill + text if is_right else text + fill
