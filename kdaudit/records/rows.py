"""Raw rows out of files: one row per line or table row, or what is wrong with it."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice
from typing import Any, BinaryIO

from kdaudit.errors import RecordsError, did_you_mean
from kdaudit.foreign import reading, reason
from kdaudit.records.layout import OF_CHATS, UNREAD, Layout, holds_records, wanted

WIDE_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # UTF-32 LE starts as UTF-16 LE does
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
TO_UTF8 = "convert it: iconv -f ENCODING -t UTF-8 FILE > NEW (ENCODING is UTF-16 or LATIN1, for example)"
ROWS_AT_A_TIME = 1000  # rows of a column store in memory beside the texts that were kept
CHATS_AT_A_TIME = 20
SHOWN_NAMES = 10
MAX_CHARACTERS = 2**22
"""Characters of one text: what a model with a context of a million tokens reads."""
MAX_LINE = 2**26
"""Bytes of a line: a file without line ends does not hold records."""
MAX_JSON_LIST = 2**30
"""Bytes of a file that is one JSON value: it is in memory as a whole."""
MAX_PROBLEMS = 10_000
"""After which a file is read no further."""
MAX_COLUMNS = 10_000
MAX_ROWS = 10**7
"""Rows of a Parquet file, whose packing makes any number out of nothing."""
UNPACKED = 2**30
"""Bytes of a Parquet file's wanted columns, unpacked, up to which their packing is not looked at."""
MAX_PACKING = 100
"""Times that larger columns may be packed; texts are packed two to ten times."""
DELIMITERS = (",", ";", "\t", "|")
SEPARATOR = re.compile(r"sep=([,;\t|])\r?\n?")  # what Excel writes and reads in front of a table
HEADER_LINES = 8  # in which the header of a table must begin for its delimiter to be looked for


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source, before anything about its fields is checked."""

    line: int
    """Line of the file (the first one, where a quoted text spans several) or row of the table, from 1."""
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one row cannot be used. Never holds any of its text."""

    line: int
    what: str
    hint: str = ""
    is_empty: bool = False
    """Whether there is nothing but an empty text to be said against it."""


def json_rows(file: BinaryIO, label: str, layout: Layout) -> Iterator[Row | Problem]:
    """One JSON object per line, or one JSON string, which is a text; blank lines hold no record and are skipped."""
    for number, line in enumerate(_lines(file, label), start=1):
        if isinstance(line, Problem):
            yield line
        elif line.strip(" \t\r\n"):
            yield _json_row(number, line, layout)


def json_list_rows(file: BinaryIO, label: str, layout: Layout, field: str | None = None) -> Iterator[Row | Problem]:
    """Rows of a file that is one JSON value: a list of records, an object that holds one, or a single record.

    The n-th of the list is row n. A string in the list is a text.

    Args:
        file: opened.
        label: of the source, for messages.
        layout: which fields a record has.
        field: of the object that holds the list. None: the only one of its fields that can be it.

    Raises:
        RecordsError: the file is of another form, or larger than `MAX_JSON_LIST`.
    """
    hint = "write one JSON object per line: jq -c '.[]' FILE"
    raw = file.read(MAX_JSON_LIST + 1)
    if len(raw) > MAX_JSON_LIST:
        raise RecordsError(f"{label}: one JSON value of more than {MAX_JSON_LIST:,} bytes", hint=hint)
    encoding = next((name for bom, name in WIDE_BOMS.items() if raw.startswith(bom)), "utf-8-sig")
    try:
        found = json.loads(raw.decode(encoding))
    except json.JSONDecodeError as error:
        what = f"not readable JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise RecordsError(f"{label}: {what}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise RecordsError(f"{label}: not valid {encoding} at byte {error.start + 1}", hint=TO_UTF8) from error
    except (ValueError, RecursionError) as error:
        raise RecordsError(f"{label}: JSON with a number or a nesting beyond what can be read", hint=hint) from error
    listed = found.get(field) if field is not None and isinstance(found, dict) else _listed(found, label, layout)
    if not isinstance(listed, list):
        raise RecordsError(f"{label}: holds no list of records", hint=hint)
    for number, value in enumerate(listed, start=1):
        yield _json_record(number, value, layout)


def _listed(found: object, label: str, layout: Layout) -> object:
    """The list of records in a JSON value."""
    if not isinstance(found, dict) or holds_records(found.keys(), layout):
        return [found] if isinstance(found, dict) else found
    lists = [
        name for name, value in found.items()
        if name not in OF_CHATS and isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    ]  # fmt: skip
    if len(lists) > 1:
        raise RecordsError(
            f"{label}: an object with {len(lists)} lists of records: {shown(lists)}",
            hint=f"write the one that you mean as lines: jq -c '.{lists[0]}[]' FILE",
        )
    return found[lists[0]] if lists else None


def text_rows(file: BinaryIO, label: str, layout: Layout) -> Iterator[Row | Problem]:
    """One text per line, per paragraph or for the whole file; the line break at its end is not part of it.

    A paragraph ends at a blank line; its lines keep the breaks between them.
    """
    field, start, kept, room = layout.text_field, 1, list[str](), MAX_CHARACTERS
    for number, line in enumerate(_lines(file, label), start=1):
        if isinstance(line, Problem):
            yield line
        elif layout.txt_record == "line":
            yield Row(number, {field: _unbroken(line)})
        elif layout.txt_record == "file" or line.strip():
            start, room = (start, room) if kept else (number, MAX_CHARACTERS)
            room -= len(line)
            if room < 0:
                what = f"the text that begins in line {start} has more than {MAX_CHARACTERS:,} characters"
                raise RecordsError(f"{label}: {what}", hint="cut it into several records, or give --txt-record line")
            kept.append(line)
        elif kept:
            yield Row(start, {field: _unbroken("".join(kept))})
            kept = []
    if kept:
        yield Row(start, {field: _unbroken("".join(kept))})


def _unbroken(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def table_rows(file: BinaryIO, label: str, layout: Layout, *, delimiter: str) -> Iterator[Row | Problem]:
    """CSV or TSV with a header; a quoted field may hold line breaks.

    Args:
        file: opened.
        label: of the source, for messages.
        layout: the columns of a record.
        delimiter: the usual one; another is taken where the header holds the text only with it, or where a first
            line `sep=;` names it.

    Raises:
        RecordsError: the header lacks the text or names a column twice.
    """
    csv.field_size_limit(MAX_CHARACTERS)  # the default refuses texts of more than 131072 characters
    undecodable: list[Problem] = []

    def decoded() -> Iterator[str]:
        for line in _lines(file, label):
            if isinstance(line, Problem):
                undecodable.append(line)
                if len(undecodable) == MAX_PROBLEMS:
                    return
            yield "\n" if isinstance(line, Problem) else line  # a blank line keeps the line numbers right

    read = decoded()
    head = list(islice(read, HEADER_LINES))
    said = SEPARATOR.fullmatch(head[0]) if head else None
    if said:
        head[0] = "\n"
    delimiter = said[1] if said else _delimiter(head, layout, usual=delimiter)
    lines = chain(head, read)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)  # else an open quote swallows the file
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            if cells and header is None and not undecodable:
                header = cells
                if len(header) > MAX_COLUMNS:
                    raise RecordsError(f"{label}: {len(header):,} columns, and at most {MAX_COLUMNS:,} can be meant")
                require_field(label, layout, header, noun="column", is_header=True)
            elif cells and header is not None:
                yield _table_row(start, header, cells)
            start = reader.line_num + 1
    except csv.Error as error:
        yield Problem(start, f"broken table row: {error}", "a field that holds a quote is quoted, its quotes doubled")
    yield from undecodable


def table_delimiter(file: BinaryIO, label: str, layout: Layout, *, usual: str) -> str:
    """The delimiter that `table_rows` will find; the file is at its start again afterwards."""
    head = [line for line in islice(_lines(file, label), HEADER_LINES) if isinstance(line, str)]
    file.seek(0)
    said = SEPARATOR.fullmatch(head[0]) if head else None
    return said[1] if said else _delimiter(head, layout, usual=usual)


def _delimiter(head: list[str], layout: Layout, *, usual: str) -> str:
    """The one under which the header holds what a record needs; spreadsheets write semicolons in many languages."""
    first = next((line for line in head if line.strip()), "").rstrip("\r\n")
    beside: list[str] = re.findall(
        rf"""(?:^|[^\w\s"'.-])["']?{re.escape(layout.text_field)}["']?([^\w\s"'.-])""", first
    )
    before: list[str] = re.findall(rf"""([^\w\s"'.-])["']?{re.escape(layout.text_field)}["']?$""", first)
    for delimiter in dict.fromkeys((usual, *DELIMITERS, *beside, *before)):
        with suppress(csv.Error):
            names: list[str] = next(csv.reader([first], delimiter=delimiter, strict=True), [])
            if holds_records(names, layout):
                return delimiter
    return usual


def parquet_rows(file: BinaryIO, label: str, layout: Layout) -> Iterator[Row]:
    """Rows of a Parquet file; only the columns that a record needs are read.

    Raises:
        RecordsError: it is not a Parquet file, or it lacks the text.
    """
    import pyarrow.parquet  # heavy
    from pyarrow import ArrowException, types

    hint = "write the file again"
    with reading(f"{label}: not a readable Parquet file", RecordsError, hint=hint):
        schema = pyarrow.parquet.ParquetFile(file).schema_arrow
        names = schema.names
        require_field(label, layout, names, noun="column")
        columns = wanted(names, layout)
        plain = [name for name in columns if types.is_string(schema.field(name).type) and name not in OF_CHATS]
        # a text that stands there a million times stays one text
        table = pyarrow.parquet.ParquetFile(file, read_dictionary=plain)
        _check_parquet_size(table.metadata, columns, label)
    start = 1
    # chats come one by one, however often they are the same
    at_a_time = CHATS_AT_A_TIME if OF_CHATS & {*columns} else ROWS_AT_A_TIME
    batches = table.iter_batches(batch_size=at_a_time, columns=columns)
    while True:
        try:
            batch = next(batches, None)
            found = {} if batch is None else {name: _values(batch.column(name), label) for name in columns}
        except (ArrowException, OSError) as error:
            raise RecordsError(f"{label}: not a readable Parquet file: {reason(error)}", hint=hint) from error
        except UnicodeDecodeError as error:
            way_out = "write the column as UTF-8"
            raise RecordsError(f"{label}: a string that is not valid UTF-8", hint=way_out) from error
        if batch is None:
            return
        yield from column_rows(start, found, names)
        start += batch.num_rows


def _check_parquet_size(metadata: Any, columns: Sequence[str], label: str) -> None:
    """Refuse what would unpack to more than any set of records, by what the file says of itself."""
    if metadata.num_rows > MAX_ROWS:
        raise RecordsError(f"{label}: {metadata.num_rows:,} rows, and at most {MAX_ROWS:,} can be read")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    parts = [group.column(i) for group in groups for i in range(group.num_columns)]
    wanted = [part for part in parts if part.path_in_schema.split(".")[0] in columns]
    unpacked = sum(part.total_uncompressed_size for part in wanted)
    packed = sum(part.total_compressed_size for part in wanted)
    if unpacked > UNPACKED and unpacked > MAX_PACKING * packed:
        raise RecordsError(
            f"{label}: {packed:,} bytes that would unpack to {unpacked:,}, and texts are packed {MAX_PACKING} times at "
            "most",
            hint="write the texts as .jsonl",
        )


def _values(column: Any, label: str) -> list[object]:
    """The values of a column; equal ones are one object where the file says that they are equal."""
    from pyarrow import compute, types

    if not types.is_dictionary(column.type):
        return list(column.to_pylist())
    words = column.dictionary
    if types.is_string(words.type) or types.is_large_string(words.type):
        longest = compute.max(compute.binary_length(words)).as_py() or 0
        if longest > 4 * MAX_CHARACTERS:  # bytes
            raise RecordsError(f"{label}: a text of {longest:,} bytes, and at most {MAX_CHARACTERS:,} characters fit")
    known = [*words.to_pylist(), None]
    return [known[-1 if index is None else index] for index in column.indices.to_pylist()]


def column_rows(start: int, columns: Mapping[str, list[object]], names: Iterable[str]) -> Iterator[Row]:
    """Rows out of columns of equal length; the first one is row `start`.

    Columns give every object of a list the keys of all the others: those without a value are left out of chats.

    Args:
        start: number of the first row.
        columns: those that were read.
        names: of all columns; those that were not read are UNREAD in every row.
    """
    unread = dict.fromkeys((name for name in names if name not in columns), UNREAD)
    for line, values in enumerate(zip(*columns.values(), strict=True), start=start):
        found = dict(zip(columns, values, strict=True))
        chats = {name: _without_gaps(value) for name, value in found.items() if name in OF_CHATS}
        yield Row(line, {**unread, **found, **chats})


def _without_gaps(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _without_gaps(one) for name, one in value.items() if one is not None or name == "content"}
    return [_without_gaps(one) for one in value] if isinstance(value, list) else value


def require_field(label: str, layout: Layout, names: Iterable[str], *, noun: str, is_header: bool = False) -> None:
    """Raise a RecordsError unless `names` holds what a record needs, and no name twice."""
    names = list(names)
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise RecordsError(f"{label}: {noun} {shown(repeated)} stands in the header twice", hint="rename one of them")
    if not holds_records(names, layout) and not {*layout.more} & {*names}:
        field = layout.text_field
        # a CSV file without header has a record where the names should be
        what = f"no {noun} '{field}' among {len(names)}" if is_header else missing(field, names, noun=noun)
        raise RecordsError(f"{label}: {what}", hint=nearest(field, names))


def missing(field: str, names: Iterable[str], *, noun: str = "field") -> str:
    """Say that `field` is not among `names`, and what is."""
    return f"no {noun} '{field}'; {noun}s: {shown(names) or 'none'}"


def nearest(field: str, names: Iterable[str], *, option: str = "--text-field") -> str:
    """The way out of a missing field."""
    way_out = f"name the field by {option}"
    return did_you_mean(field, filter(is_name, names), written=lambda name: f"{option} {name}", otherwise=way_out)


def shown(names: Iterable[str]) -> str:
    """Names of fields for a message; what does not look like one may be a text of a file without header."""
    names = list(names)
    listed = [name if is_name(name) else f"({len(name)} characters)" for name in names[:SHOWN_NAMES]]
    return ", ".join(listed) + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


def is_name(name: str) -> bool:
    """Whether it looks like the name of a field, and not like a text."""
    return re.fullmatch(r"[\w.;|-]{1,40}", name) is not None


def _json_row(number: int, line: str, layout: Layout) -> Row | Problem:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return Problem(number, f"broken JSON at column {error.colno}: {error.msg}", "one JSON object per line")
    except (ValueError, RecursionError):
        return Problem(number, "JSON with a number or a nesting beyond what can be read")
    return _json_record(number, value, layout)


def _json_record(number: int, value: object, layout: Layout) -> Row | Problem:
    if isinstance(value, str):
        return Row(number, {layout.text_field: value})
    return Row(number, value) if isinstance(value, dict) else _no_object(number, value)


def _no_object(number: int, value: object) -> Problem:
    return Problem(number, f"{kind(value)} where a JSON object is needed", 'one object per line: {"text": "…"}')


def _table_row(line: int, header: list[str], cells: list[str]) -> Row | Problem:
    if len(cells) != len(header):
        what = f"{len(cells)} fields where the header has {len(header)}"
        return Problem(line, what, "quote a text that holds a delimiter or a line break")
    return Row(line, dict(zip(header, cells, strict=True)))


def kind(value: object) -> str:
    """What a value is, in the words of a data file."""
    if value is None:
        return "null"
    names = {bool: "true or false", str: "a string", bytes: "bytes", dict: "an object", list: "a list"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


def _lines(file: BinaryIO, label: str) -> Iterator[str | Problem]:
    """Lines with their breaks, split at line feeds alone: str.splitlines would also cut at U+2028 inside a text."""
    offset = 0
    for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
        wide = next((name for bom, name in WIDE_BOMS.items() if raw.startswith(bom)), None) if number == 1 else None
        if wide:
            file.seek(0)
            yield from _wide_lines(file, label, wide)
            return
        if len(raw) > MAX_LINE:
            raise RecordsError(f"{label}: line {number} has more than {MAX_LINE:,} bytes", hint="one record in a line")
        bom = len(codecs.BOM_UTF8) if number == 1 and raw.startswith(codecs.BOM_UTF8) else 0
        yield _decoded(number, raw[bom:], offset + bom)
        offset += len(raw)


def _wide_lines(file: BinaryIO, label: str, encoding: str) -> Iterator[str | Problem]:
    """Lines of UTF-16 or UTF-32 behind a byte order mark."""
    text = TextIOWrapper(file, encoding=encoding, newline="\n")
    try:
        for number, line in enumerate(iter(lambda: text.readline(MAX_LINE + 1), ""), start=1):
            if len(line) > MAX_LINE:
                what = f"line {number} has more than {MAX_LINE:,} characters"
                raise RecordsError(f"{label}: {what}", hint="one record in a line")
            yield Problem(number, "a NUL character", TO_UTF8) if "\0" in line else line
    except UnicodeError as error:
        raise RecordsError(f"{label}: not valid {encoding.upper()}: {reason(error)}", hint=TO_UTF8) from error
    finally:
        text.detach()  # else it closes the file


def _decoded(number: int, raw: bytes, offset: int) -> str | Problem:
    if b"\0" in raw:
        return Problem(number, f"a NUL byte at byte {offset + raw.index(0) + 1} of the file", TO_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return Problem(number, f"not valid UTF-8 at byte {offset + error.start + 1} of the file", TO_UTF8)
