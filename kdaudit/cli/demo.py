"""`kdaudit demo`: the tool shown, and checked, on models trained on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from kdaudit.cli import output
from kdaudit.cli.attack import write_summary
from kdaudit.cli.command import Command, Given
from kdaudit.options import Option, options_of, problems_of, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """What the demo is given."""

    out: Annotated[Path, Option("The folder for the notes, the checkpoints and both run folders.")] = Path(
        "kdaudit-demo"
    )
    seed: Annotated[int, Option("The seed of the notes, the training and the audits.", least=0)] = 0
    kind: Annotated[
        str,
        Option(
            "The kind of the models: causal (GPT-2) or masked (RoBERTa).", flag="--as", choices=("causal", "masked")
        ),
    ] = "causal"
    quiet: Annotated[bool, Option("Print the result alone, without progress.", flag="--quiet -q")] = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: the seed is negative.
        """
        refuse(problems_of(self), "demo")


def demo(given: Given) -> None:
    """Train a small teacher and student on fictitious clinical notes and audit them: some minutes, no network.

    The student saw the members and must be detected; its start did not and must be at chance. Exit 4 if either fails.
    """
    config = given.build(DemoConfig)
    from kdaudit.cli.progress import StageBars, hush_libraries  # loads torch: not at the top, so --help stays light

    hush_libraries()
    from kdaudit.demo.run import check_controls, expected_work, run_demo

    with StageBars(is_shown=not config.quiet) as bars:
        bars.expect(expected_work(config.kind))
        controls = run_demo(config.out, kind=config.kind, seed=config.seed, command=given.line, on_progress=bars.update)
    write_summary(controls.positive, controls.positive_folder)
    write_summary(controls.negative, controls.negative_folder)
    output.heading("Positive control: teacher and student, both trained on the members")
    output.print_result(controls.positive, controls.positive_folder, is_quiet=config.quiet)
    output.heading("Negative control: their starts, which saw neither members nor non-members")
    output.print_result(controls.negative, controls.negative_folder, is_quiet=config.quiet)
    check_controls(controls)
    output.heading("Both controls came out as they must: the student is detected, its start is at chance.")


COMMAND = Command("demo", demo, options_of(DemoConfig), variables="KDAUDIT_DEMO", example="kdaudit demo --out demo")
