"""What sets of texts show without any model: words, passages that they share, formats that one set has more often.

Source: Duan et al. 2024, arXiv:2402.07841, section 4, for shared passages; there a Bloom filter, here 64-bit hashes.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kdaudit.metrics.scores import Floats

OVERLAP_LIMIT = 0.20  # share of a record's 13-grams; mimir's ngram_13_0.2 drops non-members above it
STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no power of it loses bits modulo 2**64

KANA_AND_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # written without spaces: each character is a word
WORD = re.compile(rf"[{KANA_AND_HAN}]|[^\W{KANA_AND_HAN}]+")
MARK_OR_WORD = re.compile(rf"{WORD.pattern}|[^\w\s]")


def words(text: str) -> list[str]:
    """The lower-cased words in order; white space and marks do not belong to any."""
    return WORD.findall(text.lower())


def tokens(text: str) -> list[str]:
    """The words as they are written and, each by itself, the marks between them."""
    return MARK_OR_WORD.findall(text)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many passages non-members share with members, word for word."""

    n: int
    """Words of a passage."""
    mean_share: float | None = None
    """The mean over non-members of the share of their passages; None, as what follows, in files that do not tell."""
    max_share: float | None = None
    n_above_20_percent: int = 0
    share_above_20_percent: float | None = None
    """Non-members above 20 %, as a share of all."""
    n_with_any: int | None = None
    n_too_short: int | None = None
    """Non-members of fewer than n words."""


def overlap(members: Sequence[str], nonmembers: Sequence[str], *, n: int = 13) -> Overlap:
    """How much of each non-member stands in some member; see `shared_passages`.

    Raises:
        ValueError: a class is empty.
    """
    shares, n_too_short = _shared(members, nonmembers, n, PART)
    n_above = int(np.count_nonzero(shares > OVERLAP_LIMIT))
    return Overlap(
        n=n,
        mean_share=float(shares.mean()),
        max_share=float(shares.max()),
        n_above_20_percent=n_above,
        share_above_20_percent=n_above / shares.size,
        n_with_any=int(np.count_nonzero(shares)),
        n_too_short=n_too_short,
    )


PART = 2**27  # characters of members whose passages are looked up at one time


def shared_passages(members: Sequence[str], nonmembers: Sequence[str], *, n: int, characters: int = PART) -> Floats:
    """(m,), per non-member the share of its n-grams of lower-cased words that occur in any member.

    A text of fewer than n words counts as one passage: 1 where a member has exactly these words, else 0. Passages are
    dealt into parts by their hash, one pass over the texts for each: memory does not grow with the sets, and the
    shares do not depend on the number of parts.

    Args:
        members: at least one text.
        nonmembers: m texts, at least one.
        n: words of a passage.
        characters: of members for each part.

    Raises:
        ValueError: a class is empty.
    """
    return _shared(members, nonmembers, n, characters)[0]


def _shared(members: Sequence[str], nonmembers: Sequence[str], n: int, characters: int) -> tuple[Floats, int]:
    """The shares (m,), and how many non-members have fewer than n words."""
    if not (members and nonmembers):
        raise ValueError("overlap needs a text of each class")
    n_parts = 1 + sum(map(len, members)) // characters
    n_known, n_passages = np.zeros(len(nonmembers)), np.zeros(len(nonmembers))
    n_too_short = 0
    for part in range(n_parts):
        pieces = [np.unique(_of_part(found.hashes, part, n_parts)) for found in passages(members, n)]
        known = np.concatenate(pieces)
        del pieces
        known.sort()
        for found in passages(nonmembers, n):
            of_texts = slice(found.start, found.start + found.n_words.size)
            n_known[of_texts] += np.bincount(found.owner[is_known(found.hashes, known)], minlength=found.n_words.size)
            if part == 0:
                n_passages[of_texts] = np.bincount(found.owner, minlength=found.n_words.size)
                n_too_short += int(np.count_nonzero(found.n_words < n))
    return n_known / n_passages, n_too_short


def _of_part(hashes: NDArray[np.uint64], part: int, n_parts: int) -> NDArray[np.uint64]:
    return hashes if n_parts == 1 else hashes[hashes % np.uint64(n_parts) == part]


def is_known(hashes: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(T,), whether each hash is among the rising `known`."""
    if known.size == 0:
        return np.zeros(hashes.size, dtype=np.bool_)
    return np.asarray(known[np.minimum(np.searchsorted(known, hashes), known.size - 1)] == hashes)


@dataclass(frozen=True, slots=True)
class Passages:
    """Hashes of the passages of some texts, text by text in order."""

    start: int
    """Which text is the first one."""
    n_words: NDArray[np.intp]
    """(k,), words of each text."""
    hashes: NDArray[np.uint64]
    """(T,), of n words in a row; of all words where a text has fewer."""
    owner: NDArray[np.intp]
    """(T,), the text of each, from 0."""


BATCH_TEXTS, BATCH_CHARACTERS = 2000, 2**22
"""Texts whose passages are held at one time."""


def passages(texts: Sequence[str], n: int) -> Iterator[Passages]:
    """The passages of `n` words of all texts, a batch of texts at a time; a text without a word is one word."""
    some: list[str] = []
    n_before = n_characters = 0
    for text in texts:
        some.append(text)
        n_characters += len(text)
        if len(some) == BATCH_TEXTS or n_characters >= BATCH_CHARACTERS:
            yield _passages(n_before, some, n)
            n_before, n_characters, some = n_before + len(some), 0, []
    if some:
        yield _passages(n_before, some, n)


def _passages(start: int, texts: Sequence[str], n: int) -> Passages:
    split = [words(text) for text in texts]
    hashed = [_word_hashes(found or [text.strip()]) for found, text in zip(split, texts, strict=True)]
    sizes = np.array([one.size for one in hashed])
    every, first = np.concatenate(hashed), np.repeat(np.cumsum(sizes) - sizes, sizes)
    after = np.repeat(sizes, sizes) - (np.arange(every.size) - first)  # words from here to the end of the text
    powers = STEP ** np.arange(n, dtype=np.uint64)
    padded = np.concatenate([every, np.zeros(n - 1, dtype=np.uint64)])
    rolling = np.convolve(padded, powers, "valid")  # modulo 2**64
    is_short = sizes < n
    if is_short.any():
        of_short = np.repeat(is_short, sizes)
        weighed = every[of_short] * powers[after[of_short] - 1]
        starts = np.cumsum(sizes[is_short]) - sizes[is_short]
        rolling[(np.cumsum(sizes) - sizes)[is_short]] = np.add.reduceat(weighed, starts)
    is_passage = (after >= n) | (np.arange(every.size) == first) & (np.repeat(is_short, sizes))
    owner = np.repeat(np.arange(sizes.size), sizes)[is_passage]
    return Passages(start, np.array([len(found) for found in split]), rolling[is_passage], owner)


def _word_hashes(found: Sequence[str]) -> NDArray[np.uint64]:
    return np.fromiter(map(_word_hash, found), dtype=np.uint64, count=len(found))


@lru_cache(maxsize=2**16)
def _word_hash(word: str) -> int:
    """64 bits, the same in every process, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest())


LEVEL = 0.01
"""Chance that two sets of one source are said to differ in any format."""
MIN_DIFFERENCE = 0.01
"""A difference of the shares of texts: below it a difference moves no figure."""


@dataclass(frozen=True, slots=True)
class TextFormat:
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


TEXT_FORMATS: tuple[TextFormat, ...] = (
    TextFormat("white space at the end", lambda text: text != text.rstrip(), "strip the end: text.rstrip()"),
    TextFormat("white space at the start", lambda text: text != text.lstrip(), "strip the start: text.lstrip()"),
    TextFormat("carriage returns", lambda text: "\r" in text, r"write line ends as \n: '\n'.join(text.splitlines())"),
    TextFormat(
        "line breaks", lambda text: "\n" in text, "keep or join lines in both sets alike: ' '.join(text.split())"
    ),
    TextFormat("tabs", lambda text: "\t" in text, "write tabs as spaces: text.expandtabs(1)"),
    TextFormat("runs of spaces", _matches("  "), "write one space: re.sub(' +', ' ', text)"),
    TextFormat(
        "two spaces after a full stop",
        _matches(r"[.!?]  (?=\S)"),
        "write one space after a full stop: re.sub(r'(?<=[.!?]) +', ' ', text)",
    ),
    TextFormat(
        "special spaces",
        _matches("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"),
        "write plain spaces: re.sub(r'[^\\S\\n]', ' ', text)",
    ),
    TextFormat(
        "invisible characters",
        _matches("[\u00ad\u200b-\u200f\u2060]"),
        "leave out zero-width characters and soft hyphens: re.sub('[\\u00ad\\u200b-\\u200f\\u2060]', '', text)",
    ),
    TextFormat("a byte order mark", lambda text: "\ufeff" in text, "read both files as utf-8-sig"),
    TextFormat(
        "characters that are not composed (not NFC)",
        lambda text: not unicodedata.is_normalized("NFC", text),
        "compose them: unicodedata.normalize('NFC', text)",
    ),
    TextFormat(
        "curly quotes",
        _matches("[\u2018\u2019\u201c\u201d]"),
        "write straight quotes: text.translate(str.maketrans('\u2018\u2019\u201c\u201d', '\\'\\'\"\"'))",
    ),
    TextFormat("straight quotes", _matches("['\"]"), "write one kind of quotes in both sets"),
    TextFormat("long dashes", _matches("[\u2013\u2014]"), "write one kind of dash in both sets"),
    TextFormat("an ellipsis as one character", lambda text: "\u2026" in text, "write three full stops"),
    TextFormat("HTML entities", _matches(r"&(?:[a-z]{2,8}|#\d{2,5});"), "decode them: html.unescape(text)"),
    TextFormat(
        "UTF-8 that was read as another encoding",
        _matches("\u00e2\u20ac|\u00c3[\u0080-\u00bf\u0192-\u2122]|\ufffd"),
        "read the file as UTF-8 (encoding='utf-8')",
    ),
    TextFormat(
        "no mark at the end",
        lambda text: text.rstrip()[-1:].isalnum(),
        "cut the texts of both sets at the same places",
    ),
    TextFormat(
        "a small first letter",
        lambda text: text.lstrip()[:1].islower(),
        "cut the texts of both sets at the same places",
    ),
)
"""The order is that of the warnings."""


def format_differences(members: Sequence[str], nonmembers: Sequence[str]) -> tuple[FormatDifference, ...]:
    """The formats in which the sets differ beyond chance, in the order of TEXT_FORMATS.

    Fisher's exact test with Bonferroni's correction over TEXT_FORMATS, at LEVEL; the shares differ by at least
    MIN_DIFFERENCE.

    Args:
        members: n texts.
        nonmembers: m texts.
    """
    from scipy.stats import fisher_exact  # slow to import, and a report reads results without it

    n, m = len(members), len(nonmembers)
    if min(n, m) == 0:
        return ()
    found = []
    for each, a, b in zip(TEXT_FORMATS, _count_formats(members), _count_formats(nonmembers), strict=True):
        if abs(a / n - b / m) >= MIN_DIFFERENCE:
            p_value = min(1.0, float(fisher_exact(np.array([[a, n - a], [b, m - b]])).pvalue) * len(TEXT_FORMATS))
            if p_value < LEVEL:
                found.append(FormatDifference(each.name, a / n, b / m, p_value, each.mend))
    return tuple(found)


def _count_formats(texts: Sequence[str]) -> list[int]:
    """How many texts have each of TEXT_FORMATS, in one pass: reading a text may cost more than looking at it."""
    counts = [0] * len(TEXT_FORMATS)
    for text in texts:
        for place, each in enumerate(TEXT_FORMATS):
            counts[place] += each.has(text)
    return counts
