"""Several processes that measure one audit: each some units, without a word between them but files on disk."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from kdaudit.audit import heartbeat, reduced
from kdaudit.audit.heartbeat import Beat, Share, Sighting
from kdaudit.audit.measure import Progress, measure_passes, n_texts, signal_files
from kdaudit.audit.plan import Plan
from kdaudit.audit.scoring import Cell, cells_of
from kdaudit.ranks import Rank
from kdaudit.signals import store
from kdaudit.signals.engine import device_name

LOOK = 1.0
"""Seconds between two looks at the disk, at least."""
PATIENCE = 50
"""How many times as long as a look takes rank 0 measures until the next one."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is measured as a whole and lies in one file: a shard in one pass, or in all where scores alone are kept."""

    path: Path
    is_whole: Callable[[], bool]
    """Whether the file says what it has to."""

    @property
    def is_measured(self) -> bool:
        """Whether the file is there and whole."""
        return self.path.is_file() and self.is_whole()


@dataclass(frozen=True, slots=True)
class Work:
    """All units of an audit, in an order that every process sees, and how those of one process are measured."""

    units: tuple[Unit, ...]
    measure: Callable[[Rank, Progress], None]
    runs_on: str
    """What computes, in words."""

    @property
    def hash(self) -> str:
        """Equal where two processes measure the same in the same way."""
        return hashlib.sha256("".join(unit.path.name for unit in self.units).encode()).hexdigest()

    def of(self, rank: Rank) -> dict[int, Unit]:
        """The units of one process, by their numbers."""
        return {number: unit for number, unit in enumerate(self.units) if rank.takes(number)}


def work_of(plan: Plan, folder: Path, *, with_paper: bool) -> Work:
    """The work of an audit.

    Args:
        plan: what to run.
        folder: of the signals.
        with_paper: also score with the settings of the paper.
    """
    shards = plan.passages.shards()
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers")]
    runs_on = ", ".join([device_name(plan.device), plan.dtype, *versions])
    if not plan.keeps_signals:
        cells = cells_of(plan, with_paper=with_paper)
        scored = reduced.units_of(plan, shards, folder, with_paper=with_paper)
        units = tuple(Unit(unit.scores, partial(_is_scored, unit, cells)) for unit in scored)

        def score(rank: Rank, on_progress: Progress) -> None:
            for _ in reduced.measured_units(
                plan, shards, folder, on_progress=on_progress, with_paper=with_paper, rank=rank
            ):
                pass

        return Work(units, score, runs_on)
    files = signal_files(plan, shards, folder)
    units = tuple(
        Unit(path, partial(_is_read, path, n_texts(one, shard)))
        for one in plan.passes
        for path, shard in zip(files[one.checkpoint.fingerprint, one.view], shards, strict=True)
    )
    return Work(
        units,
        lambda rank, on_progress: measure_passes(plan, shards, files, on_progress=on_progress, rank=rank),
        runs_on,
    )


def _is_scored(unit: reduced.Unit, cells: Sequence[Cell]) -> bool:
    return unit.read(cells) is not None


def _is_read(path: Path, n_texts: int) -> bool:
    return store.read(path, n_texts=n_texts) is not None


def n_units(plan: Plan) -> int:
    """How many units the work of an audit has."""
    return len(plan.passages.shards()) * (len(plan.passes) if plan.keeps_signals else 1)


def stage_of_work(rank: Rank) -> str:
    """What the work is called while it runs: that of all processes, or that of a shard."""
    return str(rank) if rank.is_shard else f"{rank.n} processes"


def measure_together(work: Work, out: Path, rank: Rank, *, on_progress: Progress) -> None:
    """Measure the units of rank 0, and wait for those of the others.

    Args:
        work: of the audit.
        out: the run folder, where the other processes say that they live.
        rank: of this process.
        on_progress: told about units, whoever measured them.

    Raises:
        RankError: another process has died, failed or never begun.
        ModelError: a checkpoint cannot be loaded or scored.
    """
    watch = Watch(work, dict(enumerate(work.units)), out, rank, on_progress)
    try:
        work.measure(rank, watch.look_between)
        while watch.look():
            time.sleep(LOOK)
    except KeyboardInterrupt:  # a launcher ends all processes where one has died: say which
        for share in watch.shares():
            beat = heartbeat.read(out, share.rank.number)
            if beat is not None and heartbeat.is_gone(beat):
                raise heartbeat.stopped(beat, share) from None
        raise


def measure_own(work: Work, out: Path, rank: Rank, *, on_progress: Progress) -> Share:
    """Measure the units of one process that judges nothing.

    Args:
        work: of the audit.
        out: the run folder.
        rank: of this process.
        on_progress: told about the units of this process.

    Returns:
        The units that were measured, out of those of this process.

    Raises:
        ModelError: a checkpoint cannot be loaded or scored.
    """
    own = work.of(rank)
    watch = Watch(work, own, out, rank, on_progress)
    n_lacking = watch.n_lacking()
    work.measure(rank, watch.look_between)
    watch.look()
    return Share(rank, n_lacking, len(own))


class Watch:
    """What a process sees on disk: units that are finished, and beats of the processes that measure the others."""

    def __init__(self, work: Work, units: Mapping[int, Unit], out: Path, rank: Rank, on_progress: Progress) -> None:
        self._own = Beat("", 0, units=work.hash, runs_on=work.runs_on)
        self._units, self._lacking = units, dict(units)
        self._out, self._rank, self._on_progress = out, rank, on_progress
        self._seen: dict[int, Sighting] = {}
        self._next = 0.0

    def n_lacking(self) -> int:
        """Units that are not measured now."""
        self._lacking = {number: unit for number, unit in self._lacking.items() if not unit.is_measured}
        return len(self._lacking)

    def look_between(self, stage: str, done: int, total: int) -> None:
        """Look where it is time, while this process measures; how far it has come itself stands on disk."""
        if (began := time.monotonic()) >= self._next:
            self.look()
            self._next = time.monotonic() + max(LOOK, PATIENCE * (time.monotonic() - began))

    def look(self) -> bool:
        """Look at the disk; whether any unit is lacking.

        Raises:
            RankError: a process that has units to measure will measure none.
        """
        total = len(self._units)
        self._on_progress(stage_of_work(self._rank), total - self.n_lacking(), total)
        for share in self.shares():
            number, now = share.rank.number, time.monotonic()
            beat = heartbeat.read(self._out, number)
            self._seen[number] = heartbeat.sight(self._seen.get(number), beat, now)
            if error := heartbeat.trouble(self._seen[number], share, self._own, now):
                raise error
        return bool(self._lacking)

    def shares(self) -> list[Share]:
        """How far the other processes have come that still have units to measure."""
        lacking, total = (Counter(map(self._rank.taker, some)) for some in (self._lacking, self._units))
        others = sorted(lacking.keys() - {self._rank.number})
        return [Share(replace(self._rank, number=k), total[k] - lacking[k], total[k]) for k in others]
