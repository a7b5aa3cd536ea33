"""Values as text: figures with their intervals, and names that a user's files decide made harmless and short."""

from __future__ import annotations

import unicodedata
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdaudit.metrics.estimate import Difference, Estimate  # numpy, and the command line shows text without it

MAX_CHARACTERS = 1000
"""The longest value: a name or a reason that is longer does not help a reader."""
MAX_NAME = 100
"""The longest name of a run where more text stands behind it."""
MAX_COMMAND = 20_000
"""The longest command, which is to be repeated as it was."""
ABSENT = "–"
FAINT_P = 0.001
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def plain(value: object, *, limit: int = MAX_CHARACTERS) -> str:
    """One line of at most `limit` characters, every one of which shows.

    Runs of white space become one space; see `visible` for the rest.
    """
    return visible(" ".join(str(value)[: 4 * limit].split()), limit=limit)


def visible(text: str, *, limit: int = MAX_COMMAND) -> str:
    """The text with every character in sight, at most `limit` of them; what is too long ends in an ellipsis.

    Controls and marks that change the direction or the look of what stands around them are written as their code
    point, ⟨U+202E⟩.
    """
    shown = "".join(f"⟨U+{ord(char):04X}⟩" if _is_invisible(char) else char for char in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1].rstrip()}…"


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"}


def interval(found: Estimate | None) -> str:
    """A value with its 95 % interval: `0.813 [0.799, 0.826]`; the reason in its place where there is no value."""
    return _with_reason(found, level(found))


def difference(found: Difference | None) -> str:
    """A difference with its 95 % interval and sign: `+0.057 [+0.050, +0.064]`; or the reason."""
    return _with_reason(found, change(found))


def signed(found: Estimate | Difference | None) -> str:
    """A correlation or a slope with its 95 % interval and sign: `+0.41 [+0.38, +0.45]`; a reason where it lacks one."""
    if found is not None and found.value is not None and found.low is None and found.reason:
        return f"{found.value:+.2f} ({found.reason})"
    return _with_reason(found, _figure(found, "+.2f"))


def level(found: Estimate | None) -> str:
    """As `interval`, without a reason: for a cell of a table that gives the reasons beside it."""
    return _figure(found, ".3f")


def change(found: Difference | None) -> str:
    """As `difference`, without a reason."""
    return _figure(found, "+.3f")


def number(value: float | None) -> str:
    """A value alone."""
    return ABSENT if value is None else f"{value:.3f}"


def p_value(adjusted: float | None, *, is_floor: bool = False) -> str:
    """A Holm-adjusted p-value: `0.012`, `< 0.001`; `≤ 0.010` where the draws can show no smaller one."""
    if adjusted is None:
        return ABSENT
    if adjusted < FAINT_P:
        return f"< {FAINT_P}"
    return f"≤ {adjusted:.3f}" if is_floor else f"{adjusted:.3f}"


def counted(n: float, noun: str, plural: str = "") -> str:
    """`1 epoch`, `0.5 epochs`, `1,200 records`, `2 passes`."""
    number = f"{n:,}" if isinstance(n, int) else f"{n:g}"
    return f"{number} {noun if n == 1 else plural or f'{noun}s'}"


def day(text: str) -> str:
    """A day such as 2026-11-25 for a reader: `25 Nov 2026`."""
    found = date.fromisoformat(text)
    return f"{found.day} {MONTHS[found.month - 1]} {found.year}"


def capital(text: str) -> str:
    """The same beginning with a capital; the rest stays."""
    return f"{text[:1].upper()}{text[1:]}"


def _figure(found: Estimate | Difference | None, form: str) -> str:
    if found is None or found.value is None or found.low is None or found.high is None:
        return ABSENT
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _with_reason(found: Estimate | Difference | None, figure: str) -> str:
    return f"{ABSENT} ({found.reason})" if found is not None and figure == ABSENT and found.reason else figure
