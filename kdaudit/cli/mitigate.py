"""`kdaudit mitigate`: lower the leak, and show whether that is more than learning less."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from kdaudit.cli import output
from kdaudit.cli.command import Command, ConfigFile, Given, Quiet
from kdaudit.cli.places import check_places
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError, ExitCode
from kdaudit.foreign import reading
from kdaudit.mitigate import METHODS
from kdaudit.mitigate.settings import MitigateConfig
from kdaudit.options import Declared, Option, options_of

if TYPE_CHECKING:
    from kdaudit.manifest import Manifest
    from kdaudit.mitigate.run import MitigationPlan


def list_methods(wanted: bool) -> None:
    """Print the table of methods and exit."""
    if wanted:
        output.print_methods(METHODS)
        raise typer.Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class MitigateSwitches:
    """What the command does with its folder, prints and ends with."""

    overwrite: Annotated[bool, Option("Remove what an earlier comparison left in OUT, and start over.")] = False
    exit_zero: Annotated[bool, Option("Exit with 0 where the code would be 1.", variable="KDAUDIT_EXIT_ZERO")] = False
    config_file: ConfigFile = None
    quiet: Quiet = False
    list_all: Annotated[bool, Option("Print every method, and exit.", flag="--list-methods", at_once=list_methods)] = (
        False
    )


OWN = {"out", "overwrite", "resume", "manifest_out", "keep_epochs"}
"""Options of `distill` that a comparison of many students has itself, or cannot have."""
DISTILLATION = tuple(one for one in options_of(DistillConfig) if one.name not in OWN)
STRENGTHS = tuple(declared for method in METHODS.values() for declared in method.declared)
IN_FILE = {"gates", "set", "exit_zero"}
"""All that this command takes from a configuration file."""


def mitigate(given: Given) -> None:
    """Distil a student in several ways, attack all on the same records, and compare them at equal usefulness.

    A student that learns less leaks less. So every way is compared with plain students that are no more useful.
    It helps, moves the risk from some members to others, or is undertrained; or there is no evidence.
    The options on models, data and training are those of distill.

    Exit codes: 0 done, or some arm passes every gate; 1 none passes; 2 usage or input wrong; 3 too few records for a
    method; 4 anything else.
    """
    shown = given.build(MitigateSwitches)
    plain, manifest = _plain_run(given)
    config = given.build(MitigateConfig, distill=plain, strengths=given.to(STRENGTHS), repeats=manifest)
    check_places(plain)
    check_places(config)
    from kdaudit.cli.course import mitigation_work
    from kdaudit.cli.progress import StageBars, hush_libraries  # loads torch: not at the top, so --help stays light

    hush_libraries()  # before the trainer's libraries are loaded, which have advice to give
    from kdaudit.mitigate.run import FILE_NAME, Listener, run_mitigation

    with StageBars(is_shown=not shown.quiet) as bars:

        def begin(plan: MitigationPlan) -> None:
            if not shown.quiet:
                output.print_mitigation_plan(plan)
            bars.expect(mitigation_work(plan))

        try:
            listener = Listener(on_plan=begin, on_progress=bars.update)
            table = run_mitigation(config, command=given.line, overwrite=shown.overwrite, listener=listener)
        except KeyboardInterrupt:
            output.note(f"interrupted; the same command continues from what is in {config.out}")
            raise
    output.print_mitigation(table, [config.out / FILE_NAME], notes=given.notes_on_arms(is_gated=bool(config.gates)))
    if not shown.quiet:
        output.note(f"kdaudit report {config.out} draws it")
    if table.is_failed and not shown.exit_zero:
        raise typer.Exit(int(ExitCode.GATE_FAILED))


def _plain_run(given: Given) -> tuple[DistillConfig, Manifest | None]:
    """The plain student's configuration, and the manifest that it was taken from."""
    out = given.values["out"]
    if (repeated := given.values.get("repeated")) is None:
        if lacking := [name for name in ("teacher", "train") if name not in given.values]:
            raise ConfigError(
                f"--{lacking[0]} is needed, or --from", hint="--from STUDENT takes everything from its manifest"
            )
        return DistillConfig(**given.to(DISTILLATION), out=out), None
    from kdaudit.mitigate.recipe import manifest_of, settings_of

    chosen = given.to(one for one in DISTILLATION if given.is_chosen(one.name))
    manifest = manifest_of(repeated)
    with reading(f"--from: {manifest.path} cannot be repeated", ConfigError):
        return DistillConfig(**settings_of(manifest, {**chosen, "out": out})), manifest


def _offered(one: Declared) -> Declared:
    """An option as this command has it."""
    return replace(one, option=replace(one.option, in_file=one.name in IN_FILE))


COMMAND = Command(
    "mitigate",
    mitigate,
    tuple(
        _offered(one)
        for one in (
            *(options_of(MitigateConfig) + STRENGTHS + options_of(MitigateSwitches)),
            *(replace(one, default=None, is_optional=True) if one.default is MISSING else one for one in DISTILLATION),
        )
    ),
    variables="KDAUDIT_MITIGATE",
    example="kdaudit mitigate --from STUDENT --method all --seeds 3 --out OUT",
)
