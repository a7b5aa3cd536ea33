"""`kdaudit attack`: measure how much a teacher and its students leak."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from kdaudit.cli import output
from kdaudit.cli.settings import ConfigFile, gates_from, note_on_gates
from kdaudit.config import AuditConfig
from kdaudit.errors import ExitCode

MODELS = "Models"
DATA = "Records"
MEASURE = "Attacks and gates"
COMPUTE = "Computation"
"""Panels of the help."""


def list_attacks(wanted: bool) -> None:
    """Print the table of attacks and exit."""
    if wanted:
        from kdaudit.attacks import ATTACKS, GROUPS

        output.print_attacks(ATTACKS, GROUPS)
        raise typer.Exit


def attack(
    context: typer.Context,
    teacher: Annotated[
        str,
        typer.Option(
            help="The teacher: a checkpoint folder or a Hub id, or an adapter in either form. @revision pins a commit.",
            rich_help_panel=MODELS,
        ),
    ],
    students: Annotated[
        list[str],
        typer.Option(
            "--student",
            help="A student that was distilled from the teacher. Repeat it for several: they are called student, "
            "student-2, …",
            rich_help_panel=MODELS,
        ),
    ],
    members: Annotated[
        str | None,
        typer.Option(
            help="Texts that were in the training data, as .jsonl, .csv, .txt, .parquet or "
            "hub:NAME[:CONFIG]:SPLIT. Default: the records that the manifest of a distilled student names.",
            rich_help_panel=DATA,
        ),
    ] = None,
    nonmembers: Annotated[
        str | None,
        typer.Option(
            help="Texts of the same kind that were not in the training data, in any of the same forms.",
            rich_help_panel=DATA,
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="The training file of a distilled student. Needed where the file has moved since the manifest "
            "was written.",
            rich_help_panel=DATA,
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="The manifest of the student. Default: kdaudit.json in its folder.", rich_help_panel=DATA),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="The key of the manifest's record ids. Default: the key beside the training file.",
            rich_help_panel=DATA,
        ),
    ] = None,
    text_field: Annotated[
        str, typer.Option(help="The field or column that holds the text.", rich_help_panel=DATA)
    ] = "text",
    id_field: Annotated[
        str,
        typer.Option(
            help="The field or column that holds the id. Where there is none, the id is a keyed hash of the text.",
            rich_help_panel=DATA,
        ),
    ] = "id",
    shots: Annotated[
        str | None,
        typer.Option(
            help="Non-member texts that prefix attacks put before a text. Default: some of --nonmembers, which "
            "are then left out of the audit.",
            rich_help_panel=DATA,
        ),
    ] = None,
    n_shots: Annotated[
        int, typer.Option(help="How many shots prefix attacks put before a text.", rich_help_panel=MEASURE)
    ] = 12,
    reference: Annotated[
        str | None,
        typer.Option(
            help="A reference model for the teacher and for every student that has no reference of its own.",
            rich_help_panel=MODELS,
        ),
    ] = None,
    teacher_reference: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint that the teacher started from, before it saw the members.", rich_help_panel=MODELS
        ),
    ] = None,
    student_references: Annotated[
        list[str] | None,
        typer.Option(
            "--student-reference",
            help="The checkpoint that the student started from. Give one for all students, or one for each --student.",
            rich_help_panel=MODELS,
        ),
    ] = None,
    attacks: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            help="An attack, or a group of attacks (paper, all). Repeatable. Default: paper.",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    gates: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            help="A limit such as 'student.auc <= 0.60' or 'difference.auc <= 0.02'. Repeatable.",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The run folder. The same command continues an unfinished run in it.")
    ] = Path("kdaudit-run"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run in the folder.")] = False,
    seed: Annotated[int, typer.Option(help="The seed of every random draw.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(help="The largest number of records of each class. The seed draws them.", rich_help_panel=DATA),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="The number of tokens after which a text is cut. Default: the smallest context of the models.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    calibration_share: Annotated[
        float,
        typer.Option(
            help="The share of each class that fits thresholds. These records do not measure the thresholds.",
            rich_help_panel=MEASURE,
        ),
    ] = 0.3,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            help="The number of tokens in one forward pass. Default: 4096 on a CPU, 16384 elsewhere.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="The device: auto, cuda, cuda:N, mps or cpu.", rich_help_panel=COMPUTE)
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="The precision: auto, float32, bfloat16 or float16. auto is float32 on a CPU, and the "
            "checkpoint's own elsewhere.",
            rich_help_panel=COMPUTE,
        ),
    ] = "auto",
    teacher_load: Annotated[
        str | None, typer.Option(help="Quantise the teacher with bitsandbytes: 4bit or 8bit.", rich_help_panel=MODELS)
    ] = None,
    student_load: Annotated[
        str | None, typer.Option(help="Quantise the students with bitsandbytes: 4bit or 8bit.", rich_help_panel=MODELS)
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle",
            help="Read pickled weights, which can run code. Default: read safetensors only.",
            rich_help_panel=MODELS,
        ),
    ] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Run the modelling code that a checkpoint brings.", rich_help_panel=MODELS
        ),
    ] = False,
    paper_compat: Annotated[
        bool,
        typer.Option(
            "--paper-compat",
            help="Add the paper's in-sample figures to results.json. No gate reads them.",
            rich_help_panel=MEASURE,
        ),
    ] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 where the code would be 1 or 3.", rich_help_panel=MEASURE)
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", envvar="KDAUDIT_JSON", help="Print results.json to stdout.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the result alone, without plan and progress.")
    ] = False,
    config_file: ConfigFile = None,
    list_all: Annotated[
        bool,
        typer.Option(
            "--list-attacks", help="Print every attack with its needs, and exit.", is_eager=True, callback=list_attacks
        ),
    ] = False,
) -> None:
    """Attack a teacher and its students, and measure how much each one leaks.

    Exit codes: 0 passed or nothing gated, 1 a gate failed, 2 usage or input wrong, 3 inconclusive, 4 anything else.
    """
    config = AuditConfig(
        teacher=teacher,
        students=tuple(students),
        members=members,
        nonmembers=nonmembers,
        train=train,
        manifest=manifest,
        key_file=key_file,
        shots=shots,
        text_field=text_field,
        id_field=id_field,
        teacher_reference=teacher_reference or reference,
        student_references=tuple(student_references or ()) or ((reference,) if reference else ()),
        attacks=tuple(attacks or ()),
        out=out,
        gates=gates_from(context, gates),
        seed=seed,
        max_tokens=max_tokens,
        limit=limit,
        batch_tokens=batch_tokens,
        device=device,
        dtype=dtype,
        n_shots=n_shots,
        calibration_share=calibration_share,
        teacher_load=teacher_load,
        student_load=student_load,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        paper_compat=paper_compat,
        overwrite=overwrite,
    )
    from kdaudit.cli.audit import audit_with_progress  # loads torch: not at the top, so --help stays light
    from kdaudit.verdict import exit_code

    result = audit_with_progress(config, command=shlex.join(["kdaudit", *sys.argv[1:]]), is_quiet=quiet or json_output)
    gates_note = note_on_gates(context, config_file)
    if json_output:
        output.print_json(config.out)
        if gates_note:
            output.note(gates_note)
    else:
        output.print_result(result, config.out, is_quiet=quiet, gates_note=gates_note)
    if result.verdict.gates and (context.default_map or {}).get("waivers"):
        output.note(f"the waivers of {config_file} count in `kdaudit report`, not here")
    code = exit_code(result.verdict, exit_zero=exit_zero)
    if code is not ExitCode.PASSED:
        raise typer.Exit(int(code))
