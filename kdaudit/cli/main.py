"""The program: its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import kdaudit
from kdaudit.cli import attack, demo, distill, docs, manifest, mitigate, output, report
from kdaudit.cli.command import add
from kdaudit.errors import ExitCode, KdauditError, did_you_mean
from kdaudit.ranks import is_follower, launched

UsageProblem: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What typer raises over a wrong command line; releases differ in whose class it is."""

COMPLETION = "_KDAUDIT_COMPLETE"
"""The variable by which a shell asks what could come next."""

LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""What torch reads before its first tensor: whether it asks Linux for memory in pages of 2 MiB."""

app = typer.Typer(
    name="kdaudit",
    help="Audit language models for membership inference: does a distilled student leak its training data?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    attack.COMMAND, distill.COMMAND, manifest.COMMAND, mitigate.COMMAND, report.COMMAND, demo.COMMAND, docs.COMMAND,
)  # fmt: skip
KNOWN = [option for command in COMMANDS if command.reads_file for option in command.options]
"""What a configuration file may hold."""
for command in COMMANDS:
    add(app, command, known=KNOWN)


def print_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(f"kdaudit {kdaudit.__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Options of the program itself."""
    begin = "KDAUDIT_"  # which all share, so that it makes no two of them alike
    known = {command.variable(one).removeprefix(begin) for command in COMMANDS for one in command.options}
    given = {name.removeprefix(begin) for name in os.environ if name.startswith(begin)}
    for name in sorted(given - known):
        if hint := did_you_mean(name, known, written=lambda near: f"{begin}{near}", otherwise=" ").strip():
            output.note(f"kdaudit does not read the variable {begin}{name}: {hint}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Expected errors exit with their own code; bugs keep their traceback and exit with 4.

    The code of a finding, 1, is a command's own answer alone: typer would also give it for an empty file (EOFError) and
    for a closed pipe, and a library that exits by itself could.
    """
    os.environ.setdefault(LARGE_PAGES, "1")  # memory for logits is handed out in large pieces
    try:
        answer = app(args=argv, prog_name="kdaudit", standalone_mode=False)  # 130 on Ctrl-C
        code = answer if isinstance(answer, int) else ExitCode.PASSED
    except SystemExit as end:
        given = sys.argv[1:] if argv is None else argv
        is_completing = COMPLETION in os.environ or {*given[:1]} & {"--show-completion", "--install-completion"}
        code = int(bool(end.code)) * ExitCode.BAD_INPUT if is_completing else _failed(end)  # typer ends so behind it
    except BaseException as error:
        code = _failed(error)
    sys.exit(int(code))


def _failed(error: BaseException) -> int:
    """Say what went wrong, and give the code for it."""
    if isinstance(error, KdauditError):
        if is_follower():  # what is wrong for all processes is said once in full
            output.note(f"{launched()}: {error}")
            return error.exit_code
        output.problem(str(error), error.hint)
        return error.exit_code
    if isinstance(error, UsageProblem):
        if not is_follower():
            output.usage_problem(error)
        return ExitCode.BAD_INPUT
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        output.leave_pipe()  # rich ends so where a reader such as `head` has seen enough of a help
        return ExitCode.PASSED
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        output.problem("the disk is full", "free some space and run the same command again")
    elif isinstance(error, OSError) and error.filename is not None:
        output.problem(f"{error.filename}: {error.strerror}", "check the path and its permissions")
        return ExitCode.BAD_INPUT
    elif isinstance(error, MemoryError):
        output.problem("memory ran out", "give smaller files or models, or a machine with more memory")
    else:
        output.note("".join(traceback.format_exception(error)).rstrip())
        output.note("this is a bug in kdaudit: please report it with the lines above")
    return ExitCode.FAILED
