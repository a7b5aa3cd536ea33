"""The program: its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import kdaudit
from kdaudit.cli import attack, demo, distill, docs, mitigate, output, report
from kdaudit.cli.paths import with_paths
from kdaudit.errors import ExitCode, KdauditError

UsageProblem: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What typer raises over a wrong command line; releases differ in whose class it is."""

app = typer.Typer(
    name="kdaudit",
    help="Audit language models for membership inference: does a distilled student leak its training data?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXAMPLES = {
    "attack": "kdaudit attack --teacher TEACHER --student STUDENT --members saw.jsonl --nonmembers unseen.jsonl",
    "distill": "kdaudit distill --teacher TEACHER --student START --train texts.jsonl --teacher-saw train --out OUT",
    "mitigate": "kdaudit mitigate --from STUDENT --method all --seeds 3 --out OUT",
    "report": "kdaudit report kdaudit-run --format html --gate 'student.auc <= 0.60'",
    "demo": "kdaudit demo --out demo",
    "docs": "kdaudit docs tutorial",
}
"""By command, shown at the end of its help."""
for name, command, prefix in (
    ("attack", attack.attack, "KDAUDIT"),
    ("distill", distill.distill, "KDAUDIT_DISTILL"),
    ("mitigate", mitigate.mitigate, "KDAUDIT_MITIGATE"),
    ("report", report.report, "KDAUDIT_REPORT"),
    ("demo", demo.demo, "KDAUDIT_DEMO"),
    ("docs", docs.docs, "KDAUDIT_DOCS"),
):
    app.command(name=name, epilog=f"Example: {EXAMPLES[name]}", context_settings={"auto_envvar_prefix": prefix})(
        with_paths(command)
    )


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


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Expected errors exit with their own code; bugs keep their traceback and exit with 4.

    The code of a finding, 1, is a command's own answer alone: typer would also give it for an empty file (EOFError) and
    for a closed pipe, and a library that exits by itself could.
    """
    try:
        answer = app(args=argv, prog_name="kdaudit", standalone_mode=False)  # 130 on Ctrl-C
        code = answer if isinstance(answer, int) else ExitCode.PASSED
    except BaseException as error:
        code = _failed(error)
    sys.exit(int(code))


def _failed(error: BaseException) -> int:
    """Say what went wrong, and give the code for it."""
    if isinstance(error, KdauditError):
        output.problem(str(error), error.hint)
        return error.exit_code
    if isinstance(error, UsageProblem):
        output.usage_problem(error)
        return ExitCode.BAD_INPUT
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
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
