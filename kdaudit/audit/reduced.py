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

import numpy as np

from kdaudit.attacks.base import Attack
from kdaudit.audit.measure import Progress, SignalFiles, measure_passes, signal_files
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
class Unit:
    """One shard, the file of its scores, and those of the signals that they are made of."""

    shard: list[int]
    scores: Path
    signals: SignalFiles
    """One file for each pass."""

    def read(self, cells: Sequence[Cell]) -> dict[Cell, Floats] | None:
        """Its scores; None where they are not on disk."""
        found = store.read_columns(self.scores, [_name(cell) for cell in cells], len(self.shard))
        return None if found is None else {cell: found[_name(cell)] for cell in cells}


def score_in_blocks(
    plan: Plan, shards: list[list[int]], folder: Path, *, on_progress: Progress, with_paper: bool
) -> Scores:
    """Score every record; of the signals nothing is left on disk.

    Args:
        plan: what to run.
        shards: indices of the texts, the same groups for every model.
        folder: of the signals.
        on_progress: told about text tokens.
        with_paper: also score with the settings of the paper.

    Raises:
        ModelError: a checkpoint cannot be loaded or scored.
    """
    cells, found = cells_of(plan, with_paper=with_paper), nothing_found(plan, with_paper=with_paper)
    for units in measured_units(plan, shards, folder, on_progress=on_progress, with_paper=with_paper):
        for unit in units:
            scored = unit.read(cells)
            if scored is None:
                raise ModelError(
                    f"{unit.scores} has vanished or was damaged during the run", hint="run the same command again"
                )
            put(found, unit.shard, scored)
    return as_scores(plan, found, with_paper=with_paper)


def measured_units(
    plan: Plan, shards: list[list[int]], folder: Path, *, on_progress: Progress, with_paper: bool
) -> Iterator[list[Unit]]:
    """The units of one block after the other, each once its scores are on disk."""
    cells, sizes = cells_of(plan, with_paper=with_paper), plan.passages.sizes
    n_later = int(sizes.sum(dtype=np.int64))
    compared: set[str] = set()
    for block in _blocks(plan, shards):
        n_later -= sum(int(sizes[shard].sum()) for shard in block)
        units = list(_units(plan, block, folder, with_paper=with_paper))
        lacking = as_first(plan.spread, [k for k, unit in enumerate(units) if unit.read(cells) is None])
        absent = [units[k] for k in lacking]
        if absent:
            files = {key: tuple(unit.signals[key][0] for unit in absent) for key in absent[0].signals}
            own = [unit.shard for unit in absent]
            measure_passes(
                plan, own, files, on_progress=on_progress, probe=shards[0], n_waiting=n_later, compared=compared
            )
            for unit in absent if writes(plan.spread) else ():
                scored = score_shard(plan, unit.shard, read_signals(unit.signals, 0), with_paper=with_paper)
                store.write_columns(unit.scores, {_name(cell): values for cell, values in scored.items()})
                for paths in unit.signals.values():
                    paths[0].unlink(missing_ok=True)
        yield units


def _blocks(plan: Plan, shards: list[list[int]]) -> Iterator[list[list[int]]]:
    block: list[list[int]] = []
    room = BLOCK_CHARACTERS
    for shard in shards:
        size = int(plan.passages.sizes[shard].sum())
        if block and size > room:
            yield block
            block, room = [], BLOCK_CHARACTERS
        block.append(shard)
        room -= size
    if block:
        yield block


def _units(plan: Plan, shards: list[list[int]], folder: Path, *, with_paper: bool) -> Iterator[Unit]:
    files = signal_files(plan, shards, folder)
    rules = _rules(plan, with_paper=with_paper)
    for k, shard in enumerate(shards):
        signals = {key: (paths[k],) for key, paths in files.items()}
        whole = json.dumps([rules, [path.stem for (path,) in signals.values()]])
        name = hashlib.sha256(whole.encode()).hexdigest()
        yield Unit(shard, folder / FOLDER / name[:2] / f"{name}.safetensors", signals)


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
