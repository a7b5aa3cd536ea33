"""Records in columns, so that a million of them fit into memory: one is an object only while it is looked at.

Columns of more than IN_MEMORY bytes lie in a file that has no name: the system reads of it what is looked at, and
removes it however the process ends.
"""

from __future__ import annotations

import mmap
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from kdaudit.errors import DiskFullError
from kdaudit.records.record import Record

IN_MEMORY = 2**26  # bytes
ROWS, CHARACTERS = 1024, 2**22
"""Either makes a batch of rows full."""
NAMES = ("id", "text", "line", "n_prompt", "file", "form", "more")
"""The columns; `more` holds what few records have: a chat, and gaps."""
NUMBERS = frozenset({"line", "n_prompt"})
"""Columns of numbers. The others hold bytes: half of a surrogate pair may stand in a text or in the name of a file."""

Rows = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Records(Sequence[Record]):
    """Some of the rows of some batches, in an order of their own."""

    batches: tuple[Any, ...]
    """Record batches of pyarrow with the columns NAMES."""
    starts: Rows
    """(B,), the number of the first row of each."""
    rows: Rows
    """(n,), numbers of rows."""

    def __len__(self) -> int:
        return self.rows.size

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Records: ...
    def __getitem__(self, place: int | slice) -> Record | Records:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        batch, row = self._found(place)
        return _record(*(column[row].as_py() for column in batch.columns))

    def __iter__(self) -> Iterator[Record]:
        for batch in self._in_order():
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield _record(*values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # as of a list: comparing looks at every record

    def __add__(self, other: Records) -> Records:
        n = sum(batch.num_rows for batch in self.batches)
        return Records(
            self.batches + other.batches,
            np.concatenate([self.starts, other.starts + n]),
            np.concatenate([self.rows, other.rows + n]),
        )

    def take(self, places: NDArray[np.integer[Any]] | Sequence[int]) -> Records:
        """The records at some places, in the order of these."""
        return Records(self.batches, self.starts, self.rows[np.asarray(places, dtype=np.int64)])

    def text(self, place: int) -> str:
        """The text of one record."""
        batch, row = self._found(place)
        return _text(batch.column("text")[row].as_py())

    def column(self, name: str) -> Iterator[Any]:
        """One of NAMES of every record, `more` apart."""
        for batch in self._in_order(name):
            values = batch.column(0).to_pylist()
            yield from values if name in NUMBERS else map(_text, values)

    def _found(self, place: int) -> tuple[Any, int]:
        row = int(self.rows[place])
        k = int(self.starts.searchsorted(row, side="right")) - 1
        return self.batches[k], row - int(self.starts[k])

    def _in_order(self, *names: str) -> Iterator[Any]:
        """The rows as batches; each comes of one of those that are held."""
        owner = self.starts.searchsorted(self.rows, side="right") - 1
        for some in np.split(np.arange(owner.size), np.flatnonzero(np.diff(owner)) + 1):
            if some.size:
                k = int(owner[some[0]])
                batch = self.batches[k].select(list(names or NAMES))
                within = self.rows[some] - self.starts[k]
                first, last = int(within[0]), int(within[-1])
                is_run = last - first + 1 == within.size and bool((np.diff(within) == 1).all())
                yield batch.slice(first, within.size) if is_run else batch.take(_numbers(within))


@dataclass(frozen=True, slots=True)
class Texts(Sequence[str]):
    """The texts of records, of which one is in memory only while it is looked at."""

    records: Records

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        return Texts(self.records[place]) if isinstance(place, slice) else self.records.text(place)

    def __iter__(self) -> Iterator[str]:
        return self.records.column("text")


def _record(own_id: bytes, text: bytes, line: int, n_prompt: int, file: bytes, form: bytes, more: bytes) -> Record:
    chat, gaps = pickle.loads(more) if more else (None, ())  # this process wrote it into a nameless file
    return Record(_text(own_id), _text(text), line, n_prompt, _text(file), _text(form), chat, gaps)


def _numbers(values: NDArray[np.integer[Any]]) -> Any:
    """A column of numbers; pyarrow's own way from Python to a column loads pandas, a third of a second."""
    import pyarrow as pa  # heavy

    return pa.Array.from_buffers(pa.int64(), values.size, [None, pa.py_buffer(values.astype(np.int64))])


def _bytes(values: Sequence[bytes]) -> Any:
    """A column of bytes."""
    import pyarrow as pa

    ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(values), buffers)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@dataclass(slots=True)
class Writer:
    """Takes records one by one and puts them into columns."""

    _waiting: list[tuple[Any, ...]] = field(default_factory=list)
    _n_characters: int = 0
    _batches: list[Any] = field(default_factory=list)
    _n_bytes: int = 0
    _file: Any = None
    _out: Any = None
    _n_written: int = 0

    def add(self, record: Record) -> None:
        """Put one record behind the others.

        Raises:
            DiskFullError: the folder for temporary files is full.
        """
        more = pickle.dumps((record.chat, record.gaps)) if record.chat or record.gaps else b""
        text, own_id, file, form = (_raw(one) for one in (record.text, record.id, record.file, record.form))
        self._waiting.append((own_id, text, record.line, record.n_prompt, file, form, more))
        self._n_characters += len(text)
        if len(self._waiting) >= ROWS or self._n_characters >= CHARACTERS:
            self._close_batch()

    def records(self) -> Records:
        """All records; none can be added any more.

        Raises:
            DiskFullError: the folder for temporary files is full.
        """
        import pyarrow as pa

        self._close_batch()
        batches = self._batches
        if self._out is not None:
            with _naming_a_full_disk():
                self._out.close()
                self._file.flush()
            with self._file:
                mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            found = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)))
            batches = [found.get_batch(k) for k in range(found.num_record_batches)]
        return of_batches(batches)

    def _close_batch(self) -> None:
        import pyarrow as pa  # heavy

        if not self._waiting:
            return
        columns = [
            _numbers(np.array(values)) if name in NUMBERS else _bytes(values)
            for name, values in zip(NAMES, zip(*self._waiting, strict=True), strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(columns, names=list(NAMES))
        self._waiting, self._n_characters = [], 0
        self._batches.append(batch)
        self._n_bytes += batch.nbytes
        if self._n_bytes <= IN_MEMORY:
            return
        with _naming_a_full_disk():
            if self._out is None:
                self._file = tempfile.TemporaryFile(prefix="kdaudit-")  # noqa: SIM115 # mapped, then closed, by `records`
                self._out = pa.ipc.new_file(self._file, batch.schema)
            for one in self._batches:
                self._out.write_batch(one)
        self._batches = []


@contextmanager
def _naming_a_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskFullError(
            f"{tempfile.gettempdir()}: the records do not fit into the folder for temporary files "
            f"({error.strerror or error})",
            hint="name a folder with more room by the variable TMPDIR",
        ) from error


def of_batches(batches: Sequence[Any]) -> Records:
    """All rows of some batches."""
    sizes = np.array([0, *(batch.num_rows for batch in batches)], dtype=np.int64)
    ends = np.cumsum(sizes)
    return Records(tuple(batches), ends[:-1], np.arange(ends[-1]))


def held(records: Iterable[Record]) -> Records:
    """Records in columns; as they are, where they lie there already."""
    if isinstance(records, Records):
        return records
    writer = Writer()
    for record in records:
        writer.add(record)
    return writer.records()


def texts_of(records: Sequence[Record]) -> Sequence[str]:
    """The texts of some records."""
    return Texts(records) if isinstance(records, Records) else [record.text for record in records]


def column(records: Sequence[Record], name: str) -> Iterator[Any]:
    """One of NAMES of every record, `more` apart."""
    return records.column(name) if isinstance(records, Records) else (getattr(one, name) for one in records)


def chosen(records: Sequence[Record], places: Sequence[int] | NDArray[np.integer[Any]]) -> Sequence[Record]:
    """The records at some places."""
    return records.take(places) if isinstance(records, Records) else tuple(records[int(i)] for i in places)


def completed(records: Records, ids: Sequence[str] | None, *, is_many: bool) -> Records:
    """All records with ids where they have none; without files, unless the set `is_many` of them.

    Args:
        records: every row, in the order in which they were written.
        ids: (n,), of each record, whether it needs one or not; None: all have one.
        is_many: whether the file of a record says anything.
    """
    batches = []
    for batch, start in zip(records.batches, records.starts.tolist(), strict=True):
        n = batch.num_rows
        whole = batch
        if ids is not None:
            own = batch.column("id").to_pylist()
            made = [one or _raw(given) for one, given in zip(own, ids[start : start + n], strict=True)]
            whole = whole.set_column(NAMES.index("id"), "id", _bytes(made))
        if not is_many:
            whole = whole.set_column(NAMES.index("file"), "file", _bytes([b""] * n))
        batches.append(whole)
    return of_batches(batches)
