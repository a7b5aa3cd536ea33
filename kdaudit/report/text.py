"""Text that a user's files or names decide, made harmless and short before any format shows it."""

from __future__ import annotations

import unicodedata

MAX_CHARACTERS = 1000
"""Of one value: a name or a reason that is longer is no help to a reader."""
MAX_NAME = 100
"""Of a run's name where more text stands behind it."""
MAX_COMMAND = 20_000
"""Of a command, which is to be repeated as it was."""


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
