"""What a text is made of, character by character: nothing is left out, merged or made alike before it is counted."""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from kdaudit.metrics.scores import Floats

COUNTED = " \t\n\r\u00a0'\"`\u2018\u2019\u201c\u201d-\u2013\u2014.!?\u2026,;:()/"
"""Each kind of white space, quote, dash and mark that is counted by itself."""
GRAMS = (1, 2, 3)  # characters; four find no more and take twice as long
START, END = 2, 3  # control characters that stand for the ends of a text
BUCKETS = 2**16
FACTOR = np.uint32(0x9E3779B1)
N_CHARACTER_FEATURES = len(COUNTED) + 21


def character_features(texts: Sequence[str]) -> Floats:
    """Sizes, how much each text compresses, its first and last character, and counts of marks and white space.

    Returns:
        (len(texts), N_CHARACTER_FEATURES): log(1 + count) of characters, bytes, bytes after zlib, and of each of
        COUNTED, other white space, other marks, double spaces, white space at either end, capitals, digits,
        non-ASCII and combining characters; bytes after zlib per byte; eight flags, of what kind the last character
        and the first are.
    """
    return np.array([_of_text(text) for text in texts], dtype=np.float64).reshape(len(texts), N_CHARACTER_FEATURES)


def _of_text(text: str) -> list[float]:
    n_bytes, n_zlib = (len(found) for found in (_utf8(text), zlib.compress(_utf8(text))))
    counts = Counter(text)
    rest = {char: count for char, count in counts.items() if char not in COUNTED and not char.isalnum()}
    n_other_space = sum(count for char, count in rest.items() if char.isspace())
    n_combining = sum(count for char, count in rest.items() if unicodedata.combining(char))
    sizes = np.log1p([
        len(text), n_bytes, n_zlib,
        *(counts[char] for char in COUNTED), n_other_space, sum(rest.values()) - n_other_space, text.count("  "),
        len(text) - len(text.rstrip()), len(text) - len(text.lstrip()),
        sum(count for char, count in counts.items() if char.isupper()),
        sum(count for char, count in counts.items() if char.isdigit()),
        sum(count for char, count in counts.items() if not char.isascii()), n_combining,
    ])  # fmt: skip
    first, last = text[:1], text[-1:]
    kinds = [
        last.isspace(), last == ".", last.isalnum(), last.isdigit(), last.islower(),
        first.isspace(), first.isupper(), first.isdigit(),
    ]  # fmt: skip
    return [*sizes, n_zlib / max(n_bytes, 1), *map(float, kinds)]


def character_counts(texts: Sequence[str]) -> Any:
    """Hashed counts of the runs of up to three characters in each text, its ends among them.

    scikit-learn's own analyser makes every kind of white space one space.

    Returns:
        (len(texts), d) sparse, float32: only buckets that some text falls into.
    """
    columns, sizes = [], []
    for text in texts:
        ids = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        whole = np.concatenate([[START], ids, [END]]).astype(np.uint32)
        found, counts = np.unique(np.concatenate([_hashes(whole, n) for n in GRAMS]), return_counts=True)
        columns.append((found, counts))
        sizes.append(found.size)
    indices = np.concatenate([found for found, _ in columns])
    values = np.concatenate([counts for _, counts in columns]).astype(np.float32)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    known, indices = np.unique(indices, return_inverse=True)
    return csr_array((values, indices, ends), shape=(len(texts), known.size))


def _hashes(ids: Any, n: int) -> Any:
    """(T - n + 1,), the bucket of each run of n characters."""
    mixed = np.full(max(ids.size - n + 1, 0), n, dtype=np.uint32)
    for offset in range(n):
        mixed = (mixed ^ ids[offset : offset + mixed.size]) * FACTOR
        mixed ^= mixed >> np.uint32(15)
    return mixed % np.uint32(BUCKETS)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
