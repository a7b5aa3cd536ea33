"""How a text is split into words, the same for every check that never sees a model."""

from __future__ import annotations

import re

KANA_AND_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # written without spaces: each character is a word
WORD = re.compile(rf"[{KANA_AND_HAN}]|[^\W{KANA_AND_HAN}]+")
MARK_OR_WORD = re.compile(rf"{WORD.pattern}|[^\w\s]")


def words(text: str) -> list[str]:
    """The lower-cased words in order; white space and marks are no part of any."""
    return WORD.findall(text.lower())


def tokens(text: str) -> list[str]:
    """The words as they are written and, each by itself, the marks between them."""
    return MARK_OR_WORD.findall(text)
