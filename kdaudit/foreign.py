"""What others wrote: its kind and size are looked at before it is read, and what a library says of it is kept short."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdaudit.errors import KdauditError

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
"""What stands in a file whose content Git LFS has not fetched."""
MAX_REASON = 300
"""Characters of a library's message that are shown."""
MAX_JSON = 64 * 2**20
"""Bytes of a JSON file, unless a smaller limit is given: the index of the largest model takes about 15 MB."""


def reason(error: BaseException) -> str:
    """What an error of a library says, in one line of ours: its first two lines, with the kind where it says nothing.

    A first line that ends in a colon, or that only points elsewhere, is worth nothing without the next one.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    if isinstance(error, KeyError | RecursionError | ZeroDivisionError | AssertionError):  # 'x' alone says nothing
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 1].rstrip()}…"


@contextmanager
def reading(what: str, kind: type[KdauditError], *, hint: str = "") -> Iterator[None]:
    """Whatever a library raises over a file that somebody else wrote becomes one clear error; our own errors pass.

    Libraries, and the Rust and C++ below them, raise anything over a file that they did not expect, so everything is
    caught: for what stands in a `with` block of this, a traceback would tell the user nothing.

    Args:
        what: begins the message: the file and what cannot be done with it.
        kind: of the error.
        hint: what to do about it.

    Raises:
        KdauditError: of that kind.
    """
    try:
        yield
    except KdauditError:
        raise
    except Exception as error:
        raise kind(f"{what}: {reason(error)}", hint=hint) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust; by design no Exception
            raise
        raise kind(f"{what}: {reason(error)}", hint=hint) from error


def is_file(path: Path) -> bool:
    """Whether there is a regular file, or a link to one; False, too, for what can be no path at all."""
    return os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Whether there is a folder, or a link to one; False, too, for what can be no path at all."""
    return os.path.isdir(path)


def read_bytes(path: Path, *, at_most: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read, or is a pipe, a device or a socket, which might never end.
        ValueError: it holds more than `at_most` bytes.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise ValueError(f"it holds more than {at_most:,} bytes")
    return content


def check_regular(path: Path) -> None:
    """Refuse a pipe, a device or a socket before it is opened.

    Raises:
        OSError: it is one, or it is not there.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a device or a socket, not a file", str(path))


def read_text(path: Path, *, at_most: int = MAX_JSON, encoding: str = "utf-8") -> str:
    """The text of a regular file, line ends as Python reads them.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is too large, or not of that encoding.
    """
    return read_bytes(path, at_most=at_most).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, *, at_most: int = MAX_JSON, only_numbers: bool = False) -> object:
    """The value in a JSON file.

    Args:
        path: of the file.
        at_most: bytes.
        only_numbers: whether NaN, infinities and numbers beyond a float are refused; config.json may hold them.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is too large, nested without end, or no JSON.
    """
    how: dict[str, Any] = {"parse_constant": _finite, "parse_float": _finite} if only_numbers else {}
    try:
        value: object = json.loads(read_text(path, at_most=at_most), **how)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"it holds {digits:.20}, which is not a number")
    return float(digits)
