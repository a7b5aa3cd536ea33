"""`kdaudit attack`: measure how much a teacher and its students, or one model alone, leak."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdaudit.cli import output
from kdaudit.cli.command import Command, ConfigFile, Given, Quiet
from kdaudit.cli.places import check_places
from kdaudit.config import COMPUTE, LAYERS, MEASURE, TENSORS, AuditConfig
from kdaudit.config_file import WAIVERS
from kdaudit.errors import ConfigError, ExitCode
from kdaudit.options import Option, options_of, refuse
from kdaudit.ranks import ALONE, Rank, launched, parse_shard

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
    shard: Annotated[
        Rank | None,
        Option(
            "Measure one part of the work and judge nothing: 1/16 to 16/16, in any order and on any machine that sees "
            "the run folder. The same command without --shard judges.",
            COMPUTE, typed=str, parse=parse_shard, metavar="I/N", in_file=False,
        ),
    ] = None  # fmt: skip
    quiet: Quiet = False
    config_file: ConfigFile = None
    list_all: Annotated[
        bool,
        Option(
            "Print every attack with its needs, and exit.", flag="--list-attacks", in_file=False, at_once=list_attacks
        ),
    ] = False

    def __post_init__(self) -> None:
        """Refuse to print results that nothing measures or judges.

        Raises:
            ConfigError: naming both options.
        """
        without = {"--plan-only: it measures nothing": self.plan_only, "--shard: it judges nothing": self.shard}
        refuse(
            [
                f"{why}, so --json has no results to print"
                for why, is_so in without.items()
                if is_so and self.json_output
            ],
            "attack",
        )


def attack(given: Given) -> None:
    """Attack a teacher and its students, or one model alone (--model), and measure how much each one leaks.

    Exit codes: 0 passed or nothing gated, 1 a gate failed, 2 usage or input wrong, 3 inconclusive, 4 anything else.
    """
    config = given.build(AuditConfig)
    shown = given.build(AttackSwitches)
    from kdaudit.audit.request import read_request
    from kdaudit.models.devices import attends
    from kdaudit.verdict import exit_code

    rank = _rank(config, shown.shard)
    read_request(config)  # a typo is said before torch is loaded, which takes seconds
    if attends(config):
        if not shown.plan_only:
            attend(config)
        return
    if shown.plan_only:
        if rank.number == 0 or rank.is_shard:
            print_plan(config, rank)
        return
    if not rank.judges:
        measure_with_progress(config, rank, is_quiet=shown.quiet)
        return
    result = audit_with_progress(config, command=given.line, rank=rank, is_quiet=shown.quiet or shown.json_output)
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


def _rank(config: AuditConfig, shard: Rank | None) -> Rank:
    """Which part of the work this process does; those that hold one model together do not divide it."""
    rank = launched()
    if config.device_map == TENSORS and shard is not None:
        raise ConfigError(
            "--shard: it divides the work, and the processes of --device-map tp do all of it together",
            hint="leave one of them out",
        )
    if config.device_map == LAYERS and rank.is_one_of_several:
        raise ConfigError(
            f"--device-map auto: each of the {rank.n} processes that were started would take all GPUs",
            hint="start one process; or give --device-map tp, by which they hold each model together",
        )
    if rank.is_one_of_several and shard is not None:
        raise ConfigError(
            f"--shard: a launcher has started {rank.n} processes, which divide the work by themselves",
            hint="leave --shard out, or start one process",
        )
    if rank.is_one_of_several and "-" in {
        *config.members,
        *config.nonmembers,
        *config.data,
        *config.train,
        *config.shots,
    }:
        raise ConfigError(
            "-: standard input can be read by one process, not by several", hint="write it to a file first"
        )
    return ALONE if config.device_map == TENSORS else shard or rank


def print_plan(config: AuditConfig, rank: Rank = ALONE) -> None:
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
    output.print_plan(planned.plan, planned.data, rank, is_result=True)
    if planned.plan.not_held:
        raise ConfigError("\n".join(planned.plan.not_held.values()), hint=SMALLER)


def attend(config: AuditConfig) -> None:
    """Hold a part of every model while another process audits them; it says everything."""
    from kdaudit.audit.run import attend_audit
    from kdaudit.cli.progress import hush_libraries

    hush_libraries()
    attend_audit(config)


def measure_with_progress(config: AuditConfig, rank: Rank, *, is_quiet: bool) -> None:
    """Measure the part of one of several processes; of those that a launcher started, rank 0 alone shows progress."""
    from kdaudit.audit.run import measure_share  # loads torch: not at the top, so --help stays light
    from kdaudit.cli.course import audit_work
    from kdaudit.cli.progress import StageBars, hush_libraries

    begin_process(rank)
    hush_libraries()
    with StageBars(is_shown=rank.is_shard and not is_quiet) as bars:

        def begin(plan: Plan, data: AuditData) -> None:
            if rank.is_shard and not is_quiet:
                output.print_plan(plan, data, rank)
            bars.expect(audit_work(plan, rank))

        share = measure_share(config, rank, on_plan=begin, on_progress=bars.update)
    if not is_quiet:
        there = share.total - share.done
        output.note(f"{rank} measured {share.done} units" + (f"; {there} were there already" if there else ""))
    if rank.is_shard:
        output.note("nothing is judged yet: run the same command without --shard to judge")


def begin_process(rank: Rank) -> None:
    """Let one of several processes end in order where its launcher ends it, and compute on a GPU of its own."""
    if not rank.is_one_of_several:
        return
    from kdaudit.models.loading import take_gpu

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    take_gpu(rank.local)


def audit_with_progress(config: AuditConfig, *, command: str, is_quiet: bool, rank: Rank = ALONE) -> AuditResult:
    """Run the audit, show its plan and progress on stderr, and write the Markdown summary beside its results."""
    check_places(config)
    from kdaudit.audit import run  # loads torch: not at the top, so --help stays light
    from kdaudit.cli.course import audit_work
    from kdaudit.cli.progress import StageBars, hush_libraries

    begin_process(rank)
    hush_libraries()
    with StageBars(is_shown=not is_quiet) as bars:

        def begin(plan: Plan, data: AuditData) -> None:
            if not is_quiet:
                output.print_plan(plan, data, rank)
            bars.expect(audit_work(plan, rank))

        try:
            return run.run_audit(
                config,
                command=command,
                rank=rank,
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
    may_be_several=True,
    example="kdaudit attack --teacher TEACHER --student STUDENT --members saw.jsonl --nonmembers unseen.jsonl",
)
