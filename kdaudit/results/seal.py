"""The seal of a run: hashes in its manifest, by which it can be told later whether a file was changed.

It shows that files are as they were written, not who wrote them: whoever changes a file can write its hash anew. The
hash of the manifest, kept elsewhere (a report shows it), closes that gap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdaudit.errors import ConfigError
from kdaudit.foreign import check_regular, read_json, reason

RESULTS, SCORES, MANIFEST = "results.json", "scores.parquet", "manifest.json"
LIKELIHOODS = "likelihoods.parquet"
"""What every model makes of each record."""
SEALED = (RESULTS, SCORES, LIKELIHOODS)
"""The files whose hashes the manifest holds."""
OWN, FILES = "sha256", "files_sha256"
"""The keys of the manifest: its own hash, and those of the files."""
AGAIN = "its `kdaudit attack` command, run again, continues the run and writes them; nothing is measured twice"


@dataclass(frozen=True, slots=True)
class Seal:
    """What was found to be as it was written."""

    manifest: str
    """SHA-256 of the manifest, but for this hash itself."""
    checked: tuple[str, ...]
    """The files whose hashes agree."""
    absent: tuple[str, ...]
    """Those that lie elsewhere, so nothing can be said of them."""


def sealed(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The content of a manifest with the hashes of the files of its run, and with its own.

    Args:
        content: of the manifest, without hashes.
        folder: of the run, finished.
    """
    files = {name: file_sha256(folder / name) for name in SEALED if (folder / name).is_file()}
    whole = {**content, FILES: files}
    return {**whole, OWN: _own_sha256(whole)}


def check_seal(folder: Path) -> Seal:
    """Compare the files of a run with the hashes in its manifest; one that lies elsewhere is named, not refused.

    Raises:
        ConfigError: names every file that was changed, says that there are no results, or that the run holds no hashes.
    """
    path = folder / MANIFEST
    try:
        content: Any = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {reason(error)}", hint="name the folder of a finished run"
        ) from error
    files = content.get(FILES) if isinstance(content, dict) else None
    if not isinstance(files, dict) or not isinstance(content.get(OWN), str) or RESULTS not in files:
        raise ConfigError(f"{path}: it holds no hashes of the run's files; an earlier version wrote it", hint=AGAIN)
    present = [name for name in SEALED if name in files and (folder / name).exists()]
    if problems := [*_problems(folder, content, files, present)]:
        hint = "fetch the files from where they were measured; a report on these proves nothing"
        raise ConfigError("\n".join(problems), hint=hint)
    absent = tuple(name for name in files if name not in present)
    return Seal(content[OWN], (MANIFEST, *present), absent)


def _problems(folder: Path, content: Mapping[str, Any], files: Mapping[str, Any], present: list[str]) -> Iterator[str]:
    if content[OWN] != _own_sha256({name: value for name, value in content.items() if name != OWN}):
        yield f"{folder / MANIFEST}: it was changed after the audit wrote it"
    if RESULTS not in present:
        yield f"{folder / RESULTS}: it is missing"
    for name in present:
        if files[name] != file_sha256(folder / name):
            yield f"{folder / name}: it was changed after the audit wrote it"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {reason(error)}") from error


def _own_sha256(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content whatever its layout: keys sorted, no white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
