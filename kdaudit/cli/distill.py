"""`kdaudit distill`: a student whose folder says who was a member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdaudit.cli import output, several
from kdaudit.cli.command import Command, Given, Quiet
from kdaudit.cli.places import check_places
from kdaudit.distill.settings import DistillConfig
from kdaudit.options import options_of
from kdaudit.ranks import is_follower

if TYPE_CHECKING:
    from kdaudit.distill.prepare import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillSwitches:
    """What the command prints."""

    quiet: Quiet = False


def distill(given: Given) -> None:
    """Distil a student from a teacher, with a manifest that lets `kdaudit attack` audit it by itself.

    The loss is w * cross-entropy + (1 - w) * T^2 * divergence, a mean over the tokens of each optimiser step.
    The defaults are AdamW, one cycle of the learning rate and 8192 tokens in each step.

    Exit codes: 0 done, 2 usage or input wrong, 4 anything else. A killed run continues with the same command.
    """
    with several.speaking_once():
        _distill(given)


def _distill(given: Given) -> None:
    config = given.build(DistillConfig)
    is_quiet = given.build(DistillSwitches).quiet
    check_places(config)
    from kdaudit.cli.course import distill_work
    from kdaudit.cli.progress import StageBars, hush_libraries  # loads torch: not at the top, so --help stays light

    hush_libraries()  # before the trainer's libraries are loaded, which have advice to give
    from kdaudit.distill.learn import Told
    from kdaudit.distill.run import run_distill

    is_main = not is_follower()
    is_shown = is_main and not is_quiet
    with StageBars(is_shown=is_shown) as bars:

        def begin(prepared: Prepared) -> None:
            if is_shown:
                output.print_distill_plan(prepared)
                bars.expect(distill_work(prepared))

        try:
            told = Told(on_plan=begin, on_progress=bars.update)
            content = run_distill(config, command=given.line, told=told)
        except KeyboardInterrupt:
            if is_main:
                output.note(f"interrupted; the same command continues from the last whole checkpoint in {config.out}")
            raise
    if content and is_main:
        output.print_student(content, config.out, is_quiet=is_quiet)


COMMAND = Command(
    "distill",
    distill,
    (*options_of(DistillConfig), *options_of(DistillSwitches)),
    variables="KDAUDIT_DISTILL",
    may_be_several=True,
    example="kdaudit distill --teacher TEACHER --student START --train texts.jsonl --teacher-saw train --out OUT",
)
