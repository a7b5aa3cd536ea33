"""scores.parquet read back: the scores of every record, for what must be paired over records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit.errors import ConfigError
from kdaudit.foreign import check_regular, reason
from kdaudit.metrics.scores import Floats

MAX_ROWS = 10**8  # a million records, ten attacks, ten models
BATCH_ROWS = 2**17
COLUMNS = ("id", "member", "model", "attack", "score")
HINT = "give back the file that `kdaudit attack` wrote beside results.json, or remove it"


@dataclass(frozen=True, slots=True)
class RecordScores:
    """What one run gave each record, records in the order of its data."""

    ids: tuple[str, ...]
    is_member: NDArray[np.bool_]
    """(n,)."""
    by_cell: Mapping[tuple[str, str], Floats]
    """By attack and model: (n,), NaN where nothing was scored."""


def load_scores(path: Path) -> RecordScores:
    """Read the scores that an audit wrote, some rows at a time: a name is kept once, a row only as its score.

    Raises:
        ConfigError: the file cannot be read, or its cells are not all of the same records.
    """
    import pyarrow as pa  # only a comparison with a baseline needs it
    import pyarrow.parquet as pq

    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise ValueError(f"{file.metadata.num_rows:,} rows, more than any audit has")
            cells: dict[tuple[str, str], _Cell] = {}
            for batch in file.iter_batches(BATCH_ROWS, columns=[*COLUMNS]):
                _take(batch, cells)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}", hint=HINT) from error
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a scores file: {reason(error)}", hint=HINT) from error
    by_cell = {cell: _joined(found.scores) for cell, found in cells.items()}
    members = [_joined(found.is_member) for found in cells.values()]
    first = next(iter(cells.values()), None)
    if (
        first is None
        or not all(found.is_alike and found.n_rows == first.n_rows for found in cells.values())
        or not all(np.array_equal(one, members[0]) for one in members)
    ):
        raise ConfigError(f"{path}: its {len(cells)} cells are not all of the same records", hint=HINT)
    ids = tuple(one for chunk in first.ids for one in chunk.to_pylist())
    return RecordScores(ids, members[0], by_cell)


@dataclass(slots=True)
class _Cell:
    """The rows of one attack and model that were read so far."""

    scores: list[Floats] = field(default_factory=list)
    is_member: list[NDArray[np.bool_]] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    """Arrow arrays; of the first cell all ids, of others those that are not held against the first one's yet."""
    n_compared: int = 0
    """Rows that were held against those of the first cell."""
    is_alike: bool = True
    """Whether their ids are those of the first cell."""
    n_rows: int = 0


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The parts as one array; the list is emptied, so that nothing is held twice for long."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _take(batch: Any, cells: dict[tuple[str, str], _Cell]) -> None:
    """Put the rows of a batch into their cells. A ValueError where something but a score is missing."""
    import pyarrow as pa

    if missing := [name for name in COLUMNS if name != "score" and batch[name].null_count]:
        raise ValueError(f"a row without {missing[0]}")
    names, codes = [], []
    for name in ("attack", "model"):
        encoded = batch[name].cast(pa.string()).dictionary_encode()
        names.append(encoded.dictionary.to_pylist())
        codes.append(encoded.indices.to_numpy(zero_copy_only=False).astype(np.intp))
    score = batch["score"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    is_member = batch["member"].cast(pa.bool_()).to_numpy(zero_copy_only=False).astype(np.bool_)
    ids = batch["id"].cast(pa.string())
    cell_of = codes[0] * len(names[1]) + codes[1]
    found, first_row = np.unique(cell_of, return_index=True)
    for code in found[np.argsort(first_row)].tolist():  # cells in the order of the file
        rows = np.flatnonzero(cell_of == code)
        cell = cells.setdefault((names[0][code // len(names[1])], names[1][code % len(names[1])]), _Cell())
        cell.scores.append(score[rows])
        cell.is_member.append(is_member[rows])
        cell.ids.append(ids if rows.size == len(ids) else ids.take(pa.array(rows)))
        cell.n_rows += rows.size
    first, *others = cells.values()
    for cell in others:
        _compare(first, cell)


def _compare(first: _Cell, cell: _Cell) -> None:
    """Hold ids against those of the first cell, as far as these are known, and let go of them."""
    import pyarrow as pa

    known = pa.chunked_array(first.ids, pa.string())
    while cell.ids and cell.n_compared + len(cell.ids[0]) <= first.n_rows:
        own = cell.ids.pop(0)
        cell.is_alike &= known.slice(cell.n_compared, len(own)).equals(pa.chunked_array([own]))
        cell.n_compared += len(own)
