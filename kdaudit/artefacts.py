"""Files that are whole or absent, and what the operating system says of a failed write in words to act on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdaudit.errors import DiskFullError, OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; at the end of the block it takes the place of `path`, after any failure it is gone.

    Raises:
        DiskFullError: no space is left; an older file is still whole.
        OutputError: the file cannot be written.
    """
    waiting = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # a rename cannot cross file systems
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield waiting
            with waiting.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(waiting, path)
        except BaseException:
            with suppress(OSError):
                waiting.unlink()
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a write to `path` into an error that the user can act on.

    Raises:
        DiskFullError: no space is left.
        OutputError: the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(
                f"the disk is full: {path} could not be written",
                hint="free some space and run the same command again: what is finished is kept",
            ) from error
        raise OutputError(
            f"--out: {path} cannot be written: {error.strerror or error}", hint="choose another folder with --out"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing, in UTF-8.

    Raises:
        DiskFullError: no space is left; an older file is still whole.
        OutputError: the file cannot be written.
    """
    with replacing(path) as waiting:
        waiting.write_text(text, encoding="utf-8", newline="\n")
