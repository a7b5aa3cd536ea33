"""What a text is made of, character by character, and how odd it is among the others: counts alone, without a model.

Nothing is left out, merged or made alike before it is counted, and nothing looks at which texts are members. A set with
one typo, one swap or one invented name a text differs in what it is like, not in any word that a classifier could learn
by heart. So each text is held against the counts of all texts together, its own occurrence left out.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kdaudit.metrics.scores import Floats
from kdaudit.metrics.texts import tokens

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
        (len(texts), BUCKETS) sparse, float32.
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
    return csr_array((values, indices, ends), shape=(len(texts), BUCKETS))


def _hashes(ids: Any, n: int) -> Any:
    """(T - n + 1,), the bucket of each run of n characters."""
    mixed = np.full(max(ids.size - n + 1, 0), n, dtype=np.uint32)
    for offset in range(n):
        mixed = (mixed ^ ids[offset : offset + mixed.size]) * FACTOR
        mixed ^= mixed >> np.uint32(15)
    return mixed % np.uint32(BUCKETS)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


MIN_BITS, MAX_BITS = 18, 22  # of the hash of an n-gram: at most 16 MiB a table
CHUNK = 2000  # texts that are looked at together: memory does not grow with the set
PRIOR = 0.1  # occurrences that an n-gram has before any is counted
STRENGTH = 3.0  # occurrences of a context that weigh as much as the shorter context
LEAST_GAIN = -10.0  # that of a text with nothing to exchange; a sure loss says no more
CHARACTERS, WORDS = 5, 2  # length of the n-grams
ALPHABET = 256  # a character that nothing foretells
HIGH = (3.0, 5.0, 7.0)  # nats
N_OWN_NAME = 500  # words that occur in most texts stand for themselves, others for their shape
MIN_FREQUENT, MIN_LETTERS = 5, 4  # of a word that a misspelt one is held against
FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63],
                   dtype=np.uint64)  # fmt: skip

Ids = NDArray[np.integer[Any]]

NAMES = (
    "words", "singletons", "share of singletons", "capital singletons", "small singletons", "words of two texts",
    "near misses", "small near misses", "most frequent near miss", "doubled words",
    "character surprise", "largest character surprise", "surprise over 3 nats", "over 5 nats", "over 7 nats",
    "largest gain of exchanged characters", "gain of exchanged characters",
    "largest gain of exchanged words", "gain of exchanged words",
)  # fmt: skip
"""What the columns of `oddity` are."""


def oddity(texts: Sequence[str]) -> Floats:
    """What is rare, misspelt or out of order in each text, by the counts of all of them.

    A singleton is a word that no other text has; a near miss is a singleton that becomes a frequent word by one letter
    less, more or other. Surprise is in nats under a character model of all other texts. A gain is the log ratio of
    the counts after and before two neighbours change places: large where the exchange undoes one.

    Returns:
        (len(texts), len(NAMES)), finite.
    """
    split = [tokens(text) for text in texts]
    as_characters = [np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<i4") for text in texts]
    if not texts:
        return np.empty((0, len(NAMES)))
    found = [_rare_words(split), _surprise(as_characters), _gains(as_characters, CHARACTERS)]
    return np.hstack([*found, _gains(_shapes(split), WORDS)])


def _rare_words(split: Sequence[Sequence[str]]) -> Floats:
    """(n, 10): the first ten of NAMES."""
    n_texts = Counter(word for words in split for word in {word.lower() for word in words if word[0].isalpha()})
    frequent: dict[str, int] = {}
    for word, count in n_texts.items():
        if count >= MIN_FREQUENT and len(word) >= MIN_LETTERS:
            for shortened in _with_one_letter_less(word):
                frequent[shortened] = max(count, frequent.get(shortened, 0))
    rows = []
    for every in split:
        written = [word for word in every if word[0].isalpha()]
        singletons = [word for word in written if n_texts[word.lower()] == 1]
        missed = {
            word: max(frequent.get(shortened, 0) for shortened in _with_one_letter_less(word.lower()))
            for word in set(singletons)
            if len(word) >= MIN_LETTERS
        }
        small = [word for word in singletons if word.islower()]
        rows.append([
            np.log1p(len(written)),
            len(singletons),
            len(singletons) / max(len(written), 1),
            sum(word[0].isupper() and n_texts[word.lower()] == 1 for word in written[1:]),
            len(small),
            sum(n_texts[word.lower()] == 2 for word in written),
            sum(count > 0 for count in missed.values()),
            sum(count > 0 for word, count in missed.items() if word.islower()),
            np.log1p(max(missed.values(), default=0)),
            sum(one.lower() == other.lower() for one, other in pairwise(written)),
        ])  # fmt: skip
    return np.array(rows, dtype=np.float64)


def _with_one_letter_less(word: str) -> set[str]:
    """The word and all that it becomes by losing a letter: two words share one where a single edit lies between."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _shapes(split: Sequence[Sequence[str]]) -> list[Ids]:
    """Frequent words and marks as they are; of the others whether they start with a capital, and how they end."""
    n_texts = Counter(word for words in split for word in set(words))
    # of words in equally many texts the first in the alphabet: a set gives them in another order in every process
    own = set(sorted(n_texts, key=lambda word: (-n_texts[word], word))[:N_OWN_NAME])
    ids: dict[str, int] = {}

    def shape(word: str) -> str:
        if word in own or not word[0].isalnum():
            return word
        return "0" if word.isdigit() else f"{'A' if word[0].isupper() else 'a'} {word[-2:].lower()}"

    return [np.array([ids.setdefault(shape(word), len(ids)) for word in words], dtype=np.int64) for words in split]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some texts as one array of ids from 1, with a gap of zeros before, between and after them."""

    ids: Ids
    at: Ids
    """Places of the tokens."""
    owner: Ids
    """The text of each."""
    n_texts: int

    def largest(self, values: Floats, missing: float) -> Floats:
        """Per text the largest of its tokens' values; `missing` where it has none."""
        found = np.full(self.n_texts, missing)
        np.maximum.at(found, self.owner, values)
        return found

    def mean(self, values: Floats) -> Floats:
        """Per text; 0 where it has no token."""
        total = np.bincount(self.owner, weights=values, minlength=self.n_texts)
        return np.asarray(total / np.maximum(np.bincount(self.owner, minlength=self.n_texts), 1))


def _chunks(sequences: Sequence[Ids], gap: int) -> Iterator[_Chunk]:
    for start in range(0, len(sequences), CHUNK):
        some = sequences[start : start + CHUNK]
        owner = np.repeat(np.arange(len(some)), [len(one) for one in some])
        at = np.arange(owner.size) + gap * (owner + 1)
        ids = np.zeros(owner.size + gap * (len(some) + 1), dtype=np.int64)
        ids[at] = np.concatenate(some) + 1
        yield _Chunk(ids, at, owner, len(some))


def _bits(sequences: Sequence[Ids]) -> int:
    """Eight buckets for each token, so that two n-grams rarely share one."""
    return int(np.clip(sum(map(len, sequences)).bit_length() + 3, MIN_BITS, MAX_BITS))


def _bucket(columns: Sequence[Ids], bits: int) -> NDArray[np.intp]:
    """The hash of n-grams whose i-th tokens stand in the i-th column."""
    mixed = np.zeros(columns[0].size, dtype=np.uint64)
    for factor, column in zip(FACTORS, columns, strict=False):
        mixed += column.astype(np.uint64) * factor
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(64 - bits)).astype(np.intp)


def _counts(sequences: Sequence[Ids], n: int) -> NDArray[np.int32]:
    """(2**bits,), how often each n-gram occurs; those that reach into a gap count too."""
    bits = _bits(sequences)
    table = np.zeros(2**bits, dtype=np.int32)
    for chunk in _chunks(sequences, n):
        ends = np.arange(n - 1, chunk.ids.size)
        found = _bucket([chunk.ids[ends - back] for back in range(n - 1, -1, -1)], bits)
        table += np.bincount(found, minlength=table.size)
    return table


def _surprise(sequences: Sequence[Ids]) -> Floats:
    """(n, 5): mean and largest surprise, and log(1 + count) of characters above each of HIGH."""
    bits, tables = _bits(sequences), {n: _counts(sequences, n) for n in range(1, CHARACTERS + 1)}
    total = max(sum(len(one) for one in sequences), 1)
    rows = []
    for chunk in _chunks(sequences, CHARACTERS):
        columns = [chunk.ids[chunk.at - back] for back in range(CHARACTERS - 1, -1, -1)]
        probability: Floats = np.full(chunk.at.size, 1 / ALPHABET)
        context: Floats = np.full(chunk.at.size, float(total))
        for n, table in tables.items():
            # An n-gram's own occurrence does not foretell it.
            count = table[_bucket(columns[-n:], bits)] - 1.0
            seen = np.maximum(context, count) + STRENGTH
            probability = np.asarray((count + STRENGTH * probability) / seen, dtype=np.float64)
            if n < CHARACTERS:
                context = (tables[n][_bucket(columns[-n - 1 : -1], bits)] - 1).astype(np.float64)
        nats = -np.log(probability)
        above = [np.log1p(np.bincount(chunk.owner, weights=nats > high, minlength=chunk.n_texts)) for high in HIGH]
        rows.append(np.column_stack([chunk.mean(nats), chunk.largest(nats, 0.0), *above]))
    return np.concatenate(rows)


def _gains(sequences: Sequence[Ids], n: int) -> Floats:
    """(n_texts, 2): the largest gain of an exchange of neighbours, and the log of the mean odds over all exchanges."""
    bits, table = _bits(sequences), _counts(sequences, n)
    log_count = np.log(table + np.float32(PRIOR))
    rows = []
    for chunk in _chunks(sequences, n):
        ids, at = chunk.ids, chunk.at
        ends = np.arange(n - 1, ids.size)
        others = np.zeros(ids.size)
        found = table[_bucket([ids[ends - back] for back in range(n - 1, -1, -1)], bits)]
        others[ends] = np.log(np.maximum(found - 1, 0) + PRIOR)
        can_move = (ids[at + 1] > 0) & (ids[at] != ids[at + 1])
        first = at[can_move]
        gain = np.full(at.size, -np.inf)
        gain[can_move] = sum(
            log_count[_bucket([_exchanged(ids, first)(end - back) for back in range(n - 1, -1, -1)], bits)]
            - others[first + end]
            for end in range(n + 1)
        )
        largest = chunk.largest(gain, -np.inf)
        odds = chunk.mean(np.exp(np.minimum(gain, 50.0)))
        logs = np.log(np.maximum(odds, np.exp(LEAST_GAIN)))
        rows.append(np.column_stack([np.maximum(largest, LEAST_GAIN), logs]))
    return np.concatenate(rows)


def _exchanged(ids: Ids, first: Ids) -> Callable[[int], Ids]:
    """The token `offset` places after each of `first`, once it has changed places with its right neighbour."""
    return lambda offset: ids[first + (1 - offset if offset in (0, 1) else offset)]
