"""Long work on the terminal: a bar for each stage, and libraries that keep still."""

from __future__ import annotations

import logging
import sys
import warnings
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from kdaudit.report.text import visible


class RateColumn(ProgressColumn):
    """Units per second; rich has this column for bytes only."""

    def render(self, task: Task) -> Text:
        """The speed of one task."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="cyan")


class StageBars:
    """A context in which `update(stage, done, total)` moves the stage's bar."""

    def __init__(self, *, is_shown: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[note]}", markup=False),
            RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (is_shown and sys.stderr.isatty()),  # rich would draw into a log under FORCE_COLOR
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> StageBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` units of a stage are finished, and a word on how it goes."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(
                visible(stage), total=total, completed=done, note=visible(note)
            )
        self._progress.update(self._tasks[stage], completed=done, total=total, note=visible(note))


def hush_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal: what matters is said by kdaudit."""
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="bitsandbytes|peft|transformers")
    logging.captureWarnings(capture=True)
    of_libraries = [handler for name in logging.root.manager.loggerDict for handler in logging.getLogger(name).handlers]
    if logging.lastResort is not None:  # on stderr; of a warning's logger it takes the place of a handler for nothing
        logging.getLogger("py.warnings").addHandler(logging.lastResort)
        of_libraries.append(logging.lastResort)
    for handler in of_libraries:
        handler.addFilter(_in_sight)


def _in_sight(record: logging.LogRecord) -> bool:
    """A library logs what stands in foreign files: no control character in it reaches the terminal."""
    record.msg, record.args = "\n".join(map(visible, record.getMessage().split("\n"))), ()
    return True
