"""The configuration file behind every command: which keys it may hold, and how they become an option's default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from kdaudit.cli.paths import expanded, seen_from
from kdaudit.config import find_config_file, read_config_file
from kdaudit.waivers import Waiver

KEYS: Mapping[str, Mapping[str, type]] = {
    "attack": {
        **dict.fromkeys(("teacher", "members", "nonmembers", "shots", "text_field", "id_field", "out"), str),
        **dict.fromkeys(("train", "manifest", "key_file"), str),
        **dict.fromkeys(("teacher_reference", "reference", "device", "dtype", "teacher_load", "student_load"), str),
        **dict.fromkeys(("students", "student_references", "attacks", "gates"), list),
        **dict.fromkeys(("seed", "max_tokens", "limit", "batch_tokens", "n_shots"), int),
        **dict.fromkeys(("trust_remote_code", "allow_pickle", "paper_compat"), bool),
        **dict.fromkeys(("exit_zero", "quiet", "json_output"), bool),
        "calibration_share": float,
        "waivers": Waiver,
    },
    "report": {
        **dict.fromkeys(("formats", "gates"), list),
        **dict.fromkeys(("template", "baseline", "model_card"), str),
        "tolerance": float,
        "waivers": Waiver,
        **dict.fromkeys(("model_index", "exit_zero"), bool),
    },
    "mitigate": {"gates": list, "exit_zero": bool, "waivers": Waiver},
}
"""By command and parameter name. One file serves all commands: each takes its own keys and leaves the others'."""


def load_config_file(context: typer.Context, path: Path | None) -> Path | None:
    """Make a configuration file the source of a command's defaults, below the environment and the command line."""
    found = expanded(path, "--config") if path else find_config_file(Path())
    if found is not None:
        known = {key: kind for keys in KEYS.values() for key, kind in keys.items()}
        own = KEYS[str(context.command.name)]
        settings = {key: value for key, value in read_config_file(found, known=known).items() if key in own}
        context.default_map = {**(context.default_map or {}), **seen_from(found.parent, settings)}
    return found


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A kdaudit.toml, or a pyproject.toml with a table tool.kdaudit. Default: the one in this folder.",
        envvar="KDAUDIT_CONFIG",
        is_eager=True,
        callback=load_config_file,
    ),
]
"""The option of every command that reads one."""


def gates_from(context: typer.Context, given: list[str] | None) -> tuple[str, ...]:
    """The gates; in an environment variable a semicolon stands between them, since they may hold spaces."""
    if source_of(context, "gates") == "ENVIRONMENT":
        given = os.environ["KDAUDIT_GATES"].rstrip("; \n").split(";")
    return tuple(gate.strip() for gate in given or ())


def note_on_gates(context: typer.Context, config_file: Path | None) -> str:
    """What to say where gates of the configuration file do not count."""
    in_file = (context.default_map or {}).get("gates")
    source = source_of(context, "gates")
    if not in_file or source not in {"COMMANDLINE", "ENVIRONMENT"}:
        return ""
    where = "the command line" if source == "COMMANDLINE" else "KDAUDIT_GATES"
    return f"the gates of {where} replace the {len(in_file)} of {config_file}"


def notes_on_arms(context: typer.Context, config_file: Path | None, *, is_gated: bool) -> list[str]:
    """What to say where gates or waivers of the configuration file do not count for a comparison of mitigations."""
    note = note_on_gates(context, config_file)
    is_waived = is_gated and bool((context.default_map or {}).get("waivers"))
    waivers = f"the waivers of {config_file} do not count here: an arm is recommended for passing its gates"
    return [*([note] if note else []), *([waivers] if is_waived else [])]


def source_of(context: typer.Context, name: str) -> str:
    """Where a parameter's value came from: COMMANDLINE, ENVIRONMENT, DEFAULT_MAP (the file) or DEFAULT."""
    source = context.get_parameter_source(name)
    return source.name if source is not None else ""
