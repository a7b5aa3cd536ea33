"""A table as lines of a terminal: no figure is ever broken, and no line is wider than the terminal.

What does not fit gives way in this order: names are cut from the left, words wrap, and where even the figures do not
fit side by side, every row becomes lines of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
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
) -> list[list[str]] | None:
    """The pieces of each line, one for each column; None where not even the parts of figures fit.

    The first line is the head; a row with a cell that wraps gives several lines. Where a longer text would get a
    narrow column, it stands below the rest of its row.

    Args:
        head: titles of the columns.
        rows: cells, one for each title.
        width: columns of the terminal.
        right: columns that are set to the right.
        longest_name: a longer word is cut where room is needed.
    """
    if not (found := _in_columns((head, *rows), width, longest_name)):
        return None
    widths, figure = found
    longest = max(range(len(head)), key=lambda column: max(cell_len(row[column]) for row in rows)) if rows else 0
    hangs = longest > 0 and widths[longest] < LEAST_TEXT < max(cell_len(row[longest]) for row in rows) // 2
    if not hangs:
        return [line for row in (head, *rows) for line in _lines(row, widths, right, figure)]
    others = [[cell for column, cell in enumerate(row) if column != longest] for row in (head, *rows)]
    kept = [column - (column > longest) for column in right if column != longest]
    widths, figure = _in_columns(others, width, longest_name) or (widths, figure)
    lines = [*_lines(others[0], widths, kept, figure)]
    for row, other in zip(rows, others[1:], strict=True):
        lines += _lines(other, widths, kept, figure)
        lines += [[f"{INDENT}{line}"] for line in wrap(row[longest], width - len(INDENT))]
    return lines


def _in_columns(rows: Sequence[Sequence[str]], width: int, longest_name: int) -> tuple[list[int], Pattern] | None:
    """The widths of the columns, and what stays whole in them."""
    columns = list(zip(*rows, strict=True))
    wished = [max(map(cell_len, column)) for column in columns]
    room = width - GAP * (len(columns) - 1)
    for figure in (WHOLE, PARTED):
        needed = [max(_need(cell, figure, longest_name) for cell in column) for column in columns]
        if sum(needed) <= room:
            return _shared(needed, wished, room - sum(needed)), figure
    return None


def _lines(row: Sequence[str], widths: Sequence[int], right: Collection[int], figure: Pattern) -> Iterator[list[str]]:
    wrapped = [wrap(cell, size, figure=figure) for cell, size in zip(row, widths, strict=True)]
    for parts in zip_longest(*wrapped, fillvalue=""):
        yield [
            " " * (GAP if column else 0) + _padded(part, size, is_right=column in right)
            for column, (part, size) in enumerate(zip(parts, widths, strict=True))
        ]


def one_below_the_other(head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[list[str]]:
    """Every row as lines of its own: its name, then each cell behind the title of its column."""
    lines = []
    for row in rows:
        lines.append([cut_from_left(row[0], width)])
        for title, cell in zip(head[1:], row[1:], strict=True):
            beside = f"  {title}: "
            first, *others = wrap(cell, max(8, width - cell_len(beside)))
            lines += [[beside, first], *([" " * cell_len(beside), line] for line in others)]
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


def _shared(needed: Sequence[int], wished: Sequence[int], spare: int) -> list[int]:
    """The widths of columns: what each needs, and of what is left by how much more each wishes."""
    lacking = [wish - need for wish, need in zip(wished, needed, strict=True)]
    share = min(1.0, spare / max(1, sum(lacking)))
    return [need + int(share * more) for need, more in zip(needed, lacking, strict=True)]


def _padded(text: str, width: int, *, is_right: bool) -> str:
    fill = " " * (width - cell_len(text))
    return fill + text if is_right else text + fill
