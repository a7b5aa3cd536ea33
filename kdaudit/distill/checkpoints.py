"""Checkpoints of an unfinished training run: sealed when they are whole, and set aside where they no longer are."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kdaudit.artefacts import write_text, writing
from kdaudit.foreign import check_regular, is_folder, read_json

PREFIX = "checkpoint-"
SEAL = "sha256.json"
DAMAGED = "damaged-"


def seal(checkpoint: Path) -> None:
    """Write down the hash of every file of a checkpoint; the last file that is written.

    Raises:
        DiskFullError: no space is left.
        OutputError: it cannot be written.
    """
    with writing(checkpoint):
        hashes = _hashes(checkpoint)
    write_text(checkpoint / SEAL, json.dumps(hashes, indent=1) + "\n")


def newest_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end and is still as it was written."""
    return next((path for path in _newest_first(work) if _is_whole(path)), None)


def set_damaged_aside(work: Path) -> Mapping[int, Path]:
    """Rename checkpoints that were not written to their end, or changed since; by step, where they lie now.

    Raises:
        OutputError: one cannot be renamed.
    """
    aside = {}
    with writing(work):
        for path in _newest_first(work):
            if _is_whole(path):
                continue
            step = _step(path)
            there = work / f"{DAMAGED}{step}"
            shutil.rmtree(there, ignore_errors=True)
            os.replace(path, there)
            aside[step] = there
    return aside


def _newest_first(work: Path) -> list[Path]:
    found = [path for path in work.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(found, key=lambda path: -_step(path))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _is_whole(checkpoint: Path) -> bool:
    try:
        return is_folder(checkpoint) and read_json(checkpoint / SEAL) == _hashes(checkpoint)
    except (OSError, ValueError):
        return False


def _hashes(checkpoint: Path) -> dict[str, str]:
    """The hash of every file except the seal, by its name.

    Raises:
        OSError: one cannot be read or is not a file.
    """
    hashes = {}
    for path in sorted(checkpoint.iterdir()):
        if path.name == SEAL:
            continue
        check_regular(path)
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
