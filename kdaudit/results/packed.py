"""Long rows of numbers as short texts: bootstrap quantiles, curves and histograms are most of a results file.

`6:107:…` is 107 numbers of at most 6 decimals, `0:31:…` 31 whole numbers: as whole numbers of the last decimal, each
less the one before, they are written as varints of Protocol Buffers (zigzag). `f:61:…` is 61 numbers as little-endian
float64. Both are compressed by zlib and spelled in base85, that of Python and Git. Nothing is lost.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

from kdaudit.metrics.bootstrap import DECIMALS

ROWS = frozenset({"quantiles", "detected", "fpr", "tpr", "tpr_low", "tpr_high", "edges", "members", "nonmembers"})
"""The keys whose rows are packed."""
SHORTEST = 16
"""A shorter row stays a list, which anyone can read."""
LONGEST = 100_000
LARGEST = 2**53
"""Whole numbers below are exact as floats."""

_PACKED = re.compile(r"([06f]):([0-9]{1,6}):(.*)", re.DOTALL)


def packed(layout: Any, key: str = "") -> Any:
    """A layout of dicts and lists with every long row of numbers under ROWS as a text."""
    if isinstance(layout, dict):
        return {name: packed(value, name) for name, value in layout.items()}
    if not isinstance(layout, list):
        return layout
    return _pack(layout) if key in ROWS and len(layout) >= SHORTEST else [packed(value) for value in layout]


def unpacked(text: str) -> list[int] | list[float]:
    """The numbers that a text holds.

    Raises:
        ValueError: it does not hold a row of numbers.
    """
    if not (match := _PACKED.fullmatch(text)) or int(match[2]) > LONGEST:
        raise ValueError("no packed row of numbers")
    kind, n = match[1], int(match[2])
    written = _read(match[3], most_bytes=10 * n)
    if kind == "f":
        found = [number for (number,) in struct.iter_unpack("<d", written)] if len(written) == 8 * n else []
    else:
        whole = [*accumulate(_steps(written))]
        found = whole if kind == "0" else [value / 10**DECIMALS for value in whole]
    if len(found) != n or not all(abs(value) <= LARGEST for value in found):
        raise ValueError(f"not the {n} numbers that a packed row should hold")
    return found


def _pack(row: Sequence[float]) -> str:
    is_whole = all(type(value) is int for value in row)
    scale = 1 if is_whole else 10**DECIMALS
    kind, written = "f", struct.pack(f"<{len(row)}d", *row)
    if all(abs(value) * scale < LARGEST for value in row):
        whole = [round(value * scale) for value in row]
        if is_whole or all(value / scale == exact for value, exact in zip(whole, row, strict=True)):
            kind, written = str(0 if is_whole else DECIMALS), _steps_between(whole)
    return f"{kind}:{len(row)}:{base64.b85encode(zlib.compress(written, 9)).decode()}"


def _steps_between(whole: Sequence[int]) -> bytes:
    written = bytearray()
    for before, value in pairwise((0, *whole)):
        rest = 2 * (value - before) if value >= before else 2 * (before - value) - 1
        while rest > 127:
            written.append(rest % 128 + 128)
            rest //= 128
        written.append(rest)
    return bytes(written)


def _steps(written: bytes) -> Iterator[int]:
    rest, place = 0, 1
    for byte in written:
        rest, place = rest + byte % 128 * place, place * 128
        if byte < 128:
            yield rest // 2 if rest % 2 == 0 else -(rest + 1) // 2
            rest, place = 0, 1


def _read(text: str, *, most_bytes: int) -> bytes:
    try:
        written = zlib.decompressobj().decompress(base64.b85decode(text), most_bytes + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"a packed row is damaged: {error}") from error
    if len(written) > most_bytes:
        raise ValueError("a packed row holds more than it says")
    return written
