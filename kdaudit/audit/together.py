"""Several processes that measure one audit: each some units, without a word between them but files on disk."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from kdaudit.audit import heartbeat
from kdaudit.audit.heartbeat import Beat, Share, Sighting
from kdaudit.audit.measure import Progress
from kdaudit.audit.plan import Plan
from kdaudit.audit.units import Unit, Work
from kdaudit.ranks import Rank
from kdaudit.signals.engine import device_name

LOOK = 1.0
"""Seconds between two looks at the disk, at least."""
PATIENCE = 50
"""How many times as long as a look takes rank 0 measures until the next one."""


def stage_of_all(rank: Rank) -> str:
    """What the work of all processes is called while it runs."""
    return f"{rank.n} processes"


def hash_of(units: Sequence[Unit]) -> str:
    """Equal where two processes measure the same in the same way."""
    return hashlib.sha256("".join(unit.path.name for unit in units).encode()).hexdigest()


def runs_on(plan: Plan) -> str:
    """What computes, in words."""
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers")]
    return ", ".join([device_name(plan.device), plan.dtype, *versions])


def measure_together(work: Work, out: Path, rank: Rank, *, on_progress: Progress) -> None:
    """Measure the units of rank 0, and wait for those of the others.

    Args:
        work: what is to be measured.
        out: the run folder, where the other processes say that they live.
        rank: of this process.
        on_progress: told about units, whoever measured them.

    Raises:
        RankError: another process has died, failed or never begun.
        ModelError: a checkpoint cannot be loaded or scored.
    """
    watch = Watch(work, out, rank, on_progress)
    try:
        work.measure(work.own(rank), watch.look_between)
        while watch.look():
            time.sleep(LOOK)
    except KeyboardInterrupt:  # a launcher ends all processes where one has died: say which
        for share in watch.shares():
            beat = heartbeat.read(out, share.rank.number)
            if beat is not None and heartbeat.is_gone(beat):
                raise heartbeat.stopped(beat, share) from None
        raise


class Watch:
    """What rank 0 sees on disk: units that are finished, and beats of the other processes."""

    def __init__(self, work: Work, out: Path, rank: Rank, on_progress: Progress) -> None:
        self._own = Beat("", 0, units=hash_of(work.units), runs_on=runs_on(work.plan))
        self._units, self._lacking = work.units, list(work.units)
        self._out, self._rank, self._on_progress = out, rank, on_progress
        self._seen: dict[int, Sighting] = {}
        self._next = 0.0

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
        self._lacking = [unit for unit in self._lacking if not unit.is_measured]
        shares = self.shares()
        absent = [one.rank.number for one in shares if self._has_not_begun(one.rank.number)]
        stage = stage_of_all(self._rank)
        if absent and len(self._lacking) == sum(one.total - one.done for one in shares):  # rank 0 has no more to do
            ranks = f"rank {absent[0]}, which has" if len(absent) == 1 else f"{len(absent)} ranks, which have"
            stage = f"{stage}: waiting for {ranks} not begun"
        self._on_progress(stage, len(self._units) - len(self._lacking), len(self._units))
        for share in shares:
            number, now = share.rank.number, time.monotonic()
            beat = heartbeat.read(self._out, number)
            self._seen[number] = heartbeat.sight(self._seen.get(number), beat, now)
            if error := heartbeat.trouble(self._seen[number], share, self._own, now):
                raise error
        return bool(self._lacking)

    def _has_not_begun(self, number: int) -> bool:
        seen = self._seen.get(number)
        return seen is not None and seen.beat is None

    def shares(self) -> list[Share]:
        """How far the other processes have come that still have units to measure."""
        lacking, total = (Counter(self._rank.taker(one.shard) for one in some) for some in (self._lacking, self._units))
        others = range(1, self._rank.n)
        return [Share(Rank(k, self._rank.n), total[k] - lacking[k], total[k]) for k in others if lacking[k]]
