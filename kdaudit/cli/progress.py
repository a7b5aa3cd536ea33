"""Long work on the terminal: a bar for all of it and one for the stage that runs, and libraries that keep still."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from kdaudit.cli import output
from kdaudit.cli.course import Course
from kdaudit.cli.layout import cut_from_left
from kdaudit.report.text import visible

EVERY = 60.0
"""Seconds between two lines where stderr leads to a file or a pipe."""
WIDE = 100
"""Columns from which counts, speed and a word on the state fit beside a bar."""
TOTAL = "total"


class StageBars:
    """A context in which `update(stage, done, total)` moves the stage's bar, and with it that of all stages.

    A stage that ends makes room for the next one. Without a terminal a line a minute says the same.
    """

    def __init__(self, *, is_shown: bool) -> None:
        self._console = Console(stderr=True)
        # rich would draw into a log under FORCE_COLOR, and cannot move up in a terminal that knows no commands
        self._is_drawn = is_shown and sys.stderr.isatty() and not self._console.is_dumb_terminal
        self._is_told = is_shown and not self._is_drawn
        self._course = Course()
        self._progress = Progress(*self._columns(), console=self._console, disable=not self._is_drawn, expand=True)
        self._stage, self._task, self._total = "", TaskID(-1), TaskID(-1)
        self._name_width = len(TOTAL)
        self._began = self._stage_began = self._last_line = time.monotonic()

    def __enter__(self) -> StageBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stage:
            self._progress.remove_task(self._task)
        self._progress.stop()

    def expect(self, work: Mapping[str, float]) -> None:
        """Say which stages will come, in their order, and how much work each one is; in any unit."""
        self._course.expect(work)
        if self._total == -1:
            self._total = self._progress.add_task(TOTAL, total=1.0, note="")

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` units of a stage are finished, and a word on how it goes."""
        is_new = stage != self._stage
        if is_new:
            self._begin(stage, total, done)
        self._course.reach(stage, done / max(total, 1))
        self._progress.update(self._task, completed=done, total=total, note=visible(note))
        if self._total != -1:
            self._progress.update(self._total, completed=self._course.share)
        if is_new or done >= total:
            self._progress.refresh()
        if self._is_told and time.monotonic() - self._last_line >= EVERY:
            self._last_line = time.monotonic()
            output.note(self._line(stage, done, total, note))

    def _begin(self, stage: str, total: int, done: int) -> None:
        if self._stage:
            self._progress.remove_task(self._task)
        self._stage, self._stage_began = stage, time.monotonic()
        self._name_width = max(self._name_width, Text(visible(stage)).cell_len)
        self._task = self._progress.add_task(visible(stage), total=total, completed=done, note="")

    def _line(self, stage: str, done: int, total: int, note: str) -> str:
        """`distilling: 1,200 of 9,000 (13 %), loss 2.310, for 0:01:00; total 12 %, for 0:01:02, about 0:07:34 left`."""
        now = time.monotonic()
        parts = [f"{stage}: {done:,} of {total:,} ({100 * done / max(total, 1):.0f} %)", note]
        told = ", ".join(part for part in (*parts, f"for {clock(now - self._stage_began)}") if part)
        if self._total == -1:
            return told
        left = self._course.seconds_left(now - self._began)
        ahead = "" if left is None else f", about {clock(left)} left"
        return f"{told}; {TOTAL} {100 * self._course.share:.0f} %, for {clock(now - self._began)}{ahead}"

    def _columns(self) -> list[ProgressColumn]:
        def name(task: Task) -> str:
            width = min(self._name_width, self._console.width // 3)
            return cut_from_left(task.description, width).ljust(width)

        def count(task: Task) -> str:
            if self._console.width < WIDE or task.id == self._total or task.total is None:
                return ""
            speed = f"{task.speed:,.0f}/s" if task.speed else ""
            note = f"  {task.fields['note']}" if task.fields["note"] else ""
            return f"{task.completed:,.0f}/{task.total:,.0f}  {speed:>9}{note}"

        def times(task: Task) -> str:
            elapsed = task.elapsed or 0.0
            left = self._course.seconds_left(elapsed) if task.id == self._total else task.time_remaining
            return f"{clock(elapsed):>8} {clock(left):>8} left"

        return [
            _Words(name), BarColumn(bar_width=None), _Words(lambda task: f"{task.percentage:3.0f} %"),
            _Words(count), _Words(times),
        ]  # fmt: skip


class _Words(ProgressColumn):
    """A column of words that never wrap, so that a bar stays one line."""

    def __init__(self, make: Callable[[Task], str]) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._make = make

    def render(self, task: Task) -> Text:
        return Text(self._make(task))


def clock(seconds: float | None) -> str:
    """`0:01:05`; dashes where nobody knows."""
    if seconds is None:
        return "-:--:--"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def hush_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal: what matters is said by kdaudit.

    `datasets`, which only some sources of records need, is hushed without being loaded: half a second of every command.
    """
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="bitsandbytes|peft|transformers")
    logging.captureWarnings(capture=True)
    if logging.lastResort is not None:  # on stderr; of a warning's logger it takes the place of a handler for nothing
        logging.getLogger("py.warnings").addHandler(logging.lastResort)
    logging.setLogRecordFactory(_in_sight)


def _in_sight(*args: Any, **keywords: Any) -> logging.LogRecord:
    """A library logs what stands in foreign files: no control character in it reaches the terminal."""
    record = logging.LogRecord(*args, **keywords)
    record.msg, record.args = "\n".join(map(visible, record.getMessage().split("\n"))), ()
    return record
