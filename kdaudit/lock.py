"""One command at a time in a folder: two that write into the same one would leave a mixture of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdaudit.artefacts import writing
from kdaudit.errors import ConfigError

FILE_NAME = ".kdaudit-lock.tmp"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for the length of a `with` block, and make it where it does not exist.

    The operating system holds the lock and gives it back when the process ends, however it ends: what a killed one
    leaves is a file, not a lock. Within one process the same folder may be held again.

    Raises:
        ConfigError: another process holds it.
        OutputError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # asyncio comes with it: not at the top, so --help stays light

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.resolve() / FILE_NAME, is_singleton=True)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise ConfigError(
                f"--out: another kdaudit command is at work in {folder}",
                hint="wait until it has ended, or choose another folder",
            ) from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):  # while it is held: whoever opened it before finds out that it has no name
                Path(lock.lock_file).unlink()
        lock.release()
