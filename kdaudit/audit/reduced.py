"""Scoring many records with little on disk: of the signals of a shard its scores are kept, and nothing else.

All models read one block of shards before any reads the next, so that attacks that hold two models against each other
token by token find both; then the signals of the block are removed. The scores are those of a run that keeps signals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdaudit.attacks.base import Attack
from kdaudit.audit.measure import Progress, SignalFiles, measure_passes
from kdaudit.audit.plan import Plan
from kdaudit.audit.scoring import Cell, Scores, as_scores, cells_of, nothing_found, put, read_signals, score_shard
from kdaudit.errors import ModelError
from kdaudit.models.devices import as_first, writes
from kdaudit.signals import store
from kdaudit.signals.likelihoods import Floats

BLOCK_CHARACTERS = 2**26
"""Texts of a block. A model is loaded once for each; its signals take about five bytes a character and pass."""
FOLDER = "scores"


@dataclass(frozen=True, slots=True)
class ShardScores:
    """Where the scores of one shard lie."""

    number: int
    """The number of the shard."""
    shard: list[int]
    path: Path

    def read(self, cells: Sequence[Cell]) -> dict[Cell, Floats] | None:
        """The scores; None where they are not on disk."""
        found = store.read_columns(self.path, [_name(cell) for cell in cells], len(self.shard))
        return None if found is None else {cell: found[_name(cell)] for cell in cells}

    def is_whole(self, cells: Sequence[Cell]) -> bool:
        """Whether the scores are on disk."""
        return self.read(cells) is not None


def shard_scores(
    plan: Plan, shards: list[list[int]], files: SignalFiles, folder: Path, *, with_paper: bool
) -> list[ShardScores]:
    """Where the scores of every shard lie; whatever can change one of them gives another path.

    Args:
        plan: what to run.
        shards: indices of the texts, the same groups for every model.
        files: of the signals that scores are made of.
        folder: of the signals.
        with_paper: also score with the settings of the paper.
    """
    rules = _rules(plan, with_paper=with_paper)
    found = []
    for number, shard in enumerate(shards):
        whole = json.dumps([rules, [paths[number].stem for paths in files.values()]])
        name = hashlib.sha256(whole.encode()).hexdigest()
        found.append(ShardScores(number, shard, folder / FOLDER / name[:2] / f"{name}.safetensors"))
    return found


def measure_in_blocks(
    plan: Plan,
    shards: list[list[int]],
    files: SignalFiles,
    kept: Sequence[ShardScores],
    own: Sequence[int],
    on_progress: Progress,
    *,
    with_paper: bool,
) -> None:
    """Run every pass over the shards whose scores are not on disk yet, and leave nothing but scores.

    Args:
        plan: what to run.
        shards: indices of the texts, the same groups for every model.
        files: where signals lie until they are scored.
        kept: where the scores of every shard lie.
        own: numbers of the shards that this process measures, rising.
        on_progress: told about text tokens.
        with_paper: also score with the settings of the paper.

    Raises:
        ModelError: a checkpoint cannot be loaded or scored.
    """
    cells, compared = cells_of(plan, with_paper=with_paper), set[str]()
    for block in _blocks(plan, shards, own):
        absent = as_first(plan.spread, [i for i in block if not kept[i].is_whole(cells)])
        if not absent:
            continue
        measure_passes(plan, shards, files, on_progress=on_progress, own=own, now=absent, compared=compared)
        for i in absent if writes(plan.spread) else ():
            scored = score_shard(plan, shards[i], read_signals(files, i), with_paper=with_paper)
            store.write_columns(kept[i].path, {_name(cell): values for cell, values in scored.items()})
            for paths in files.values():
                paths[i].unlink(missing_ok=True)


def collect(plan: Plan, kept: Sequence[ShardScores], *, with_paper: bool) -> Scores:
    """The scores of all records.

    Raises:
        ModelError: a file that was there has gone.
    """
    cells, found = cells_of(plan, with_paper=with_paper), nothing_found(plan, with_paper=with_paper)
    for one in kept:
        scored = one.read(cells)
        if scored is None:
            raise ModelError(
                f"{one.path} has vanished or was damaged during the run", hint="run the same command again"
            )
        put(found, one.shard, scored)
    return as_scores(plan, found, with_paper=with_paper)


def _blocks(plan: Plan, shards: list[list[int]], own: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of shards, in groups of about BLOCK_CHARACTERS."""
    block: list[int] = []
    room = BLOCK_CHARACTERS
    for i in own:
        size = int(plan.passages.sizes[shards[i]].sum())
        if block and size > room:
            yield block
            block, room = [], BLOCK_CHARACTERS
        block.append(i)
        room -= size
    if block:
        yield block


def _rules(plan: Plan, *, with_paper: bool) -> list[object]:
    """All that decides over scores beside the signals."""

    def defined(attacks: Mapping[str, Attack]) -> list[object]:
        return [[name, one.version, one.values] for name, one in sorted(attacks.items())]

    models = [
        [one.name, one.checkpoint.fingerprint, one.reference.fingerprint if one.reference else ""]
        for one in plan.subjects
    ]
    runs_on = [[one.attack.name, *one.runs_on] for one in plan.attacks]
    attacks = {one.attack.name: one.attack for one in plan.attacks}
    return [
        models, runs_on, defined(attacks), defined(plan.alone), defined(plan.as_in_paper) if with_paper else [],
    ]  # fmt: skip


def _name(cell: Cell) -> str:
    return json.dumps(cell)
