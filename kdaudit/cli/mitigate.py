"""`kdaudit mitigate`: lower the leak, and show whether that is more than learning less."""

from __future__ import annotations

import shlex
import sys
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from kdaudit.cli import output
from kdaudit.cli.distill import distill
from kdaudit.cli.settings import ConfigFile, gates_from, notes_on_arms, source_of
from kdaudit.errors import ConfigError, ExitCode
from kdaudit.foreign import reading

if TYPE_CHECKING:
    from kdaudit.distill.settings import DistillConfig
    from kdaudit.manifest import Manifest

METHODS = "Methods"
OWN = {"out", "overwrite", "resume", "manifest_out", "keep_epochs", "quiet"}
"""Options of `distill` that a comparison of many students has itself, or cannot have."""


def list_methods(wanted: bool) -> None:
    """Print the table of methods and exit."""
    if wanted:
        from kdaudit.mitigate import METHODS

        output.print_methods(METHODS)
        raise typer.Exit


def mitigate(
    context: typer.Context,
    methods: Annotated[
        list[str],
        typer.Option(
            "--method",
            help="A way to distil. Repeatable, or joined by commas. all means every one that --list-methods prints.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The folder for every student and the table. The same command continues an unfinished comparison "
            "in it."
        ),
    ],
    repeated: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A student that `kdaudit distill` made. Every option that you do not give is taken from its manifest.",
        ),
    ] = None,
    gates: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            envvar="KDAUDIT_GATES",
            help="A limit such as 'student.auc <= 0.60' for every arm. The most useful arm that passes is recommended.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="How often every arm is trained. With one training, no arm can be found to help.")
    ] = 3,
    frontier_points: Annotated[
        int,
        typer.Option(
            help="The copies of the plain student that are kept in every epoch, at least 4. Arms are held against them."
        ),
    ] = 4,
    plain_epochs: Annotated[
        str | None,
        typer.Option(
            help="The epochs of further, shorter plain runs, joined by commas, such as 1,2,8. Arms are held "
            "against them too. Default: about a quarter, half and three quarters of --epochs."
        ),
    ] = None,
    vulnerability_attack: Annotated[
        str,
        typer.Option(help="The attack that says which members the teacher gives away.", rich_help_panel=METHODS),
    ] = "reference",
    teacher_reference: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint that the teacher started from. Default: the student's start, where it never saw "
            "the members.",
            rich_help_panel=METHODS,
        ),
    ] = None,
    bottleneck: Annotated[
        float,
        typer.Option(
            help="The width of the bottleneck. A number below 1 is a share of the hidden size.", rich_help_panel=METHODS
        ),
    ] = 0.25,
    method_goldfish: Annotated[
        int,
        typer.Option(
            help="For the method goldfish: leave one token in this many out of the targets.", rich_help_panel=METHODS
        ),
    ] = 4,
    method_lora: Annotated[
        int, typer.Option(help="For the method lora: the rank of the adapter.", rich_help_panel=METHODS)
    ] = 8,
    method_label_smoothing: Annotated[
        float,
        typer.Option(
            help="For the method label-smoothing: the share that is spread over all words.", rich_help_panel=METHODS
        ),
    ] = 0.1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove what an earlier comparison left in OUT, and start over.")
    ] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", envvar="KDAUDIT_EXIT_ZERO", help="Exit with 0 where the code would be 1.")
    ] = False,
    config_file: ConfigFile = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the result alone, without plan and progress.")
    ] = False,
    list_all: Annotated[
        bool,
        typer.Option("--list-methods", help="Print every method, and exit.", is_eager=True, callback=list_methods),
    ] = False,
    **distillation: Any,
) -> None:
    """Distil a student in several ways, attack all on the same records, and compare them at equal usefulness.

    A student that learns less leaks less. So every way is held against plain checkpoints that are no more useful on
    held-out records, for groups of members apart: helps, moves the risk, undertrained, or no evidence. All training and
    data options are those of distill.

    Exit codes: 0 done, or some arm passes every gate; 1 none passes; 2 usage or input wrong; 3 too few records for a
    method; 4 anything else.
    """
    from kdaudit.mitigate.base import Strength
    from kdaudit.mitigate.settings import MitigateConfig

    plain, found = _plain_run(context, repeated, {**distillation, "out": out})
    config = MitigateConfig(
        distill=plain,
        out=out,
        methods=tuple(name.strip() for given in methods for name in given.split(",")),
        strength=Strength(
            bottleneck=bottleneck,
            goldfish=method_goldfish,
            lora=method_lora,
            label_smoothing=method_label_smoothing,
        ),
        seeds=seeds,
        frontier_points=frontier_points,
        plain_epochs=None if plain_epochs is None else _whole_numbers(plain_epochs),
        gates=gates_from(context, gates),
        vulnerability_attack=vulnerability_attack,
        teacher_reference=teacher_reference,
        repeats=found,
    )
    from kdaudit.cli.audit import hush_libraries  # loads torch: not at the top, so --help stays light
    from kdaudit.cli.progress import StageBars

    hush_libraries()  # before the trainer's libraries are loaded, which have advice to give
    from kdaudit.mitigate.run import FILE_NAME, Listener, run_mitigation

    command = shlex.join(["kdaudit", *sys.argv[1:]])
    with StageBars(is_shown=not quiet) as bars:
        listener = Listener(
            on_plan=lambda plan: None if quiet else output.print_mitigation_plan(plan), on_progress=bars.update
        )
        try:
            table = run_mitigation(config, command=command, overwrite=overwrite, listener=listener)
        except KeyboardInterrupt:
            output.note(f"interrupted; the same command continues from what is in {out}")
            raise
    output.print_mitigation(
        table, [out / FILE_NAME], notes=notes_on_arms(context, config_file, is_gated=bool(config.gates))
    )
    if not quiet:
        output.note(f"kdaudit report {out} draws it")
    if table.is_failed and not exit_zero:
        raise typer.Exit(int(ExitCode.GATE_FAILED))


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--plain-epochs: '{text}' is not a list of whole numbers", hint="join them by commas: --plain-epochs 1,2,8"
        ) from error


def _plain_run(
    context: typer.Context, repeated: str | None, options: dict[str, Any]
) -> tuple[DistillConfig, Manifest | None]:
    """The plain student's configuration, and the manifest that it was taken from."""
    from kdaudit.distill.settings import DistillConfig

    if repeated is None:
        if lacking := [name for name in ("teacher", "train") if options[name] is None]:
            raise ConfigError(
                f"--{lacking[0]} is needed, or --from", hint="--from STUDENT takes everything from its manifest"
            )
        return DistillConfig(**options), None
    from kdaudit.mitigate.recipe import manifest_of, settings_of

    given = {name: value for name, value in options.items() if source_of(context, name) not in {"DEFAULT", ""}}
    found = manifest_of(repeated)
    with reading(f"--from: {found.path} cannot be repeated", ConfigError):
        return DistillConfig(**settings_of(found, given)), found


def _with_options_of_distill() -> Signature:
    """The options above and those of distill, declared once: typer reads a command's options from its signature."""
    hints = get_type_hints(mitigate, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in signature(mitigate).parameters.items()
        if parameter.kind is not Parameter.VAR_KEYWORD
    ]
    hints = get_type_hints(distill, include_extras=True)
    shared = [
        parameter.replace(
            kind=Parameter.KEYWORD_ONLY,
            annotation=hints[name],
            default=None if parameter.default is Parameter.empty else parameter.default,
        )
        for name, parameter in signature(distill).parameters.items()
        if name not in OWN
    ]
    return Signature([*own, *shared])


mitigate.__signature__ = _with_options_of_distill()  # type: ignore[attr-defined]
