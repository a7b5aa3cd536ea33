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
        typer.Option(help="Teacher: a checkpoint folder or Hub id, or either of an adapter; @revision pins a commit."),
    ],
    students: Annotated[
        list[str], typer.Option("--student", help="Student distilled from it; repeatable: student, student-2, …")
    ],
    members: Annotated[
        str | None,
        typer.Option(
            help="Texts that were in the training data: .jsonl, .csv, .txt, .parquet or hub:NAME[:CONFIG]:SPLIT. "
            "Default: what the manifest of a distilled student says."
        ),
    ] = None,
    nonmembers: Annotated[
        str | None, typer.Option(help="Texts like them that were not, in any of the same forms.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(help="Training file of a distilled student, where it is no longer where its manifest says."),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest of the student, where it is not kdaudit.json in its folder.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Key of the manifest's record ids, where it is not beside the training file.")
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    id_field: Annotated[
        str, typer.Option(help="Field or column of the id; without it a keyed hash of the text.")
    ] = "id",
    shots: Annotated[
        str | None, typer.Option(help="Non-member texts for prefix attacks; else drawn from --nonmembers and left out.")
    ] = None,
    n_shots: Annotated[int, typer.Option(help="Shots that prefix attacks put before a text.")] = 12,
    reference: Annotated[
        str | None, typer.Option(help="Reference of teacher and students alike, where none of its own is given.")
    ] = None,
    teacher_reference: Annotated[
        str | None, typer.Option(help="What the teacher started from, before it saw the members.")
    ] = None,
    student_references: Annotated[
        list[str] | None,
        typer.Option("--student-reference", help="What the student started from; one for all, or one per --student."),
    ] = None,
    attacks: Annotated[
        list[str] | None,
        typer.Option("--attack", help="Attack or group (paper, all); repeatable. Default: paper."),
    ] = None,
    gates: Annotated[
        list[str] | None,
        typer.Option("--gate", help="Limit such as 'student.auc <= 0.60', 'difference.auc <= 0.02'; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues what is in it.")] = Path(
        "kdaudit-run"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run in the folder.")] = False,
    seed: Annotated[int, typer.Option(help="Seeds every random draw.")] = 0,
    limit: Annotated[int | None, typer.Option(help="At most so many records per class, drawn by the seed.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Cut every text after so many tokens. Default: the smallest context.")
    ] = None,
    calibration_share: Annotated[
        float, typer.Option(help="Share of each class that fits thresholds and is not judged by them.")
    ] = 0.3,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens of one forward pass. Default: 4096 on a CPU, 16384 elsewhere.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, cuda:N, mps or cpu.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the checkpoints'.")
    ] = "auto",
    teacher_load: Annotated[str | None, typer.Option(help="4bit or 8bit: quantise the teacher (bitsandbytes).")] = None,
    student_load: Annotated[
        str | None, typer.Option(help="4bit or 8bit: quantise the students (bitsandbytes).")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights, which can run code; else safetensors only.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run modelling code that a checkpoint brings.")
    ] = False,
    paper_compat: Annotated[
        bool, typer.Option("--paper-compat", help="Add the paper's in-sample figures to results.json; never gated.")
    ] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 instead of 1 and 3.")] = False,
    json_output: Annotated[
        bool, typer.Option("--json", envvar="KDAUDIT_JSON", help="Print results.json to stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No plan, no progress, only the result.")] = False,
    config_file: ConfigFile = None,
    list_all: Annotated[
        bool,
        typer.Option(
            "--list-attacks", help="Print every attack with its needs and exit.", is_eager=True, callback=list_attacks
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
