"""What an option is: one declaration, from which its configuration, command line, environment and file key come.

A field of a frozen dataclass is an option where its type is `Annotated[TYPE, Option("help", ...)]`. The field gives the
name, the type and the default; `Option` gives the rest. `kdaudit.cli.command` makes a command line of the fields, and
`kdaudit.config_file` reads a configuration file by them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from kdaudit.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([^}]*)\})")
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@\S+)?")


@dataclass(frozen=True, slots=True)
class Option:
    """What a field does not say about itself."""

    help: str
    panel: str | None = None
    """The heading in the help under which the option stands."""
    flag: str | None = None
    """As typed, with a short form behind a space, or what turns it off behind a slash. None: the name with dashes."""
    key: str | None = None
    """The name in a configuration file and, in capitals behind the command's prefix, in the environment. None: the
    field's name."""
    variable: str | None = None
    """The environment variable, where commands share one."""
    in_file: bool = True
    """Whether a configuration file may hold it."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    names: Literal["checkpoint", "records", "template"] | None = None
    """What a text names. A relative one in a configuration file is seen from the file's folder, as a path is."""
    separator: str | None = None
    """What stands between several values in the environment variable. None: a space."""
    typed: type | None = None
    """The type on the command line, where it is another than the field's."""
    parse: Callable[[Any], Any] | None = None
    """Makes the field's value of what was typed."""
    at_once: Callable[..., Any] | None = None
    """Called with the value before any other option is looked at."""
    is_argument: bool = False
    metavar: str | None = None
    shows_default: bool = True


@dataclass(frozen=True, slots=True)
class Declared:
    """An option with what its field says."""

    field: str
    item: Any
    """One value's type: `int` of `int | None`, `Path` of `tuple[Path, ...]`."""
    is_many: bool
    """Whether the field is a tuple and the option can be repeated."""
    is_optional: bool
    default: Any
    """MISSING where the option is needed."""
    option: Option

    @property
    def name(self) -> str:
        """In a configuration file, and in the environment behind the command's prefix."""
        return self.option.key or self.field

    @property
    def flag(self) -> str:
        """What a user calls it."""
        if self.option.is_argument:
            return self.option.metavar or self.field.upper()
        return self.flags[0].split("/")[0]

    @property
    def flags(self) -> list[str]:
        """All that may be typed for it; a slash stands before what turns it off."""
        return (self.option.flag or flag_of(self.name)).split()

    @property
    def kind(self) -> type:
        """The type of its value in a configuration file."""
        kind: type = list if self.is_many else str if self.item is Path else self.item
        return kind

    def problem(self, value: object) -> str | None:
        """What is wrong with one value, if anything."""
        option = self.option
        if isinstance(value, str):
            if option.choices:
                return None if value in option.choices else f"'{value}' is none of {', '.join(option.choices)}"
            return None if value.strip() else "an empty value was given; is a variable unset?"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        shown = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
        if isinstance(value, float) and not math.isfinite(value):
            return f"{shown} is not a finite number"
        low, high = (
            option.above if option.least is None else option.least,
            option.below if option.most is None else option.most,
        )
        is_low = low is not None and (value < low or (value == low and option.least is None))
        is_high = high is not None and (value > high or (value == high and option.most is None))
        if not is_low and not is_high:
            return None
        if low is not None and high is not None:
            return f"{shown} lies outside {low:g} to {high:g}"
        if is_high:
            return f"{shown} is too large, the most is {high:g}"
        return (
            f"{shown} is not above {low:g}" if option.least is None else f"{shown} is too small, the least is {low:g}"
        )

    def expanded(self, value: Any) -> Any:
        """A value as typed, with `~` and variables expanded where it is a path.

        Raises:
            ConfigError: it names a variable that is not set, or a user who does not exist.
        """
        return self._each(value, self._expanded)

    def seen_from(self, folder: Path, value: Any) -> Any:
        """A value of a configuration file in `folder`: expanded, and joined to the folder where it is a relative path.

        Raises:
            ConfigError: it names a variable that is not set, or a user who does not exist.
        """

        def placed(text: str) -> str:
            text = self._expanded(text)
            names = self.option.names
            is_elsewhere = names == "records" and (text.startswith("hub:") or text == "-")
            is_elsewhere = is_elsewhere or (names == "template" and text in {"own", "teacher", "student"})
            is_id = names == "checkpoint" and _HUB_ID.fullmatch(text) and not (folder / text).is_dir()
            return text if is_elsewhere or is_id or not text.strip() else str(folder / text)

        return self._each(value, placed)

    def _each(self, value: Any, change: Callable[[str], str]) -> Any:
        if self.item is not Path and self.option.names is None:
            return value
        if isinstance(value, list | tuple):
            return type(value)(self._each(one, change) for one in value)
        if isinstance(value, Path):
            return Path(change(str(value)))
        return change(value) if isinstance(value, str) else value

    def _expanded(self, text: str) -> str:
        return text if self.option.names == "records" and text.startswith("hub:") else expand(text, self.flag)


@cache
def options_of(config: Callable[..., Any]) -> tuple[Declared, ...]:
    """The options among the fields of a dataclass, in the order in which the help lists them."""
    hints = get_type_hints(config, include_extras=True)
    return tuple(
        _declared(field.name, *get_args(hints[field.name]), default=field.default)
        for field in fields(config)  # type: ignore[arg-type]
        if get_origin(hints[field.name]) is Annotated
    )


def problems_of(config: Any) -> Iterator[str]:
    """What each option's own declaration refuses in a configuration, one line for each problem."""
    kind: Callable[..., Any] = type(config)
    for declared in options_of(kind):
        value = getattr(config, declared.field)
        found = [declared.problem(one) for one in (value if isinstance(value, tuple) else (value,))]
        yield from (f"{declared.flag}: {problem}" for problem in dict.fromkeys(found) if problem)


def refuse(problems: Iterable[str], command: str) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        ConfigError: it lists every problem, each in a line of its own.
    """
    if lines := [*problems]:
        raise ConfigError("\n".join(lines), hint=f"kdaudit {command} --help lists the options")


def flag_of(field: str) -> str:
    """The option of a field that does not say otherwise."""
    return f"--{field.replace('_', '-')}"


def expand(text: str, flag: str) -> str:
    """A path with its `~` and variables expanded, unless a file is called exactly so.

    Raises:
        ConfigError: it names a variable that is not set, or a user who does not exist.
    """
    if not text.startswith("~/") and ("$" in text or text.startswith("~")) and os.path.lexists(text):
        return text
    for match in _VARIABLE.finditer(text):
        if (name := match[1] or match[2]) not in os.environ:
            raise ConfigError(f"{flag}: {text} names the variable {name}, which is not set", hint="set or replace it")
    text = os.path.expandvars(text)
    home = os.path.expanduser(text)
    if text.startswith("~") and home == text:
        raise ConfigError(f"{flag}: {text} begins with a user who does not exist here", hint=f"write ./{text}")
    return home


def split_at_commas(given: Sequence[str]) -> tuple[str, ...]:
    """Every value once: `--format html,md --format json` is three."""
    return tuple(dict.fromkeys(name.strip() for joined in given for name in joined.split(",")))


def split_gates(given: Sequence[str]) -> tuple[str, ...]:
    """Every gate once; a comma before a digit stays, so that a limit of 0,60 is refused as one."""
    return tuple(dict.fromkeys(gate.strip() for joined in given for gate in re.split(r",(?!\s*\d)", joined)))


def strip_each(given: Sequence[str]) -> tuple[str, ...]:
    """Every value without the spaces around it: values in an environment variable have some."""
    return tuple(text.strip() for text in given)


def _declared(name: str, kind: Any, option: Option, *, default: Any) -> Declared:
    is_many = get_origin(kind) is tuple and option.typed is None
    parts = [part for part in get_args(kind) if part is not NoneType]
    item = option.typed or (parts[0] if parts else kind)
    if is_many:
        item = next(iter(part for part in get_args(item) if part is not NoneType), item)
    return Declared(name, item, is_many, NoneType in get_args(kind) or is_many, default, option)
