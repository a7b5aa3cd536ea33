"""In which units an audit is measured: each lies in one file, whole or absent, whichever process writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from kdaudit.audit.measure import Progress, measure_passes, n_texts, signal_files
from kdaudit.audit.plan import Plan
from kdaudit.audit.reduced import collect, measure_in_blocks, shard_scores
from kdaudit.audit.scoring import Scores, cells_of, score_records
from kdaudit.ranks import ALONE, Rank
from kdaudit.signals import store


@dataclass(frozen=True, slots=True)
class Unit:
    """What is measured as a whole: one shard in one pass, or in all of them where the scores alone are kept."""

    shard: int
    """The number of the shard, which says which of several processes measures it."""
    path: Path
    is_whole: Callable[[], bool]

    @property
    def is_measured(self) -> bool:
        """Whether the file is there and whole."""
        return self.path.is_file() and self.is_whole()


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be measured of an audit, and what comes of it."""

    plan: Plan
    units: Sequence[Unit]
    measure: Callable[[Sequence[int], Progress], None]
    """Measures the shards with these numbers, as far as they are not on disk."""
    scores: Callable[[], Scores]
    """The scores of all records, once every unit is measured."""

    def own(self, rank: Rank) -> list[int]:
        """Numbers of the shards that one of several processes measures."""
        return sorted({unit.shard for unit in self.units if rank.takes(unit.shard)})


class Measure(Protocol):
    """Sees to it that every unit is measured."""

    def __call__(self, work: Work, *, on_progress: Progress) -> None:
        """Return once all are."""


def measure_alone(work: Work, *, on_progress: Progress) -> None:
    """Measure all that is lacking in this process."""
    work.measure(work.own(ALONE), on_progress)


def work_of(plan: Plan, folder: Path, *, with_paper: bool) -> Work:
    """The units of a plan.

    Args:
        plan: what to run.
        folder: of the signals.
        with_paper: also score with the settings of the paper.
    """
    shards = plan.passages.shards()
    files = signal_files(plan, shards, folder)
    if plan.keeps_signals:
        units = [
            Unit(i, path, partial(_is_signals, path, n_texts(one, shard)))
            for one in plan.passes
            for i, (path, shard) in enumerate(zip(files[one.checkpoint.fingerprint, one.view], shards, strict=True))
        ]

        def measure(own: Sequence[int], on_progress: Progress) -> None:
            measure_passes(plan, shards, files, on_progress=on_progress, own=own)

        return Work(plan, units, measure, partial(score_records, plan, shards, files, with_paper=with_paper))
    kept = shard_scores(plan, shards, files, folder, with_paper=with_paper)
    cells = cells_of(plan, with_paper=with_paper)
    return Work(
        plan,
        [Unit(one.number, one.path, partial(one.is_whole, cells)) for one in kept],
        partial(measure_in_blocks, plan, shards, files, kept, with_paper=with_paper),
        partial(collect, plan, kept, with_paper=with_paper),
    )


def _is_signals(path: Path, n: int) -> bool:
    return store.read(path, n_texts=n) is not None
