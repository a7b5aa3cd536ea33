"""Folders that commands write into: whose they are, and one command at a time in each.

Two commands that wrote into the same folder would leave a mixture of both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kdaudit.artefacts import writing
from kdaudit.errors import ConfigError

FILE_NAME = ".kdaudit-lock.tmp"
SHOWN = 60  # characters of a setting


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


def claim(
    folder: Path,
    *,
    is_ours: bool,
    holds_no: str,
    leftovers: Collection[str] = (),
    overwrite: bool = False,
    hint: str = "choose another folder, or pass --overwrite to write into this one",
) -> None:
    """Make the folder that a command writes into, and refuse one that holds something else.

    Args:
        folder: what --out names.
        is_ours: whether an earlier run of the command left its mark in it.
        holds_no: what the mark would be of, for the message: `earlier run`.
        leftovers: names that a killed run may leave before its mark; temporary files, too, are nobody's.
        overwrite: whether to write into a folder that holds something else.
        hint: what to do about such a folder.

    Raises:
        ConfigError: it holds something else.
        OutputError: it cannot be written.
    """
    if folder.is_file():
        raise ConfigError(f"--out: {folder} is a file", hint="choose another folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.tmp"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # a process of another host may have the same id
        found = sorted(path.name for path in folder.iterdir() if not path.name.endswith(".tmp"))
    strangers = [name for name in found if name not in leftovers]
    if strangers and not is_ours and not overwrite:
        raise ConfigError(f"--out: {folder} is not empty and holds no {holds_no} ({strangers[0]})", hint=hint)


def refuse_other_settings(
    folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any], *, holds: str, hint: str
) -> None:
    """Refuse a folder whose run had other settings, other records or other weights.

    Args:
        folder: what --out names.
        earlier: what the run in it was started with, as JSON gives it back.
        now: what this run is started with.
        holds: what the folder holds, for the message: `a run`.
        hint: what to do about it.

    Raises:
        ConfigError: naming the first setting that differs, and how many do.
    """
    now = json.loads(json.dumps(now))
    was, wanted = ({name: value for name, value in found.items() if value != []} for found in (earlier, now))
    differing = [name for name in {**now, **earlier} if was.get(name) != wanted.get(name)]
    if differing:
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        before, after = (_shortened(found.get(differing[0])) for found in (earlier, now))
        raise ConfigError(
            f"--out: {folder} holds {holds} with other settings: {differing[0].replace('_', ' ')} was {before} "
            f"and is now {after}{more}",
            hint=hint,
        )


def _shortened(value: Any) -> str:
    if value is None or value == []:
        return "not given"
    if isinstance(value, bool):
        return "on" if value else "off"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= SHOWN else f"{text[:12]}…"
