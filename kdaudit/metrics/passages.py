"""How a text is split into words, the same for every check that never sees a model, and passages that sets share.

Source: Duan et al. 2024, arXiv:2402.07841, section 4; there a Bloom filter, here 64-bit hashes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
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
    """The lower-cased words in order; white space and marks are no part of any."""
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
    """Of a non-member's passages, as `max_share`; None, as what follows, in files of versions that did not tell."""
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
    shares = shared_passages(members, nonmembers, n=n)
    n_above = int(np.count_nonzero(shares > OVERLAP_LIMIT))
    return Overlap(
        n=n,
        mean_share=float(shares.mean()),
        max_share=float(shares.max()),
        n_above_20_percent=n_above,
        share_above_20_percent=n_above / shares.size,
        n_with_any=int(np.count_nonzero(shares)),
        n_too_short=sum(len(words(text)) < n for text in nonmembers),
    )


def shared_passages(members: Sequence[str], nonmembers: Sequence[str], *, n: int) -> Floats:
    """(m,), per non-member the share of its n-grams of lower-cased words that occur in any member.

    A text of fewer than n words counts as one passage: 1 where a member has exactly these words, else 0.

    Args:
        members: at least one text.
        nonmembers: m texts, at least one.
        n: words of a passage.

    Raises:
        ValueError: a class is empty.
    """
    if not (members and nonmembers):
        raise ValueError("overlap needs a text of each class")
    known = np.unique(np.concatenate([passages_of(text, n) for text in members]))
    return np.array([_share_known(passages_of(text, n), known) for text in nonmembers])


def passages_of(text: str, n: int) -> NDArray[np.uint64]:
    """(T,), hashes of the n-grams of words in order; one hash of the whole where the text has fewer than n words."""
    found = words(text) or [text.strip()]
    hashes = np.array([_word_hash(word) for word in found], dtype=np.uint64)
    width = min(n, len(found))
    powers = STEP ** np.arange(width, dtype=np.uint64)
    return np.convolve(hashes, powers, "valid")  # modulo 2**64


def _share_known(passages: NDArray[np.uint64], known: NDArray[np.uint64]) -> float:
    place = np.minimum(np.searchsorted(known, passages), known.size - 1)
    return float((known[place] == passages).mean())


@lru_cache(maxsize=2**16)
def _word_hash(word: str) -> int:
    """64 bits, the same in every process, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest())
