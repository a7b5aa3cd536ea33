"""A command made of declared options: what stands in the help, what may be typed, and what reaches the command."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from inspect import Parameter, Signature
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from kdaudit.config_file import WAIVERS, find_config_file, read_config_file
from kdaudit.errors import ConfigError
from kdaudit.options import Declared, Option, expand, options_of, split_gates
from kdaudit.ranks import refuse_several

Built = TypeVar("Built")

CONFIG_FILE = "config_file"
"""The field of the option --config, in every command that reads a configuration file."""
ConfigFile = Annotated[
    Path | None,
    Option(
        "A kdaudit.toml, or a pyproject.toml with a table tool.kdaudit. Default: the one in this folder.",
        flag="--config",
        variable="KDAUDIT_CONFIG",
        in_file=False,
    ),
]
Quiet = Annotated[bool, Option("Print the result alone, without plan and progress.", flag="--quiet -q")]


@dataclass(frozen=True, slots=True)
class Given:
    """What a command was given, by the names of its options."""

    values: Mapping[str, Any]
    """An option that was not given and has no default is not among them."""
    sources: Mapping[str, str]
    """Where each value comes from: COMMANDLINE, ENVIRONMENT, DEFAULT_MAP (the file) or DEFAULT."""
    in_file: Mapping[str, Any]
    """What the configuration file says to this command."""

    def build(self, config: Callable[..., Built], **more: Any) -> Built:
        """A configuration of what was given, and of values that do not come from options."""
        return config(**self.to(options_of(config)), **more)

    def to(self, options: Iterable[Declared]) -> dict[str, Any]:
        """The values of some options by field: what their dataclass is built with."""
        return {one.field: self.values[one.name] for one in options if one.name in self.values}

    def is_chosen(self, name: str) -> bool:
        """Whether the value is more than the default."""
        return self.sources.get(name, "DEFAULT") != "DEFAULT"

    @property
    def line(self) -> str:
        """The command as typed, for the manifests."""
        return shlex.join(["kdaudit", *sys.argv[1:]])

    @property
    def config_file(self) -> Path | None:
        """The configuration file that applies."""
        return self.values.get(CONFIG_FILE)

    def note_on_gates(self) -> str:
        """What to say where gates of the configuration file do not count."""
        where = {"COMMANDLINE": "the command line", "ENVIRONMENT": "KDAUDIT_GATES"}.get(self.sources["gates"])
        if not self.in_file.get("gates") or where is None:
            return ""
        return f"the gates of {where} replace the {len(split_gates(self.in_file['gates']))} of {self.config_file}"

    def notes_on_arms(self, *, is_gated: bool) -> list[str]:
        """What to say where gates or waivers of the file do not count for a comparison of mitigations."""
        notes = [self.note_on_gates()]
        if is_gated and self.in_file.get(WAIVERS):
            notes.append(f"the waivers of {self.config_file} do not count here: only an arm that passes is recommended")
        return [note for note in notes if note]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the program."""

    name: str
    run: Callable[[Given], None]
    """Its docstring is the text of the help."""
    options: Sequence[Declared]
    variables: str
    """What its environment variables begin with."""
    example: str
    """Shown at the end of the help."""
    may_be_several: bool = False
    """Whether several processes of a launcher may run it: they divide its work, or it writes nothing."""

    def variable(self, one: Declared) -> str:
        """The environment variable of an option."""
        return one.option.variable or f"{self.variables}_{one.name.upper()}"

    @property
    def reads_file(self) -> bool:
        """Whether a configuration file may hold its options."""
        return any(one.name == CONFIG_FILE for one in self.options)


def add(app: typer.Typer, command: Command, *, known: Iterable[Declared]) -> None:
    """Give the program a command.

    Args:
        app: the program.
        command: whose options are the fields of one or more dataclasses.
        known: what a configuration file may hold for any command. Each takes its own keys and leaves the others.
    """

    def load(context: typer.Context, path: Path | None) -> Path | None:
        found = Path(expand(str(path), "--config")) if path else find_config_file(Path())
        if found is not None:
            in_file = read_config_file(found, known=known)
            own = {one.name: one for one in command.options if one.option.in_file}
            settings = {name: own[name].seen_from(found.parent, in_file[name]) for name in own if name in in_file}
            waivers = {WAIVERS: in_file[WAIVERS]} if WAIVERS in in_file else {}
            context.default_map = {**(context.default_map or {}), **settings, **waivers}
        return found

    def function(context: typer.Context, **typed: Any) -> None:
        if not command.may_be_several:
            refuse_several(command.name)
        command.run(_given(context, command, typed))

    parameters = [_parameter(one, load if one.name == CONFIG_FILE else one.option.at_once) for one in command.options]
    context = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    function.__signature__ = Signature([context, *parameters])  # type: ignore[attr-defined]
    function.__doc__ = command.run.__doc__
    app.command(
        name=command.name,
        cls=_OnceEach,
        epilog=f"Example: {command.example}",
        context_settings={"auto_envvar_prefix": command.variables},
    )(function)


class _OnceEach(TyperCommand):
    """A command that refuses an option that is given twice and cannot be repeated: otherwise the last would count."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, rest, order = self.make_parser(ctx).parse_args(list(args))
        if rest and os.path.exists(rest[0]) and not any(one.param_type_name == "argument" for one in self.params):
            hint = "quote a pattern, so that the shell leaves it as it is: --members 'shards/*.jsonl'"
            raise ConfigError(f"{rest[0]}: stands behind no option", hint=hint)
        counts = Counter(one for one in order if not one.multiple and one.name != "help")
        if twice := [f"{one.opts[0]}: given {n} times, but it has one value" for one, n in counts.items() if n > 1]:
            hint = f"give it once; kdaudit {self.name} --help says what can be repeated"
            raise ConfigError("\n".join(twice), hint=hint)
        return super().parse_args(ctx, args)


def _parameter(declared: Declared, callback: Callable[..., Any] | None) -> Parameter:
    """What typer reads an option from."""
    option, default, kind = declared.option, declared.default, declared.item
    if declared.is_many:
        kind = GenericAlias(list, (kind,))
        default = default if default is MISSING else None
    elif option.typed is not None and default is not None:
        default = option.typed(default)
    about: dict[str, Any] = {
        "help": option.help,
        "rich_help_panel": option.panel,
        "metavar": option.metavar,
        "show_default": option.shows_default,
        "envvar": option.variable,
        "callback": callback,
        "is_eager": callback is not None,
    }
    start = ... if default is MISSING else default
    made = typer.Argument(start, **about) if option.is_argument else typer.Option(start, *declared.flags, **about)
    annotation = kind | None if declared.is_optional and default is not MISSING else kind
    return Parameter(declared.name, Parameter.KEYWORD_ONLY, annotation=annotation, default=made)


def _given(context: typer.Context, command: Command, typed: Mapping[str, Any]) -> Given:
    """The values as their fields take them: expanded where they are paths, and parsed."""
    values, sources = {}, {}
    for one in command.options:
        source = context.get_parameter_source(one.name)
        sources[one.name] = source.name if source is not None else "DEFAULT"
        value, option = typed[one.name], one.option
        variable = os.environ.get(command.variable(one))
        is_lost = (
            variable == "" and sources[one.name] != "COMMANDLINE"
        )  # click takes an empty variable for an unset one
        if option.separator and variable is not None and (is_lost or sources[one.name] == "ENVIRONMENT"):
            value = variable.rstrip(f"{option.separator} \n").split(option.separator)
        if value is None or value == []:
            continue  # the field's own default holds
        value = one.expanded(value)
        value = option.parse(value) if option.parse else value
        values[one.name] = tuple(value) if one.is_many else value
    return Given(values, sources, context.default_map or {})
