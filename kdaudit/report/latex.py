r"""The tables of a report as papers print them: LaTeX with booktabs, one `table` each, to be read by `\input`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import kdaudit
from kdaudit.report.blocks import Block, Detail, Section, Table
from kdaudit.report.mitigation import mitigation_page
from kdaudit.report.page import Page, at_detail, report_page
from kdaudit.report.reading import Report
from kdaudit.report.text import plain
from kdaudit.results.mitigation import Mitigation

WIDE = 5
"""Columns beyond which letters and gaps are smaller."""
LONG = 30
"""Characters of a cell from which on its column breaks lines."""
ESCAPES = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}"},
    **{"−": "$-$", "–": "--", "—": "---", "…": r"\dots{}", "×": r"$\times$", "±": r"$\pm$", "·": r"$\cdot$"},
    **{"≤": r"$\le$", "≥": r"$\ge$", "→": r"$\to$", "⟨": r"$\langle$", "⟩": r"$\rangle$", "ε": r"$\varepsilon$"},
    **{"“": "``", "”": "''", "\u2019": "'", "'": r"\textquotesingle{}"},
}
_NO_LABEL = re.compile(r"[^a-z0-9]+")
_NUMBER = re.compile(r"[+-]?\d|< ?\d")
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
_LATIN = 0x17F
"""The last letter that LaTeX sets without further packages."""


def render_latex(subject: Report | Mitigation) -> str:
    """Every table with numbers of an audit or a comparison of mitigations, in the order of the page."""
    if isinstance(subject, Mitigation):
        page, names, own = mitigation_page(subject, with_pictures=False), [], "mitigation"
    else:
        page = report_page(subject, with_pictures=False)
        names = [run.name for run in subject.runs] if len(subject.runs) > 1 else []
        own = _NO_LABEL.sub("-", "-".join(run.name for run in subject.runs).lower()).strip("-")
    tables = enumerate(_tables(page, names), 1)
    written = "".join(f"\n{_set(table, name, '-'.join(filter(None, (own, str(n)))))}" for n, (table, name) in tables)
    version = plain(kdaudit.__version__)
    return f"% Written by kdaudit {version}. In the preamble: \\usepackage{{booktabs,textcomp}}\n{written}"


def escaped(text: str) -> str:
    """One line of text that means nothing to LaTeX but itself; letters beyond Latin are written as code points."""
    signed = _MINUS.sub("−", plain(text))
    return "".join(map(_character, signed))


def _character(char: str) -> str:
    if char in ESCAPES:
        return ESCAPES[char]
    known = ord(char) < 0x7F or (ord(char) <= _LATIN and unicodedata.category(char).startswith("L"))
    return char if known else rf"$\langle$U+{ord(char):04X}$\rangle$"


def _tables(page: Page, names: Sequence[str]) -> Iterator[tuple[Table, str]]:
    """The tables with numbers, each once, with the name of the run where there are several."""
    whole = at_detail(page, Detail.WHOLE)
    seen: list[Table] = []
    for place, section in enumerate((whole.short, *whole.sections)):
        name = names[place - 1] if names and 0 < place <= len(names) else ""
        for table in _within(section.blocks):
            has_number = any(any(char.isdigit() for char in cell) for row in table.rows for cell in row)
            if has_number and (table not in seen or name):
                seen.append(table)
                yield table, name


def _within(blocks: Iterable[Block]) -> Iterator[Table]:
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Section):
            yield from _within(block.blocks)


def _set(table: Table, run: str, label: str) -> str:
    caption = ". ".join(
        part.rstrip(".") for part in (f"{run}: {table.title}" if run else table.title, table.note) if part
    )
    columns = "".join(_column(table, place) for place in range(len(table.head)))
    return "\n".join(
        (
            r"\begin{table}[htbp]",
            r"\centering\footnotesize"
            if len(table.head) <= WIDE
            else r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escaped(caption)}.}}",
            rf"\label{{tab:kdaudit-{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(table.head),
            r"\midrule",
            *map(_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        )
    )


def _row(cells: Sequence[str]) -> str:
    """A cell that begins with a bracket is guarded: behind a line's end it would be an argument of it."""
    return " & ".join(f"{{}}{text}" if text.startswith(("[", "*")) else text for text in map(escaped, cells)) + r" \\"


def _column(table: Table, place: int) -> str:
    """Numbers to the right, long texts in lines, the rest to the left."""
    cells = [row[place] for row in table.rows]
    if place and any(_NUMBER.match(cell) for cell in cells) and not any(cell[:1].isalpha() for cell in cells):
        return "r"
    return r"p{0.25\linewidth}" if any(len(cell) > LONG for cell in cells) else "l"
