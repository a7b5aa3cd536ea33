"""The configuration file: which one applies, and the settings in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdaudit.errors import ConfigError, did_you_mean
from kdaudit.foreign import is_file, read_text, reason
from kdaudit.options import Declared
from kdaudit.waivers import read_waivers

MAX_BYTES = 2**22
"""The size of a configuration file."""
MAX_DOTTED = 5 * 10**7
"""The squares of the dots in each line, added up: a line of 7,000 dots, or a thousand gates in each of ten lines."""
WAIVERS = "waivers"
"""The key that every command knows, though it has no option: an array of tables."""


def find_config_file(folder: Path) -> Path | None:
    """The configuration that applies in `folder`: kdaudit.toml, else a pyproject.toml with [tool.kdaudit]."""
    own = folder / "kdaudit.toml"
    if is_file(own):
        return own
    project = folder / "pyproject.toml"
    return project if is_file(project) and "kdaudit" in _table(_parse(project), "tool", project) else None


def read_config_file(path: Path, *, known: Iterable[Declared]) -> dict[str, Any]:
    """The settings in a kdaudit.toml, or under [tool.kdaudit] of a pyproject.toml, by the names of their options.

    Args:
        path: the file.
        known: the options that it may hold. `waivers` may stand in every file, and comes back as a tuple of Waiver.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value has another type.
    """
    table = _parse(path)
    if path.name == "pyproject.toml":
        table = _table(_table(table, "tool", path), "kdaudit", path)
    option_of = {declared.name: declared for declared in known if declared.option.in_file}
    settings: dict[str, Any] = {}
    for raw_key, value in table.items():
        key = raw_key.replace("-", "_")
        if key == WAIVERS:
            settings[key] = read_waivers(value, path)
        elif key in option_of:
            # one file of records is the usual case
            is_one = option_of[key].is_many and option_of[key].option.names == "records" and isinstance(value, str)
            value = [value] if is_one else value
            _check_type(path, raw_key, value, option_of[key].kind)
            settings[key] = value
        else:
            keys = [*option_of, WAIVERS]
            hint = did_you_mean(key, keys, otherwise=f"known keys: {', '.join(sorted(keys))}")
            raise ConfigError(f"{_place(path, raw_key)}: unknown key '{raw_key}'", hint=hint)
    return settings


def _place(path: Path, key: str) -> str:
    """The file and the line of a key in the table of kdaudit; the file alone where the key is written otherwise."""
    is_ours, named = path.name != "pyproject.toml", re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([\w.\s-]+?)\s*\]", line):
            if header[1] in {key, f"tool.kdaudit.{key}"}:
                return f"{path}, line {number}"
            is_ours = header[1] == "tool.kdaudit"
        elif is_ours and named.match(line):
            return f"{path}, line {number}"
    return str(path)


_TYPES: Mapping[type, tuple[str, str]] = {
    str: ("a string", '{key} = "…"'),
    int: ("a whole number", "{key} = 1"),
    float: ("a number", "{key} = 0.5"),
    bool: ("true or false", "{key} = true"),
    list: ("a list of strings", '{key} = ["…"]'),
}
"""A type in words, and an example."""


def _check_type(path: Path, key: str, value: object, wanted: type) -> None:
    accepted = (int, float) if wanted is float else wanted
    if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
        words, example = _TYPES[wanted]
        raise ConfigError(
            f"{_place(path, key)}: '{key}' must be {words}, not {type(value).__name__}",
            hint=f"write it as {example.format(key=key)}",
        )
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{_place(path, key)}: every entry of '{key}' must be a string")


def _table(parent: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = parent.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: '{key}' must be a table, not {type(found).__name__}", hint="write [tool.kdaudit]")
    return found


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, at_most=MAX_BYTES, encoding="utf-8-sig")
        # a parser remembers every beginning of a dotted key
        if sum(line.count(".") ** 2 for line in text.splitlines()) > MAX_DOTTED:
            raise ConfigError(f"{path} has lines of more dots than settings can have")
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"--config: cannot read {path}: {error.strerror}",
            hint="check the path; without --config, no file is needed",
        ) from error
    except (ValueError, RecursionError) as error:  # also of a number without end, or nested without end
        raise ConfigError(f"{path} is not valid TOML: {reason(error)}") from error
