"""One rule for every path that a user gives.

`~` and variables are expanded wherever a path comes from. A relative path is seen from the current folder where the
command line or the environment gives it, and from the folder of the configuration file where that gives it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from kdaudit.errors import ConfigError

CHECKPOINTS = frozenset(
    {"teacher", "student", "students", "reference", "teacher_reference", "student_references", "repeated"}
)
"""Parameters that name a folder or, without one of that name, a checkpoint of the Hub."""
RECORDS = frozenset({"members", "nonmembers", "train", "shots"})
"""Parameters that name a file or, behind hub:, a data set of the Hub."""
PATHS = frozenset(
    {"out", "manifest", "manifest_out", "key_file", "student_config", "teacher_cache", "runs", "template", "baseline"}
    | {"model_card"}
)

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([^}]*)\})")
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@\S+)?")

Value = TypeVar("Value")


def with_paths(command: Callable[..., None]) -> Callable[..., None]:
    """A command that is called with every path expanded.

    Raises:
        ConfigError: by the command: a path names a variable that is not set, or a user that does not exist.
    """

    @wraps(command)
    def run(**given: Any) -> None:
        names = CHECKPOINTS | RECORDS | PATHS
        command(**{name: _each(value, name, _expanded) if name in names else value for name, value in given.items()})

    return run


def seen_from(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a configuration file in `folder`, their relative paths joined to it.

    Raises:
        ConfigError: a path names a variable that is not set, or a user that does not exist.
    """

    def placed(text: str, name: str) -> str:
        text = _expanded(text, name)
        is_elsewhere = name in RECORDS and text.startswith("hub:")
        is_id = name in CHECKPOINTS and _HUB_ID.fullmatch(text) and not (folder / text).is_dir()
        return text if is_elsewhere or is_id or not text.strip() else str(folder / text)

    names = CHECKPOINTS | RECORDS | PATHS
    return {name: _each(value, name, placed) if name in names else value for name, value in settings.items()}


def expanded(path: Path, option: str) -> Path:
    """A path with its `~` and variables expanded.

    Raises:
        ConfigError: it names a variable that is not set, or a user that does not exist.
    """
    return Path(_replaced(str(path), option))


def _each(value: Value, name: str, change: Callable[[str, str], str]) -> Value | Any:
    """A text, a path, or every one of a list of them, changed; None stays."""
    if isinstance(value, list | tuple):
        return type(value)(_each(one, name, change) for one in value)
    if isinstance(value, Path):
        return Path(change(str(value), name))
    return change(value, name) if isinstance(value, str) else value


def _expanded(text: str, name: str) -> str:
    return text if name in RECORDS and text.startswith("hub:") else _replaced(text, _option(name))


def _replaced(text: str, option: str) -> str:
    if not text.startswith("~/") and ("$" in text or text.startswith("~")) and os.path.lexists(text):
        return text  # a file may be called so
    for match in _VARIABLE.finditer(text):
        if (name := match[1] or match[2]) not in os.environ:
            raise ConfigError(f"{option}: {text} names the variable {name}, which is not set", hint="set or replace it")
    text = os.path.expandvars(text)
    home = os.path.expanduser(text)
    if text.startswith("~") and home == text:
        raise ConfigError(f"{option}: {text} begins with a user who does not exist here", hint=f"write ./{text}")
    return home


def _option(name: str) -> str:
    """What a user calls a parameter."""
    import click

    context = click.get_current_context(silent=True)
    found = [one for one in (context.command.params if context else ()) if one.name == name]
    is_option = bool(found) and isinstance(found[0], click.Option)
    return found[0].opts[0] if is_option else f"--{name.replace('_', '-')}" if not found else name.upper()
