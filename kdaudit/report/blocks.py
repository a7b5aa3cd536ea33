"""What a page is made of. A statement is worded once and a table built once; a renderer walks the blocks.

Nothing heavy is imported here: the command line prints its tables through the same blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar, Literal, TypeAlias

Status = Literal["pass", "fail", "inconclusive", "not_gated"]


class Detail(IntEnum):
    """Where a block is shown: each level holds those before it."""

    TERMINAL = 1
    """In every format."""
    DOCUMENT = 2
    """In every document, also a short one: summary.md, and Markdown that is cut to the size of a comment."""
    WHOLE = 3
    """Where everything is shown: HTML, and Markdown that folds it away."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph."""

    kind: ClassVar[str] = "paragraph"
    text: str
    tone: Literal["plain", "strong", "note"] = "plain"
    """A note says how to read what stands beside it."""
    detail: Detail = Detail.TERMINAL


@dataclass(frozen=True, slots=True)
class Notes:
    """Statements that stand side by side, one line each."""

    kind: ClassVar[str] = "notes"
    lines: Sequence[str]
    title: str = ""
    tone: Literal["plain", "key"] = "plain"
    """The key statements are what a reader with a minute reads."""
    detail: Detail = Detail.TERMINAL


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head; the first cell of a row names it."""

    kind: ClassVar[str] = "table"
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    """What a reader must know to read it."""
    right: Collection[int] = ()
    """Columns of whole numbers, set to the right where a format can."""
    hashes: Collection[int] = ()
    """Columns of hexadecimal digits, which may break anywhere."""
    extra: Collection[int] = ()
    """Columns that are shown at `Detail.WHOLE` alone."""
    under: Collection[int] = ()
    """Columns that HTML shows as a second line of the cell before them."""
    status: int | None = None
    """The column of statuses, which get a colour and a glyph where a format has them."""
    whole: Collection[int] = ()
    """Rows that keep their intervals where a terminal has no room for all of them."""
    detail: Detail = Detail.TERMINAL

    def at(self, most: int) -> Table:
        """The table without the columns that this detail leaves out."""
        if most >= Detail.WHOLE or not self.extra:
            return self
        kept = [column for column in range(len(self.head)) if column not in self.extra]
        places = {column: place for place, column in enumerate(kept)}
        return replace(
            self,
            head=[self.head[column] for column in kept],
            rows=[[row[column] for column in kept] for row in self.rows],
            right=[places[column] for column in self.right if column in places],
            hashes=[places[column] for column in self.hashes if column in places],
            extra=(),
            under=[places[column] for column in self.under if column in places],
            status=None if self.status is None else places.get(self.status),
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, and what it shows for those who do not see it."""

    svg: str
    """An `<svg>` element, safe to stand in HTML as it is."""
    caption: str
    title: str = ""
    """What is shown, in a few words."""
    pdf: bytes = b""
    """The same as a file; empty where none was asked for."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures side by side."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]
    title: str = ""
    note: str = ""
    is_named: bool = False
    """Whether a caption is a name that stands above its picture."""
    detail: Detail = Detail.WHOLE


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Lines in which every space counts: a picture in characters, or a command."""

    kind: ClassVar[str] = "verbatim"
    lines: Sequence[str]
    is_drawing: bool = False
    detail: Detail = Detail.TERMINAL


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do now."""

    words: str
    command: str = ""
    """That does it; empty where none is known in full."""


@dataclass(frozen=True, slots=True)
class VerdictCard:
    """What was decided, why, and what to do now."""

    kind: ClassVar[str] = "verdict"
    status: Status
    title: str
    """The decision in a few words."""
    sentence: str
    """Why, in the terms of the gates."""
    tone: Status = "not_gated"
    """The status whose colour it has: a pass that nobody should relax about has that of an open question."""
    plain: Sequence[str] = ()
    """How much is given away, in natural frequencies."""
    cautions: Sequence[str] = ()
    """What a reader of the decision alone would miss."""
    steps: Sequence[Step] = ()
    picture: Picture | None = None
    detail: Detail = Detail.TERMINAL


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure, large, and what it is."""

    value: str
    words: str
    tone: Status | Literal["plain"] = "plain"


@dataclass(frozen=True, slots=True)
class Tiles:
    """Figures side by side, each the answer to one question."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]
    detail: Detail = Detail.DOCUMENT


@dataclass(frozen=True, slots=True)
class Terms:
    """Words that a reader may not know, each explained; folded away."""

    kind: ClassVar[str] = "terms"
    title: str
    entries: Mapping[str, str]
    detail: Detail = Detail.WHOLE


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under a heading."""

    kind: ClassVar[str] = "section"
    title: str
    key: str
    """Names it within the page, for links."""
    blocks: Sequence[Block]
    link: str = ""
    """What the table of contents calls it; empty where it has no place there."""
    folded_in: Literal["", "html", "markdown"] = ""
    """The format that folds it away until a reader opens it."""
    detail: Detail = Detail.TERMINAL


Block: TypeAlias = "Paragraph | Notes | Table | Pictures | Verbatim | VerdictCard | Tiles | Terms | Section"


def shown(blocks: Sequence[Block], most: int) -> list[Block]:
    """The blocks of a detail of at most `most`, without what would be empty then."""
    found: list[Block] = []
    for block in blocks:
        if block.detail > most or _is_empty(block):
            continue
        if isinstance(block, Section):
            inner = shown(block.blocks, most)
            is_folded = most >= Detail.WHOLE or block.folded_in != "markdown"
            if inner:
                found.append(replace(block, blocks=inner, folded_in=block.folded_in if is_folded else ""))
        else:
            found.append(block.at(most) if isinstance(block, Table) else block)
    return found


def _is_empty(block: Block) -> bool:
    if isinstance(block, Pictures):
        return not block.pictures
    if isinstance(block, Tiles):
        return not block.tiles
    if isinstance(block, Terms):
        return not block.entries
    return isinstance(block, Notes | Verbatim) and not block.lines
