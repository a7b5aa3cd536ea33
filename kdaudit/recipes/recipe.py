"""What the configuration of another trainer says of a student, in the words of `kdaudit distill`."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kdaudit.errors import ConfigError
from kdaudit.foreign import read_text, reading

MAX_CONFIG = 2**18
"""Bytes of a configuration: those of the trainers take a few thousand."""
MAX_DEPTH = 50
"""Brackets that may stand open in a YAML file: the time that PyYAML takes grows with their square."""
NOT_ALL = (
    "{config}: {name} is {value}, so the student may have been trained on a part of --train alone. A record that it "
    "never saw counts as a member then, and the audit finds less than there is: give by --train what was trained on"
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a student was trained, as far as a configuration tells; what it does not tell is absent."""

    trainer: str
    """With its tool: TRL GKDTrainer."""
    teacher: str | None
    start: str | None
    training: Mapping[str, Any]
    """By field of `kdaudit.distill.settings.DistillConfig`."""
    load: str | None = None
    """4bit or 8bit where an adapter was trained on quantised weights."""
    notes: tuple[str, ...] = ()
    """What the figures of an audit, or a repetition, depend on."""


@dataclass(frozen=True, slots=True)
class TrainerConfig:
    """The configuration of a trainer; a name with points leads into its sections."""

    path: Path
    content: Mapping[str, Any]

    def value(self, name: str) -> Any:
        """What stands under a name; None where nothing does."""
        found: Any = self.content
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def has(self, *names: str) -> bool:
        """Whether anything stands under one of the names."""
        return any(self.value(name) is not None for name in names)

    def number(self, name: str, default: float | None = None) -> float | None:
        """A finite number; PyYAML reads 5e-6 as a text, and trainers take it for a number all the same.

        Raises:
            ConfigError: something else stands there.
        """
        found = self.value(name)
        if found is None:
            return default
        try:
            number = math.nan if isinstance(found, bool) else float(found)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.problem(name, "a number")
        return number

    def count(self, name: str) -> int | None:
        """A whole number.

        Raises:
            ConfigError: something else stands there.
        """
        found = self.number(name)
        if found is not None and found != int(found):
            raise self.problem(name, "a whole number")
        return None if found is None else int(found)

    def text(self, name: str) -> str | None:
        """A text; None for an empty one.

        Raises:
            ConfigError: something else stands there.
        """
        found = self.value(name)
        if found is not None and not isinstance(found, str):
            raise self.problem(name, "a text")
        return (found or "").strip() or None

    def is_on(self, name: str) -> bool:
        """Whether a switch is on; trainers take 1 for on as well.

        Raises:
            ConfigError: it is something other than a switch.
        """
        found = self.value(name)
        if found is not None and found not in (True, False):  # 1 and 0 among them
            raise self.problem(name, "true or false")
        return bool(found)

    def problem(self, name: str, expected: str) -> ConfigError:
        """What to raise where something other than `expected` stands under a name."""
        return ConfigError(
            f"{self.path}: {name} is not {expected}", hint="give the configuration that the student was trained with"
        )

    def unknown(self, known: Iterable[str], *, sections: Iterable[str] = ()) -> list[str]:
        """Names that match none of the patterns `known`; what stands in one of `sections` counts by itself."""
        inside, patterns = set(sections), tuple(known)
        return [name for name in _names(self.content, inside) if not any(fnmatchcase(name, one) for one in patterns)]


def _names(content: Mapping[str, Any], sections: set[str]) -> Iterator[str]:
    for name, value in content.items():
        if name in sections and isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield str(name)


def read_config(path: Path) -> TrainerConfig:
    """The configuration in a YAML, JSON or TOML file.

    Raises:
        ConfigError: it cannot be read, is none of these, or is not an object.
    """
    hint = "give the YAML, JSON or TOML file that the trainer was started with"
    try:
        with reading(f"{path} cannot be read as a configuration", ConfigError, hint=hint):
            content = _parsed(path)
    except ConfigError as error:
        if isinstance(error.__cause__, OSError):
            raise ConfigError(f"{path}: cannot be read: {error.__cause__.strerror}", hint=hint) from error
        raise
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path} holds no settings by name", hint=hint)
    return TrainerConfig(path, content)


def _parsed(path: Path) -> object:
    text = read_text(path, at_most=MAX_CONFIG)
    if path.suffix == ".toml":
        return tomllib.loads(text)
    if path.suffix == ".json":
        parsed: object = json.loads(text)
        return parsed
    if _depth(text) > MAX_DEPTH:
        raise ValueError("its brackets are nested too deeply")
    import yaml  # not at the top, so --help stays light

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"line {line}: {error.problem or error.context}") from error


def _depth(text: str) -> int:
    """How many brackets are open at one time, those in quoted texts counted too."""
    depth = deepest = 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    return deepest


def whole(number: float | None) -> float | int | None:
    """3 for 3.0: trainers write counts as floats."""
    return int(number) if number is not None and number == int(number) else number


def told(**found: Any) -> dict[str, Any]:
    """What is told of a recipe: everything that is not None."""
    return {name: value for name, value in found.items() if value is not None}


def divergence(beta: float) -> dict[str, Any]:
    """The objective that a generalised Jensen-Shannon divergence is.

    Its ends are what it tends to: forward KL at 0, reverse KL at 1, as in `kdaudit.distill.losses.jsd`.
    """
    if beta in {0, 1}:
        return {"objective": "reverse-kl" if beta else "forward-kl"}
    return {"objective": "jsd", "beta": beta}


def share(hard: float, soft: float) -> float:
    """The weight w in w * cross-entropy + (1 - w) * T² * divergence, of weights that need not add up to 1."""
    return hard / (hard + soft)


def not_all(config: TrainerConfig, *names: str) -> list[str]:
    """Notes on limits that may have left records of the training file out."""
    limits = {name: config.number(name) for name in names}
    return [
        NOT_ALL.format(config=config.path, name=name, value=f"{limit:g}") for name, limit in limits.items()
        if limit is not None and limit > 0
    ]  # fmt: skip


def about_unknown(config: TrainerConfig, names: Iterable[str]) -> list[str]:
    """One note on all names that are not known here."""
    listed = ", ".join(names)
    return [f"{config.path}: these names are not known here, and nothing is taken from them: {listed}"] * bool(listed)
