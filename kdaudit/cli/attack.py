"""`kdaudit attack`: measure how much a teacher and its students, or one model alone, leak."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdaudit.cli import output
from kdaudit.cli.command import Command, ConfigFile, Given, Quiet
from kdaudit.cli.places import check_places
from kdaudit.config import MEASURE, AuditConfig
from kdaudit.config_file import WAIVERS
from kdaudit.errors import ConfigError, ExitCode
from kdaudit.options import Option, options_of, refuse

if TYPE_CHECKING:
    from kdaudit.audit.data import AuditData
    from kdaudit.audit.plan import Plan
    from kdaudit.results import AuditResult


def list_attacks(wanted: bool) -> None:
    """Print the table of attacks and exit."""
    if wanted:
        from kdaudit.attacks import ATTACKS, GROUPS

        output.print_attacks(ATTACKS, GROUPS)
        raise typer.Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackSwitches:
    """What the command prints and how it ends: options that change no number."""

    exit_zero: Annotated[bool, Option("Exit with 0 where the code would be 1 or 3.", MEASURE)] = False
    json_output: Annotated[bool, Option("Print results.json to stdout.", flag="--json", variable="KDAUDIT_JSON")] = (
        False
    )
    plan_only: Annotated[
        bool, Option("Print the plan and exit, before any model is loaded and any file is written.", in_file=False)
    ] = False
    quiet: Quiet = False
    config_file: ConfigFile = None
    list_all: Annotated[
        bool,
        Option(
            "Print every attack with its needs, and exit.", flag="--list-attacks", in_file=False, at_once=list_attacks
        ),
    ] = False

    def __post_init__(self) -> None:
        """Refuse to print results that nothing measures.

        Raises:
            ConfigError: naming both options.
        """
        is_both = self.plan_only and self.json_output
        refuse(["--plan-only: it measures nothing, so --json has no results to print"] if is_both else [], "attack")


def attack(given: Given) -> None:
    """Attack a teacher and its students, or one model alone (--model), and measure how much each one leaks.

    Exit codes: 0 passed or nothing gated, 1 a gate failed, 2 usage or input wrong, 3 inconclusive, 4 anything else.
    """
    config = given.build(AuditConfig)
    shown = given.build(AttackSwitches)
    from kdaudit.audit.request import read_request
    from kdaudit.models.devices import attends
    from kdaudit.verdict import exit_code

    read_request(config)  # a typo is said before torch is loaded, which takes seconds
    if attends(config):
        if not shown.plan_only:
            attend(config)
        return
    if shown.plan_only:
        print_plan(config)
        return
    result = audit_with_progress(config, command=given.line, is_quiet=shown.quiet or shown.json_output)
    gates_note = given.note_on_gates()
    if shown.json_output:
        output.print_json(config.out)
        if gates_note:
            output.note(gates_note)
    else:
        output.print_result(result, config.out, is_quiet=shown.quiet, gates_note=gates_note)
    if result.verdict.gates and given.in_file.get(WAIVERS):
        output.note(f"the waivers of {given.config_file} count in `kdaudit report`, not here")
    code = exit_code(result.verdict, exit_zero=shown.exit_zero)
    if code is not ExitCode.PASSED:
        raise typer.Exit(int(code))


def print_plan(config: AuditConfig) -> None:
    """Print what an audit would do, on stdout.

    Raises:
        KdauditError: something that was given cannot be used; or, after the plan, a model does not fit on the devices.
    """
    check_places(config)
    from kdaudit.audit.plan import SMALLER
    from kdaudit.audit.run import plan_run
    from kdaudit.cli.progress import hush_libraries

    hush_libraries()
    planned, _ = plan_run(config, only_plan=True)
    output.print_plan(planned.plan, planned.data, is_result=True)
    if planned.plan.not_held:
        raise ConfigError("\n".join(planned.plan.not_held.values()), hint=SMALLER)


def attend(config: AuditConfig) -> None:
    """Hold a part of every model while another process audits them; it says everything."""
    from kdaudit.audit.run import attend_audit
    from kdaudit.cli.progress import hush_libraries

    hush_libraries()
    attend_audit(config)


def audit_with_progress(config: AuditConfig, *, command: str, is_quiet: bool) -> AuditResult:
    """Run the audit, show its plan and progress on stderr, and write the Markdown summary beside its results."""
    check_places(config)
    from kdaudit.audit import run  # loads torch: not at the top, so --help stays light
    from kdaudit.cli.course import audit_work
    from kdaudit.cli.progress import StageBars, hush_libraries

    hush_libraries()
    with StageBars(is_shown=not is_quiet) as bars:

        def begin(plan: Plan, data: AuditData) -> None:
            if not is_quiet:
                output.print_plan(plan, data)
            bars.expect(audit_work(plan))

        try:
            return run.run_audit(
                config,
                command=command,
                on_plan=begin,
                on_progress=bars.update,
                on_result=lambda result: write_summary(result, config.out),
            )
        except KeyboardInterrupt:
            output.note(f"interrupted; the same command continues from what is in {config.out}")
            raise


def write_summary(result: AuditResult, out: Path) -> None:
    """Write the Markdown summary into the run folder."""
    from kdaudit.artefacts import write_text
    from kdaudit.audit.folder import RunFolder
    from kdaudit.report.render import render_summary

    write_text(RunFolder(out).summary, render_summary(result))


COMMAND = Command(
    "attack",
    attack,
    (*options_of(AuditConfig), *options_of(AttackSwitches)),
    variables="KDAUDIT",
    example="kdaudit attack --teacher TEACHER --student STUDENT --members saw.jsonl --nonmembers unseen.jsonl",
)
