"""Trivial formats that one set of texts has more often than the other: found and named, never made alike in silence."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import fisher_exact

LEVEL = 0.01
"""Chance that two sets of one source are said to differ in any format."""
MIN_DIFFERENCE = 0.01
"""Of the shares of texts: below it a difference moves no figure."""


@dataclass(frozen=True, slots=True)
class Format:
    """A way in which a text may be written that says nothing about what it says."""

    name: str
    has: Callable[[str], bool]
    mend: str
    """What to do to every text of both sets."""


@dataclass(frozen=True, slots=True)
class FormatDifference:
    """A format that is more frequent in one of the sets."""

    name: str
    members: float
    """Share of the members that have it."""
    nonmembers: float
    """Share of the non-members."""
    p_value: float
    """Fisher's exact test, two-sided, times the number of formats."""
    mend: str


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.search(text) is not None


FORMATS: tuple[Format, ...] = (
    Format("white space at the end", lambda text: text != text.rstrip(), "strip the end: text.rstrip()"),
    Format("white space at the start", lambda text: text != text.lstrip(), "strip the start: text.lstrip()"),
    Format("carriage returns", lambda text: "\r" in text, r"write line ends as \n: '\n'.join(text.splitlines())"),
    Format("line breaks", lambda text: "\n" in text, "keep or join lines in both sets alike: ' '.join(text.split())"),
    Format("tabs", lambda text: "\t" in text, "write tabs as spaces: text.expandtabs(1)"),
    Format("runs of spaces", _matches("  "), "write one space: re.sub(' +', ' ', text)"),
    Format(
        "two spaces after a full stop",
        _matches(r"[.!?]  (?=\S)"),
        "write one space after a full stop: re.sub(r'(?<=[.!?]) +', ' ', text)",
    ),
    Format(
        "special spaces",
        _matches("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"),
        "write plain spaces: re.sub(r'[^\\S\\n]', ' ', text)",
    ),
    Format(
        "invisible characters",
        _matches("[\u00ad\u200b-\u200f\u2060]"),
        "leave out zero-width characters and soft hyphens: re.sub('[\\u00ad\\u200b-\\u200f\\u2060]', '', text)",
    ),
    Format("a byte order mark", lambda text: "\ufeff" in text, "read both files as utf-8-sig"),
    Format(
        "characters that are not composed (not NFC)",
        lambda text: not unicodedata.is_normalized("NFC", text),
        "compose them: unicodedata.normalize('NFC', text)",
    ),
    Format(
        "curly quotes",
        _matches("[\u2018\u2019\u201c\u201d]"),
        "write straight quotes: text.translate(str.maketrans('\u2018\u2019\u201c\u201d', '\\'\\'\"\"'))",
    ),
    Format("straight quotes", _matches("['\"]"), "write one kind of quotes in both sets"),
    Format("long dashes", _matches("[\u2013\u2014]"), "write one kind of dash in both sets"),
    Format("an ellipsis as one character", lambda text: "\u2026" in text, "write three full stops"),
    Format("HTML entities", _matches(r"&(?:[a-z]{2,8}|#\d{2,5});"), "decode them: html.unescape(text)"),
    Format(
        "UTF-8 that was read as another encoding",
        _matches("\u00e2\u20ac|\u00c3[\u0080-\u00bf\u0192-\u2122]|\ufffd"),
        "read the file as UTF-8 (encoding='utf-8')",
    ),
    Format(
        "no mark at the end",
        lambda text: text.rstrip()[-1:].isalnum(),
        "cut the texts of both sets at the same places",
    ),
    Format(
        "a small first letter",
        lambda text: text.lstrip()[:1].islower(),
        "cut the texts of both sets at the same places",
    ),
)
"""The order is that of the warnings."""


def format_differences(members: Sequence[str], nonmembers: Sequence[str]) -> tuple[FormatDifference, ...]:
    """The formats in which the sets differ beyond chance, in the order of FORMATS.

    Fisher's exact test with Bonferroni's correction over FORMATS, at LEVEL; the shares differ by at least
    MIN_DIFFERENCE.

    Args:
        members: n texts.
        nonmembers: m texts.
    """
    n, m = len(members), len(nonmembers)
    if min(n, m) == 0:
        return ()
    found = []
    for each in FORMATS:
        a, b = (sum(map(each.has, texts)) for texts in (members, nonmembers))
        if abs(a / n - b / m) >= MIN_DIFFERENCE:
            p_value = min(1.0, float(fisher_exact(np.array([[a, n - a], [b, m - b]])).pvalue) * len(FORMATS))
            if p_value < LEVEL:
                found.append(FormatDifference(each.name, a / n, b / m, p_value, each.mend))
    return tuple(found)
