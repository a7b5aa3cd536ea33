"""Files that are whole or absent, and what the operating system says of a failed write in words to act on."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdaudit.errors import DiskFullError, OutputError

HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
"""This host in the names of temporary files."""


@contextmanager
def replacing(path: Path, *, option: str = "--out") -> Iterator[Path]:
    """Give a temporary path to write to, which replaces `path` when the block ends; a failure removes it.

    Args:
        path: the file.
        option: that named its folder, for messages.

    Raises:
        DiskFullError: no space is left; an older file is still whole.
        OutputError: the file cannot be written.
    """
    waiting = waiting_name(path)
    with writing(path, option=option):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
            yield waiting
            with waiting.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(waiting, path)
        except BaseException:
            with suppress(OSError):
                waiting.unlink()
            raise


def waiting_name(path: Path) -> Path:
    """What a file or folder is called until it is whole; beside it, since a rename cannot cross file systems.

    Several hosts may share the file system: the name says whose process it is.
    """
    path = path if path.name else path.resolve()  # of the current folder
    return path.with_name(f"{path.name}.{HOST}-{os.getpid()}.tmp")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes of this host left of their attempts at `path`; those of live processes stay."""
    path = path if path.name else path.resolve()
    pattern = re.compile(rf"{re.escape(path.name)}\.(?:{HOST}-)?(\d+)\.tmp")  # earlier versions named no host
    with suppress(OSError):
        for found in os.scandir(path.parent):
            named = pattern.fullmatch(found.name)
            if named is None or is_alive(int(named[1])):
                continue
            if found.is_dir(follow_symlinks=False):
                shutil.rmtree(found, ignore_errors=True)
            else:
                os.unlink(found)


def is_alive(process: int) -> bool:
    """Whether a process of this host has this id; one of another user counts."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def create_text(path: Path, text: str) -> bool:
    """Write a new file, readable by its owner alone, whole or not at all; never in the place of another.

    Returns:
        Whether this process made it: False where there is one by now.

    Raises:
        DiskFullError: no space is left.
        OutputError: the file cannot be written.
    """
    waiting = waiting_name(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting.unlink(missing_ok=True)
        with open(os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(waiting, path)  # unlike a rename, fails where another process was quicker
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return _moved(waiting, path)
        finally:
            waiting.unlink(missing_ok=True)
    return True


def _moved(waiting: Path, path: Path) -> bool:
    """Whether the place was free; between the two steps of this another process may look at an empty file."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    os.replace(waiting, path)
    return True


@contextmanager
def writing(path: Path, *, option: str = "--out") -> Iterator[None]:
    """Turn what the operating system says of a write to `path` into an error that the user can act on.

    Args:
        path: what is written.
        option: that named it or its folder.

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
            f"{option}: {path} cannot be written: {error.strerror or error}",
            hint=f"choose another folder with {option}",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing, in UTF-8.

    Raises:
        DiskFullError: no space is left; an older file is still whole.
        OutputError: the file cannot be written.
    """
    with replacing(path) as waiting:
        waiting.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: Path, content: bytes, *, option: str = "--out") -> None:
    """Write a whole file or nothing.

    Args:
        path: the file.
        content: all of it.
        option: that named its folder, for messages.

    Raises:
        DiskFullError: no space is left; an older file is still whole.
        OutputError: the file cannot be written.
    """
    with replacing(path, option=option) as waiting:
        waiting.write_bytes(content)
