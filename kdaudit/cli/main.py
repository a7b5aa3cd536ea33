"""The program: its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import kdaudit
from kdaudit.cli import attack, demo
from kdaudit.errors import ExitCode, KdauditError

app = typer.Typer(
    name="kdaudit",
    help="Audit language models for membership inference: does a distilled student leak its training data?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="attack", context_settings={"auto_envvar_prefix": "KDAUDIT"})(attack.attack)
app.command(name="demo", context_settings={"auto_envvar_prefix": "KDAUDIT_DEMO"})(demo.demo)


@app.callback()
def program(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Options of the program itself."""
    if version:
        typer.echo(f"kdaudit {kdaudit.__version__}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Expected errors exit with their own code; bugs keep their traceback and exit with 4."""
    stderr = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(args=argv, prog_name="kdaudit")
    except KdauditError as error:
        stderr.print(f"[red]error:[/red] {escape(str(error))}")
        if error.hint:
            stderr.print(escape(error.hint))
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        stderr.print("interrupted")
        sys.exit(int(ExitCode.INTERRUPTED))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            stderr.print("[red]error:[/red] the disk is full; free some space and run the same command again")
        else:
            traceback.print_exception(error)
            stderr.print("this is a bug in kdaudit: please report it with the lines above")
        sys.exit(int(ExitCode.FAILED))
