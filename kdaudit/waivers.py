"""Waivers: gates whose failure is accepted for a while, as a configuration file declares them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from kdaudit.errors import ConfigError

KEYS = ("gate", "reason", "expires")
SHOWN = 100
"""Characters of a gate in a message."""
EXAMPLE = 'write [[waivers]] with gate = "student.auc <= 0.6", reason = "…" and expires = 2030-01-31'

_HEADER = re.compile(r"^\s*\[\[\s*(tool\s*\.\s*kdaudit\s*\.\s*)?waivers\s*\]\]", re.MULTILINE)
_KEY = re.compile(r"^\s*(tool\s*\.\s*kdaudit\s*\.\s*)?waivers\s*=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Waiver:
    """One accepted failure."""

    gate: str
    """As it stands in the file; spaces are free, as in a gate."""
    reason: str
    expires: date
    """The last day on which it counts."""
    path: Path
    """The file that declares it."""
    line: int
    """Where in that file, counted from 1."""

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: the waiver of {self.gate[:SHOWN]!r}"


def read_waivers(value: object, path: Path) -> tuple[Waiver, ...]:
    """What a TOML parser made of the key `waivers` of the file at `path`.

    Raises:
        ConfigError: an entry is not a table, lacks a key, has an unknown one, or a value of another type.
    """
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigError(f"{path}: 'waivers' must be an array of tables", hint=EXAMPLE)
    lines = _lines(path.read_text(encoding="utf-8-sig"), len(value))
    return tuple(_waiver(entry, path, line) for entry, line in zip(value, lines, strict=True))


def expired(waivers: Sequence[Waiver], today: date) -> list[str]:
    """One line for each waiver whose last day is over."""
    return [f"{waiver} expired on {waiver.expires}" for waiver in waivers if waiver.expires < today]


def _waiver(entry: dict[str, object], path: Path, line: int) -> Waiver:
    where = f"{path}, line {line}: waiver"
    strangers, missing = [key for key in entry if key not in KEYS], [key for key in KEYS if key not in entry]
    if strangers or missing:
        problem = f"unknown key '{strangers[0]}'" if strangers else f"'{missing[0]}' is missing"
        raise ConfigError(f"{where}: {problem}", hint=EXAMPLE)
    gate, reason = entry["gate"], entry["reason"]
    if not isinstance(gate, str) or not isinstance(reason, str):
        raise ConfigError(f"{where}: gate and reason must be strings", hint=EXAMPLE)
    if not reason.strip():
        raise ConfigError(
            f"{where}: the reason is empty", hint="say why the failure is accepted: every report shows it"
        )
    return Waiver(gate, reason, _date(entry["expires"], where), path, line)


def _date(value: object, where: str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        raise ConfigError(f"{where}: expires is not a date: {value!r:.40}", hint=EXAMPLE) from error


def _lines(text: str, n: int) -> list[int]:
    """The line of each of `n` entries: that of its header, or that of the key where the array is written inline."""
    found = [match.end() for match in _HEADER.finditer(text)]
    if len(found) != n:
        key = _KEY.search(text) or _HEADER.search(text)
        found = [key.end() if key else 0] * n
    return [text.count("\n", 0, end) + 1 for end in found]
