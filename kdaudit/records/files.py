"""From what a user names to files, and from a file to its rows: its kind by its suffix, else by how it begins."""

from __future__ import annotations

import glob
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kdaudit.errors import RecordsError, did_you_mean
from kdaudit.foreign import LFS_POINTER, check_regular, is_file, is_folder
from kdaudit.records import columns, hub, packed, rows
from kdaudit.records.layout import Layout, holds_records
from kdaudit.records.rows import Problem, Row

STDIN = "-"
KINDS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json-lines": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".txt": "txt", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
"""By the suffix of a file, how it is read."""
WORDS = {
    "jsonl": "JSON lines", "json": "JSON", "csv": "a table", "txt": "one text per line", "parquet": "Parquet",
    "arrow": "Arrow",
}  # fmt: skip
ROW_KINDS = {"json", "parquet", "arrow"}
"""Kinds of files whose records are counted, where others have lines."""
HEAD = 2**16  # bytes that are looked at
SHOWN_FILES = 5


@dataclass(frozen=True, slots=True)
class Part:
    """One of the files that a set is in."""

    name: str
    """As a message calls it."""
    unit: str = "line"
    """What is counted in it: line or row."""
    notes: tuple[str, ...] = ()
    """What was found out about it and not said by the user."""


def read_source(source: str, option: str, layout: Layout) -> Iterator[tuple[Part, Row | Problem]]:
    """The rows of all that one source names, each with the file that it is in.

    Args:
        source: a file, a folder of shards, a pattern, `-`, a saved data set (`PATH` or `PATH:split`) or
            `hub:name[:config]:split`.
        option: the option that named it, for messages.
        layout: which fields a record has.

    Raises:
        RecordsError: it cannot be read.
        HubError: a data set can neither be reached nor found in the local cache.
    """
    label = f"{option} {source}"
    if source.startswith(hub.PREFIX):
        part = Part(source, "row")
        for found in hub.hub_rows(source, label, layout):
            yield part, found
    elif source == STDIN:
        with packed.piped(sys.stdin.buffer, label) as (file, n_bytes):
            yield from _file_rows(file, source, label, layout, n_bytes)
    elif (saved := columns.saved_folder(source, label)) is not None:
        part = Part(source, "row")
        for found in columns.saved_rows(saved, label, layout):
            yield part, found
    else:
        for name in files_of(source, label, layout):
            with _opened(name, f"{option} {name}") as file:
                yield from _file_rows(file, name, f"{option} {name}", layout, packed.size_of(file))


def is_there(source: str) -> bool:
    """Whether a source outside of the Hub names anything here."""
    path = Path(source)
    return path.exists() or path.parent.joinpath(path.name.partition(":")[0]).is_dir() or bool(_matches(source))


def check_source(source: str, label: str) -> None:
    """Refuse a source outside of the Hub that names nothing here; no record is read.

    Raises:
        RecordsError: there is no such file.
    """
    if source.startswith("hub:") or source == STDIN or is_there(source):
        return
    raise _no_match(label) if glob.has_magic(source) else _no_file(source, label)


def files_of(source: str, label: str, layout: Layout) -> list[str]:
    """The files that a path, a folder or a pattern names, in the order of their names.

    Raises:
        RecordsError: there is none, or a folder holds more than the shards of one set.
    """
    if is_folder(Path(source)):
        return _shards(source, label, layout)
    if found := [] if is_file(Path(source)) else _matches(source):
        return found
    if glob.has_magic(source) and not Path(source).exists():
        raise _no_match(label)
    return [source]


def _matches(source: str) -> list[str]:
    if not glob.has_magic(source) or "\0" in source:
        return []
    return sorted(name for name in glob.glob(source, recursive=True) if is_file(Path(name)))


def _shards(source: str, label: str, layout: Layout) -> list[str]:
    """The files of a folder, where all are of one name but for its numbers: others may be another split."""
    names = sorted(name for name in names_in(Path(source)) if suffix_of(name) in KINDS and not name.startswith("."))
    if not names:
        raise RecordsError(f"{label}: is a folder without files that can be read", hint=f"kdaudit reads {kinds()}")
    patterns = {re.sub(r"\d+", "*", name): name for name in names}
    if len(patterns) > 1 and not (layout.txt_record == "file" and {suffix_of(name) for name in names} == {".txt"}):
        listed = ", ".join(sorted(patterns.values())[:SHOWN_FILES])
        first = str(Path(source) / min(patterns))
        raise RecordsError(
            f"{label}: is a folder of {len(names)} files with different names ({listed}), which may be different sets",
            hint=f"give those that you mean by a pattern, such as '{first}'",
        )
    return [str(Path(source) / name) for name in names]


def suffix_of(name: str) -> str:
    """What says how a file is to be read, in small letters, without how it is packed."""
    return Path(packed.bare_name(name)).suffix.lower()


def kinds() -> str:
    """All that can be read, for messages."""
    return (
        f"{', '.join(KINDS)}, each also packed ({', '.join(packed.SUFFIXES)}), folders of them, 'PATTERN*', - for "
        "standard input, saved data sets and hub:name[:config]:split"
    )


def _file_rows(
    file: BinaryIO, name: str, label: str, layout: Layout, n_bytes: int
) -> Iterator[tuple[Part, Row | Problem]]:
    with packed.unpacked(file, label, n_bytes=n_bytes) as whole:
        if whole.read(len(LFS_POINTER)) == LFS_POINTER:
            raise RecordsError(
                f"{label}: is a pointer of Git LFS: the file itself was not fetched", hint="run `git lfs pull`"
            )
        whole.seek(0)
        kind, notes = _kind(whole, name, label, layout)
        part = Part(name, "row" if kind in ROW_KINDS else "line", tuple(notes))
        for row in _rows(whole, kind, label, layout):
            yield part, row


def _rows(file: BinaryIO, kind: str, label: str, layout: Layout) -> Iterator[Row | Problem]:
    match kind:
        case "jsonl":
            return rows.json_rows(file, label, layout)
        case "json":
            return rows.json_list_rows(file, label, layout)
        case "csv" | "tsv":
            return rows.table_rows(file, label, layout, delimiter="," if kind == "csv" else "\t")
        case "txt":
            return rows.text_rows(file, label, layout)
        case "parquet":
            return rows.parquet_rows(file, label, layout)
    return columns.arrow_rows(file, label, layout)


def _kind(file: BinaryIO, name: str, label: str, layout: Layout) -> tuple[str, list[str]]:
    """How a file is read, and what is to be said about it."""
    suffix, notes = suffix_of(name), []
    kind = KINDS.get(suffix)
    if suffix and kind is None and name != STDIN:
        raise RecordsError(f"{label}: unknown kind of file '{suffix}'", hint=f"kdaudit reads {kinds()}")
    if kind is None:
        kind = _sniffed(file, label, layout)
        notes.append(f"{label}: read as {WORDS[kind]}, by how it begins")
    if kind == "json" and not _is_one_value(file):
        kind = "jsonl"
    if kind in {"csv", "tsv"}:
        usual = "," if kind == "csv" else "\t"
        delimiter = rows.table_delimiter(file, label, layout, usual=usual)
        if delimiter != usual:
            notes.append(f"{label}: its columns are separated by {delimiter!r}")
    return kind, notes


def _sniffed(file: BinaryIO, label: str, layout: Layout) -> str:
    """The kind of a file without a suffix.

    Raises:
        RecordsError: it is of no kind that can be read.
    """
    head = file.read(HEAD)
    file.seek(0)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(columns.ARROW_MAGIC):
        return "arrow"
    if b"\0" in head and not head.startswith(tuple(rows.WIDE_BOMS)):
        raise RecordsError(f"{label}: has no suffix and is not text", hint=f"kdaudit reads {kinds()}")
    wide = next((encoding for bom, encoding in rows.WIDE_BOMS.items() if head.startswith(bom)), "utf-8-sig")
    begin = head.decode(wide, errors="ignore").lstrip()
    if begin[:1] in {"[", "{"}:
        return "json"
    usual = rows.table_delimiter(file, label, layout, usual=",")
    first = begin.partition("\n")[0].strip().split(usual)
    return "csv" if holds_records([name.strip("\"'") for name in first], layout) else "txt"


def _is_one_value(file: BinaryIO) -> bool:
    """Whether a file is one JSON value: a .json may hold lines as well."""
    begin = file.read(HEAD)
    file.seek(0)
    wide = begin.startswith(tuple(rows.WIDE_BOMS))
    first = b"" if wide else file.readline(rows.MAX_LINE)
    while first.strip() in {b"", b"\xef\xbb\xbf"} and first:
        first = file.readline(rows.MAX_LINE)
    rest = file.read(HEAD)
    file.seek(0)
    try:
        value = json.loads(first.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return True
    return not (isinstance(value, dict) and rest.strip())


@contextmanager
def _opened(source: str, label: str) -> Iterator[BinaryIO]:
    path = Path(source)
    try:
        check_regular(path)
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise _no_file(source, label) from error
    except OSError as error:
        raise RecordsError(f"{label}: cannot be opened: {error.strerror}", hint="check its permissions") from error
    with file:
        if not file.peek(1):
            raise RecordsError(f"{label}: is empty", hint="give a file with at least one text")
        yield file


def _no_match(label: str) -> RecordsError:
    return RecordsError(f"{label}: no file has such a name", hint="check the pattern; quote it: 'shards/*.jsonl'")


def _no_file(source: str, label: str) -> RecordsError:
    return RecordsError(f"{label}: no such file", hint=_near_files(Path(source)))


def _near_files(path: Path) -> str:
    return did_you_mean(
        path.name, names_in(path.parent), written=lambda name: str(path.parent / name), otherwise="check the path"
    )


def names_in(folder: Path) -> list[str]:
    """Names in a folder; none where it cannot be looked into."""
    try:
        return [path.name for path in folder.iterdir()]
    except (OSError, ValueError):  # it only serves a suggestion
        return []
