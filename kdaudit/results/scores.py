"""scores.parquet read back: the scores of every record, for what must be paired over records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdaudit.errors import ConfigError
from kdaudit.foreign import check_regular, reason
from kdaudit.metrics.scores import Floats

MAX_ROWS = 2 * 10**7
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
    """Read the scores that an audit wrote.

    Raises:
        ConfigError: the file cannot be read, or its cells are not all of the same records.
    """
    import pyarrow as pa  # only a comparison with a baseline needs it
    import pyarrow.parquet as pq

    try:
        check_regular(path)
        metadata = pq.read_metadata(path)
        if metadata.num_rows > MAX_ROWS:
            raise ValueError(f"{metadata.num_rows:,} rows, more than any audit has")
        table = pq.read_table(path, columns=["id", "member", "model", "attack", "score"])
        columns = {name: table[name].to_pylist() for name in ("id", "model", "attack")}
        member = np.array(table["member"].to_pylist(), dtype=bool)
        score = table["score"].cast(pa.float64()).to_numpy()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}", hint=HINT) from error
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a scores file: {reason(error)}", hint=HINT) from error
    rows: dict[tuple[str, str], list[int]] = {}
    for row, cell in enumerate(zip(columns["attack"], columns["model"], strict=True)):
        rows.setdefault(cell, []).append(row)
    ids = {tuple(columns["id"][row] for row in of_cell) for of_cell in rows.values()}
    members = {member[of_cell].tobytes() for of_cell in rows.values()}
    if len(ids) != 1 or len(members) != 1:
        raise ConfigError(f"{path}: its {len(rows)} cells are not all of the same records", hint=HINT)
    first = next(iter(rows.values()))
    return RecordScores(ids.pop(), member[first], {cell: score[of_cell] for cell, of_cell in rows.items()})
