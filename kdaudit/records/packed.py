"""Files as they can be read: unpacked, and standard input as a file, both with a limit."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from kdaudit.errors import RecordsError
from kdaudit.foreign import reading
from kdaudit.records.rows import MAX_PACKING, UNPACKED

SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zstd")
MAX_PIPED = 2**34
"""Bytes of standard input."""
AT_A_TIME = 2**20  # bytes


def _zstd(file: BinaryIO) -> Any:
    import pyarrow  # heavy

    return pyarrow.CompressedInputStream(file, "zstd")


UNPACKERS: Mapping[bytes, tuple[str, Callable[[BinaryIO], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\0": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("Zstandard", _zstd),
}
"""By the first bytes of a file: how it is packed, and what unpacks it."""


def bare_name(name: str) -> str:
    """A file's name without what says how it is packed."""
    path = Path(name)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else name


@contextmanager
def unpacked(file: BinaryIO, label: str, *, n_bytes: int) -> Iterator[BinaryIO]:
    """The file itself, or what is packed in it, in a temporary file that is gone at the end of the block.

    Args:
        file: at its start.
        label: of the source, for messages.
        n_bytes: its size.

    Raises:
        RecordsError: it cannot be unpacked, or unpacks to more than texts can.
    """
    head = _head(file)
    found = next((how for magic, how in UNPACKERS.items() if head.startswith(magic)), None)
    if found is None:
        yield file
        return
    name, unpack = found
    hint = "unpack it yourself, and look at what is in it"

    def check(n_unpacked: int) -> None:
        if n_unpacked > UNPACKED and n_unpacked > MAX_PACKING * n_bytes:
            raise RecordsError(
                f"{label}: {n_bytes:,} bytes of {name} that unpack to more than {n_unpacked:,}, and texts are packed "
                f"{MAX_PACKING} times at most",
                hint=hint,
            )

    with tempfile.TemporaryFile() as whole:
        with reading(f"{label}: not readable as {name}", RecordsError, hint=hint):
            _pour(unpack(file), whole, check)
        if not whole.tell():
            raise RecordsError(f"{label}: is empty", hint="give a file with at least one text")
        whole.seek(0)
        yield whole


@contextmanager
def piped(stream: BinaryIO, label: str) -> Iterator[tuple[BinaryIO, int]]:
    """Standard input as a file that can be read twice, and its size.

    Raises:
        RecordsError: it holds nothing, or more than `MAX_PIPED` bytes.
    """

    def check(n_read: int) -> None:
        if n_read > MAX_PIPED:
            raise RecordsError(f"{label}: more than {MAX_PIPED:,} bytes", hint="write them into a file and give that")

    with tempfile.TemporaryFile() as whole:
        _pour(stream, whole, check)
        n_bytes = whole.tell()
        if not n_bytes:
            raise RecordsError(f"{label}: is empty", hint="pipe at least one text into the command")
        whole.seek(0)
        yield whole, n_bytes


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def _head(file: BinaryIO) -> bytes:
    head = file.read(8)
    file.seek(0)
    return head


def _pour(source: Any, target: IO[bytes], check: Callable[[int], None]) -> None:
    """Copy all bytes; `check` is told how many there are so far."""
    n_bytes = 0
    while part := source.read(AT_A_TIME):
        n_bytes += len(part)
        check(n_bytes)
        target.write(part)
