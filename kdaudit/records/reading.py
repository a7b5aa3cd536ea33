"""From a source to a checked set of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kdaudit.errors import RecordsError, did_you_mean
from kdaudit.foreign import check_regular
from kdaudit.records import hub, rows
from kdaudit.records.rows import MAX_PROBLEMS, Problem, Row
from kdaudit.records.sets import Record, RecordSet, digest, keyed_ids

SUFFIXES = (".jsonl", ".ndjson", ".json-lines", ".csv", ".tsv", ".txt", ".parquet")
IN_MEMORY = "in memory"
"""The source of records that lie in no file."""
SHOWN_KINDS = 3  # different problems in one message
SHOWN_LINES = 5  # lines for each of them

Read = Callable[..., RecordSet]
"""Reads a source as `read` does: (source, option=, text_field=, id_field=, render=) -> its records."""

Render = Callable[[Sequence[Mapping[str, object]]], tuple[str, str]]
"""Chat messages, the last one an answer -> the text before the answer, and the whole text.

A ValueError says what the template does with these messages instead: refuses or fails."""

TEMPLATE_HINT = "look at the roles and their order, or apply a template that you know and give prompt and completion"


def read(
    source: str,
    *,
    option: str,
    text_field: str = "text",
    id_field: str = "id",
    render: Render | None = None,
) -> RecordSet:
    """Read the records of a file or a Hub data set.

    A record is a text; or `prompt` and `completion`, or chat `messages` that end with an answer: of these the
    completion or the answer alone is learnt and scored.

    A text that stands there again is dropped and counted. A record without an id gets a keyed hash of its
    text (see `keyed_ids`). Error messages hold ids, lines, field names and types, never any text.

    Args:
        source: path of a .jsonl, .ndjson, .json-lines, .csv, .tsv, .txt (each line is a text) or .parquet file,
            UTF-8 with or without BOM, or `hub:name[:config]:split`.
        option: the option that named the source, for messages: `--members`.
        text_field: field with the text; a .txt file has no fields.
        id_field: field with the id, a string or an integer; it may be absent or null.
        render: applies a model's chat template to messages; None where there is no model to take it from.

    Raises:
        RecordsError: the source cannot be read, or a row of it cannot be used; one error for all rows.
        HubError: the data set can neither be reached nor found in the local cache.
    """
    label = f"{option} {source}"
    unit = "row" if source.startswith(hub.PREFIX) or source.lower().endswith(".parquet") else "line"
    return _checked(_rows(source, label, text_field, id_field), option, source, unit, text_field, id_field, render)


def collect(
    given: Iterable[str | Mapping[str, object]],
    *,
    option: str,
    text_field: str = "text",
    id_field: str = "id",
    render: Render | None = None,
) -> RecordSet:
    """The records of texts, or of fields by name, that are in memory; they are checked as those of a file are.

    Args:
        given: one text or one mapping for each record; the n-th is row n.
        option: what they were given as, for messages: `members`.
        text_field: see `read`.
        id_field: see `read`.
        render: see `read`.

    Raises:
        RecordsError: a row cannot be used; one error for all rows.
    """
    found = (_row_in_memory(number, value, text_field) for number, value in enumerate(given, start=1))
    return _checked(found, option, IN_MEMORY, "row", text_field, id_field, render)


def _row_in_memory(number: int, value: object, text_field: str) -> Row | Problem:
    if isinstance(value, Mapping):
        return Row(number, {str(name): field for name, field in value.items()})
    if isinstance(value, str):
        return Row(number, {text_field: value})
    return Problem(number, f"{rows.kind(value)} where a text or a mapping is needed", "give texts, or fields by name")


def _checked(
    given: Iterable[Row | Problem],
    option: str,
    source: str,
    unit: str,
    text_field: str,
    id_field: str,
    render: Render | None,
) -> RecordSet:
    label = f"{option} {source}"
    found: list[tuple[int, str | None, str, int]] = []
    known: dict[str, str] = {}
    problems: list[Problem] = []
    has_id_field = False
    for row in given:
        if isinstance(row, Row):
            has_id_field = has_id_field or id_field in row.fields
            shown = _shown(row, text_field, render, known)
            problem = shown if isinstance(shown, Problem) else _id_problem(row, id_field)
            if not isinstance(shown, Problem) and problem is None:
                text = known.setdefault(shown[0], shown[0])  # a million copies are one text in memory
                found.append((row.line, _id(row.fields.get(id_field)), text, shown[1]))
        else:
            problem = row
        if problem is not None:
            problems.append(problem)
            if len(problems) == MAX_PROBLEMS:
                raise _refusal(label, problems, unit)
    records = _distinct(found)
    problems += _shared_ids(records)
    if problems:
        raise _refusal(label, sorted(problems, key=lambda problem: problem.line), unit)
    if not records:
        raise RecordsError(f"{label}: holds no record", hint="give at least one text")
    if id_field != "id" and not has_id_field:
        raise RecordsError(f"{label}: no record has the field '{id_field}'", hint="correct or drop --id-field")
    return RecordSet(option, source, records, len(found) - len(records), digest(records))


def _rows(source: str, label: str, text_field: str, id_field: str) -> Iterator[Row | Problem]:
    if source.startswith(hub.PREFIX):
        yield from hub.hub_rows(source, label, text_field, id_field)
        return
    with _opened(source, label) as file:
        match Path(source).suffix.lower():
            case ".jsonl" | ".ndjson" | ".json-lines":
                yield from rows.json_rows(file, label)
            case ".csv":
                yield from rows.table_rows(file, label, text_field, delimiter=",")
            case ".tsv":
                yield from rows.table_rows(file, label, text_field, delimiter="\t")
            case ".txt":
                yield from rows.text_rows(file, label, text_field)
            case ".parquet":
                yield from rows.parquet_rows(file, label, text_field, id_field)
            case suffix:
                raise RecordsError(f"{label}: unknown kind of file '{suffix}'", hint=f"kdaudit reads {_kinds(suffix)}")


def _kinds(suffix: str) -> str:
    listed = f"{', '.join(SUFFIXES)} and hub:name[:config]:split"
    return f"{listed}; a JSON list becomes .jsonl by jq -c '.[]' FILE" if suffix == ".json" else listed


@contextmanager
def _opened(source: str, label: str) -> Iterator[BinaryIO]:
    path = Path(source)
    try:
        check_regular(path)
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise RecordsError(f"{label}: no such file", hint=_near_files(path)) from error
    except IsADirectoryError as error:
        inside = ", ".join(sorted(name for name in _names_in(path) if Path(name).suffix.lower() in SUFFIXES)[:5])
        hint = f"give one of its files: {inside}" if inside else "give a file"
        raise RecordsError(f"{label}: is a folder, not a file", hint=hint) from error
    except OSError as error:
        raise RecordsError(f"{label}: cannot be opened: {error.strerror}", hint="check its permissions") from error
    with file:
        if not file.peek(1):
            raise RecordsError(f"{label}: is empty", hint="give a file with at least one text")
        yield file


def _near_files(path: Path) -> str:
    return did_you_mean(
        path.name, _names_in(path.parent), written=lambda name: str(path.parent / name), otherwise="check the path"
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except (OSError, ValueError):  # it only serves a suggestion
        return []


def _shown(row: Row, field: str, render: Render | None, known: Mapping[str, str]) -> tuple[str, int] | Problem:
    """The text of a row and the characters of it that are a prompt, or what is wrong with it; `known` ones are well."""
    if field in row.fields:
        text = row.fields[field]
        if isinstance(text, str) and text in known:
            return text, 0
        return _text_problem(row, field, row.fields[field]) or (str(row.fields[field]), 0)
    if rows.CHAT in row.fields:
        return _answer(row, render)
    if set(rows.PAIR) <= set(row.fields):
        prompt, completion = (row.fields[name] for name in rows.PAIR)
        # an empty prompt is none, an empty completion leaves nothing to score
        problem = None if prompt == "" else _text_problem(row, rows.PAIR[0], prompt)
        problem = problem or _text_problem(row, rows.PAIR[1], completion)
        return problem or (f"{prompt}{completion}", len(str(prompt)))
    return Problem(row.line, rows.missing(field, row.fields), rows.nearest(field, row.fields))


def _answer(row: Row, render: Render | None) -> tuple[str, int] | Problem:
    messages = row.fields[rows.CHAT]
    if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
        what = f"field '{rows.CHAT}' is not a list of messages"
        return Problem(row.line, what, 'each message is {"role": "user", "content": "…"}')
    if messages[-1]["role"] != "assistant":
        return Problem(row.line, "the last message is not the assistant's", "end each chat with the answer to score")
    if render is None:
        return Problem(row.line, f"field '{rows.CHAT}' needs a model's chat template", "give texts instead")
    try:
        prompt, whole = render(messages)
    except ValueError as error:
        return Problem(row.line, f"the chat template {error}", TEMPLATE_HINT)
    if not whole.startswith(prompt) or len(whole) == len(prompt):
        what = "the chat template does not put the answer after the other messages"
        return Problem(row.line, what, "apply the template yourself and give prompt and completion")
    return _encoding_problem(row.line, whole, f"field '{rows.CHAT}'") or (whole, len(prompt))


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(name), str) for name in ("role", "content"))


def _text_problem(row: Row, field: str, text: object) -> Problem | None:
    if not isinstance(text, str):
        return Problem(row.line, f"field '{field}' is {rows.kind(text)}, not a string", "every text is a string")
    if len(text) > rows.MAX_CHARACTERS:
        what = f"a text of {len(text):,} characters, and at most {rows.MAX_CHARACTERS:,} can be read"
        return Problem(row.line, what, "cut it into several records")
    if not text.strip():
        what = "only whitespace" if text else "an empty text"
        return Problem(row.line, what, "remove the record or give it a text")
    return _encoding_problem(row.line, text, f"field '{field}'")


def _id_problem(row: Row, field: str) -> Problem | None:
    value = row.fields.get(field)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return None
    if not isinstance(value, str):
        return Problem(row.line, f"field '{field}' is {rows.kind(value)}", "an id is a string or an integer")
    return _encoding_problem(row.line, value, f"field '{field}'")


def _encoding_problem(line: int, value: str, what: str) -> Problem | None:
    if "\0" in value:
        return Problem(line, f"{what} holds a NUL character", "remove it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return Problem(line, f"{what} holds half a surrogate pair at character {error.start + 1}", "remove it")
    return None


def _id(value: object) -> str | None:
    """The id as a string; an empty cell of a table does not count as one."""
    return None if value is None or value == "" else str(value)


def _distinct(found: Sequence[tuple[int, str | None, str, int]]) -> tuple[Record, ...]:
    first: dict[str, tuple[int, str | None, int]] = {}
    for line, own_id, text, n_prompt in found:
        first.setdefault(text, (line, own_id, n_prompt))
    keyed = keyed_ids(list(first))
    return tuple(
        Record(keyed_id if own_id is None else own_id, text, line, n_prompt)
        for keyed_id, (text, (line, own_id, n_prompt)) in zip(keyed, first.items(), strict=True)
    )


def _shared_ids(records: Sequence[Record]) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    for record in records:
        line = first.setdefault(record.id, record.line)
        if line != record.line:
            what = f"id {record.id[:40]!r} stands on line {line} too, with another text"
            problems.append(Problem(record.line, what, "give every text an id of its own, or none at all"))
    return problems


def _refusal(label: str, problems: Sequence[Problem], unit: str) -> RecordsError:
    """One error for all unusable rows: the first few of the first few kinds of problem, and the count."""
    hint = problems[0].hint
    if len(problems) == 1:
        return RecordsError(f"{label}, {unit} {problems[0].line}: {problems[0].what}", hint=hint)
    lines: dict[str, list[int]] = {}
    for problem in problems:
        lines.setdefault(problem.what, []).append(problem.line)
    parts = [f"\n  {_listed(unit, numbers)}: {what}" for what, numbers in list(lines.items())[:SHOWN_KINDS]]
    rest = len(problems) - sum(len(numbers) for numbers in list(lines.values())[:SHOWN_KINDS])
    parts += [f"\n  and {rest} more"] if rest else []
    count = f"{len(problems)} {unit}s" if len(problems) < MAX_PROBLEMS else f"{MAX_PROBLEMS} {unit}s or more"
    return RecordsError(f"{label}: {count} cannot be used{''.join(parts)}", hint=hint)


def _listed(unit: str, numbers: Sequence[int]) -> str:
    head = ", ".join(str(number) for number in numbers[:SHOWN_LINES])
    more = f" and {len(numbers) - SHOWN_LINES} more" if len(numbers) > SHOWN_LINES else ""
    return f"{unit}{'s' if len(numbers) > 1 else ''} {head}{more}"
