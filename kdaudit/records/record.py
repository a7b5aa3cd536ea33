"""What a record and a set of records are, and the digests that stand for them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ID_DIGITS = 16  # hex digits of a keyed id: 64 bits, two of 100,000 texts collide once in 4 billion sets


@dataclass(frozen=True, slots=True)
class Record:
    """One text of a set."""

    id: str
    """Its own id where the data has one, else a keyed hash of its text."""
    text: str
    line: int
    """Where it stands in its source, counted from 1."""
    n_prompt: int = 0
    """Characters of the text that are its prompt: read by a model, but neither learnt nor scored."""


@dataclass(frozen=True, slots=True)
class RecordSet:
    """The distinct texts of one source, in the source's order."""

    option: str
    """The option that named the source, for messages: `--members`."""
    source: str
    records: tuple[Record, ...]
    n_duplicates: int
    """Texts that stood in the source again and were dropped."""
    sha256: str
    """A hash over the ids and texts in order; it changes when anything that is scored changes."""


def digest(records: Iterable[Record]) -> str:
    """SHA-256 over ids and texts in order, as 64 hex digits; every part is length-prefixed."""
    sha = hashlib.sha256()
    for record in records:
        sha.update(_prefixed(record.id))
        sha.update(_prefixed(record.text))
        if record.n_prompt:
            sha.update(record.n_prompt.to_bytes(8, "big"))
    return sha.hexdigest()


def keyed_ids(texts: Sequence[str]) -> list[str]:
    """An id for each text, from a key that only the holder of all the texts can derive.

    Run folders show ids. A plain hash would let anyone with one candidate text find out whether it is in
    the set; the key is a MAC over the whole set instead, so the same file gives the same ids and a single
    text gives nothing. It has its own domain, so the published digest of the set does not reveal it.

    Args:
        texts: n distinct texts of one set, in order; each can be encoded as UTF-8.
    """
    whole = hmac.new(b"kdaudit/record-key/1", digestmod=hashlib.sha256)
    for text in texts:
        whole.update(_prefixed(text))
    key = whole.digest()
    return [hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:ID_DIGITS] for text in texts]


def _prefixed(part: str) -> bytes:
    raw = part.encode()
    return len(raw).to_bytes(8, "big") + raw
