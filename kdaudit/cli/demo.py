"""`kdaudit demo`: the tool shown, and checked, on models trained on the spot."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from kdaudit.cli import output


def demo(
    out: Annotated[Path, typer.Option(help="The folder for the notes, the checkpoints and both run folders.")] = Path(
        "kdaudit-demo"
    ),
    seed: Annotated[int, typer.Option(help="The seed of the notes, the training and the audits.", min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone, without progress.")] = False,
) -> None:
    """Train a small teacher and student on fictitious clinical notes and audit them: two to four minutes, no network.

    The student saw the members and must be detected; its start did not and must be at chance. Exit 4 if either fails.
    """
    from kdaudit.cli.audit import hush_libraries, write_summary  # loads torch: not at the top, so --help stays light
    from kdaudit.cli.progress import StageBars
    from kdaudit.demo.run import check_controls, run_demo

    hush_libraries()
    with StageBars(is_shown=not quiet) as bars:
        command = shlex.join(["kdaudit", *sys.argv[1:]])
        controls = run_demo(out, seed=seed, command=command, on_progress=bars.update)
    write_summary(controls.positive, controls.positive_folder)
    write_summary(controls.negative, controls.negative_folder)
    output.heading("Positive control: teacher and student, both trained on the members")
    output.print_result(controls.positive, controls.positive_folder, is_quiet=quiet)
    output.heading("Negative control: their starts, which saw neither members nor non-members")
    output.print_result(controls.negative, controls.negative_folder, is_quiet=quiet)
    check_controls(controls)
    output.heading("Both controls came out as they must: the student is detected, its start is at chance.")
