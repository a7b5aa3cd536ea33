"""Rows of Arrow files and of data sets that `datasets` saved: column stores with types of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kdaudit.errors import RecordsError
from kdaudit.foreign import is_file, is_folder, read_json, reading
from kdaudit.records.layout import OF_CHATS, Layout, wanted
from kdaudit.records.rows import CHATS_AT_A_TIME, MAX_ROWS, ROWS_AT_A_TIME, Row, column_rows, require_field, shown

ARROW_MAGIC = (b"ARROW1", b"\xff\xff\xff\xff", b"FEA1")
"""How an Arrow file, a stream (which `datasets` writes) and an old Feather file begin."""
MANY, ONE = "dataset_dict.json", "state.json"
"""What `save_to_disk` leaves in the folder of several splits, and of one."""


def arrow_rows(file: BinaryIO, label: str, layout: Layout) -> Iterator[Row]:
    """Rows of an Arrow file or stream, or of a Feather file; only the columns that a record needs are read.

    Raises:
        RecordsError: it is none, it is broken, or it lacks the text.
    """
    import pyarrow.feather
    import pyarrow.ipc  # heavy

    begin = file.read(8)
    file.seek(0)
    with reading(f"{label}: not a readable Arrow file", RecordsError, hint="write the file again"):
        if begin.startswith(b"ARROW1"):
            found = pyarrow.ipc.open_file(file)
            batches = (found.get_batch(number) for number in range(found.num_record_batches))
        elif begin.startswith(b"FEA1"):
            found = pyarrow.feather.read_table(file)
            batches = iter(found.to_batches())
        else:
            found = pyarrow.ipc.open_stream(file)
            batches = iter(found)
        names = found.schema.names
    require_field(label, layout, names, noun="column")
    taken, start = wanted(names, layout), 1
    while True:
        with reading(f"{label}: not a readable Arrow file", RecordsError, hint="write the file again"):
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)
        if start + batch.num_rows > MAX_ROWS:
            raise RecordsError(f"{label}: more than {MAX_ROWS:,} rows", hint="give fewer")
        for place in range(0, batch.num_rows, ROWS_AT_A_TIME):
            some = batch.slice(place, ROWS_AT_A_TIME)
            with reading(f"{label}: a column cannot be read", RecordsError, hint="write the texts as UTF-8"):
                values = {name: some.column(name).to_pylist() for name in taken}
            yield from column_rows(start, values, names)
            start += some.num_rows


def saved_folder(source: str, label: str) -> Path | None:
    """The folder of a data set, or of one split, that `save_to_disk` left; None where there is no such folder.

    Raises:
        RecordsError: the folder has several splits and none of that name is said.
    """
    folder, _, split = source.rpartition(":")
    if is_folder(Path(source)):
        folder, split = source, ""
    path = Path(folder)
    if is_file(path / MANY):
        try:
            content = read_json(path / MANY)
        except (OSError, ValueError) as error:
            raise RecordsError(f"{label}: {MANY} cannot be read", hint="save the data set again") from error
        named = content.get("splits") if isinstance(content, dict) else None
        splits = [str(name) for name in named] if isinstance(named, list) else []
        if split not in splits:
            what = f"no split '{split}'" if split else "a data set with several splits"
            hint = f"give one of them: {folder}:{splits[0]}" if splits else "save the data set again"
            raise RecordsError(f"{label}: {what}; splits: {shown(splits)}", hint=hint)
        return path / split
    if is_file(path / ONE):
        if split:
            raise RecordsError(f"{label}: the data set has no splits", hint=f"give the folder alone: {folder}")
        return path
    return None


def saved_rows(folder: Path, label: str, layout: Layout) -> Iterator[Row]:
    """Rows of a data set that `save_to_disk` left; no code of it is run.

    Raises:
        RecordsError: it cannot be read or lacks the text.
    """
    import datasets  # heavy

    datasets.disable_progress_bars()
    with reading(f"{label}: not a readable data set", RecordsError, hint="save the data set again"):
        data = datasets.load_from_disk(str(folder))
    yield from typed_rows(data, label, layout)


def typed_rows(data: Any, label: str, layout: Layout) -> Iterator[Row]:
    """Rows of a data set of `datasets`."""
    names = data.column_names
    require_field(label, layout, names, noun="column")
    columns = wanted(names, layout)
    data = data.with_format(None).select_columns(columns)
    n_rows = CHATS_AT_A_TIME if OF_CHATS & {*columns} else ROWS_AT_A_TIME
    batches, start = data.iter(batch_size=n_rows), 1
    while True:
        with reading(f"{label}: not a readable data set", RecordsError, hint="save the data set again"):
            batch = next(batches, None)
        if batch is None:
            return
        yield from column_rows(start, batch, names)
        start += len(next(iter(batch.values())))
