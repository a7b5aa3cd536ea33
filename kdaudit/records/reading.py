"""From sources to a checked set of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kdaudit.config import ASSISTANT, LAST, WHOLE
from kdaudit.errors import RecordsError
from kdaudit.records import benchmarks, rows
from kdaudit.records.files import Part, read_source
from kdaudit.records.forms import TALK, TEXT, Chat, find_record, unread
from kdaudit.records.layout import TEXT_FIELD, UNREAD, Layout, value_of
from kdaudit.records.record import Record
from kdaudit.records.rows import MAX_PROBLEMS, Problem, Row
from kdaudit.records.sets import RecordSet, digest, fingerprint, fingerprints, keyed_ids
from kdaudit.records.store import Records, Texts, Writer, completed
from kdaudit.records.turns import Render, Spans, answer_spans, between, earlier_answers

IN_MEMORY = "in memory"
"""The source of records that lie in no file."""
SHOWN_KINDS = 3  # different problems in one message
SHOWN_LINES = 5  # lines for each of them
SHOWN_SOURCES = 3

Read = Callable[..., RecordSet]
"""Reads sources as `read` does: (source, option=, text_field=, render=, …) -> their records."""

TEMPLATE_HINT = "look at the roles and their order, or apply a template that you know and give prompt and completion"
EMPTY_HINT = "remove the record or give it a text; --skip-empty leaves such records out"
Located = tuple[Part, Row | Problem]
SAID = {
    LAST: "where the assistant answers more than once in a chat, its last answer alone counts",
    ASSISTANT: "where the assistant answers more than once in a chat, every answer counts; --score chooses otherwise",
    WHOLE: "all of a chat counts, what the user says too (--score all)",
}
"""What is said of chats with several answers, by what is scored."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What models are shown of a row."""

    text: str
    n_prompt: int = 0
    gaps: Spans = ()
    form: str = TEXT
    chat: Chat | None = None


def read(source: str | Sequence[str], *, option: str, render: Render | None = None, **layout: Any) -> RecordSet:
    """Read the records of a file, of several or of a data set.

    A record is a text; or a prompt and an answer, or a chat that ends with one: of these the answers alone are learnt
    and scored. `kdaudit docs data` lists the forms.

    A text that stands there again is dropped and counted. A record without an id gets a keyed hash of its
    text (see `keyed_ids`). Error messages hold ids, lines, field names and types, never any text.

    Args:
        source: as `kdaudit.records.files.read_source` takes it; several are one set, in their order.
        option: the option that named the source, for messages: `--members`.
        render: applies a model's chat template; None where there is no model to take it from.
        layout: which fields a record has, see `Layout`.

    Raises:
        RecordsError: a source cannot be read, or a row of it cannot be used; one error for all rows.
        HubError: a data set can neither be reached nor found in the local cache.
    """
    sources, how = _named(source), Layout(**layout)
    found = (row for one in sources for row in read_source(one, option, how))
    return _checked(found, option, sources, how, render)


def read_both(
    source: str | Sequence[str],
    *,
    option: str,
    member_field: str | None = None,
    text_fields: tuple[str, str] | None = None,
    render: Render | None = None,
    **layout: Any,
) -> tuple[RecordSet, RecordSet]:
    """Read members and non-members that stand in the same sources.

    Args:
        source: as for `read`; a known benchmark says itself what is what.
        option: for messages: `--data`.
        member_field: says of every record whether it is a member.
        text_fields: those of a member's text and of a non-member's, where a row holds one of each; a row's id would be
            that of two texts, and is not read.
        render: as for `read`.
        layout: as for `read`.

    Raises:
        RecordsError: as for `read`; or nothing says what a record is.
        HubError: as for `read`.
    """
    sources, how = _named(source), Layout(**layout)
    sides: tuple[list[Located], list[Located]] = ([], [])
    for one in sources:
        for is_member, part, row in _told_apart(one, option, how, member_field, text_fields):
            sides[0 if is_member else 1].append((part, row))
    if broken := [(part, row) for part, row in sides[0] if isinstance(row, Problem)]:  # of either side
        raise _refusal(option, joined(sources), broken[:MAX_PROBLEMS])
    members, nonmembers = (
        _checked(side, f"{option} ({words})", sources, how, render)
        for side, words in zip(sides, ("members", "non-members"), strict=True)
    )
    return members, nonmembers


Apart = Iterator[tuple[bool, Part, Row | Problem]]


def _told_apart(
    source: str, option: str, layout: Layout, member_field: str | None, text_fields: tuple[str, str] | None
) -> Apart:
    """Rows, each with whether it is a member; problems come as if they were."""
    label = f"{option} {source}"
    if member_field or text_fields:
        yield from _by_fields(source, option, layout, member_field or "", text_fields)
    elif benchmarks.is_mimir(source):
        part = Part(source, "line", (f"{label}: a known benchmark; members are in its train files",))
        yield from ((is_member, part, row) for is_member, row in benchmarks.mimir_rows(source, label, layout))
    elif (known := benchmarks.labelled(source)) is not None:
        text_field = known.text_field if layout.text_field == TEXT_FIELD else layout.text_field
        said = f"{label}: a known benchmark; '{known.member_field}' says who is a member of the texts in '{text_field}'"
        its_own, spoken = replace(layout, text_field=text_field), Part(source, "row", (said,))
        for is_member, _, row in _by_fields(source, option, its_own, known.member_field, None):
            yield is_member, spoken, row if isinstance(row, Problem) else _renamed(row, text_field, layout)
    else:
        hint = "give --member-field FIELD, or --member-text-field FIELD and --nonmember-text-field FIELD"
        raise RecordsError(f"{label}: nothing says who is a member", hint=hint)


def _by_fields(
    source: str, option: str, layout: Layout, member_field: str, text_fields: tuple[str, str] | None
) -> Apart:
    for part, row in read_source(source, option, replace(layout, more=text_fields or (member_field,))):
        if isinstance(row, Problem):
            yield True, part, row
        elif text_fields:
            for is_member, name in zip((True, False), text_fields, strict=True):
                if value_of(row.fields, name) is not None:  # one side may have more texts than the other
                    renamed = _renamed(row, name, layout, keeps_id=False)
                    yield is_member or isinstance(renamed, Problem), part, renamed
        else:
            said = _is_member(row, member_field)
            yield (True, part, said) if isinstance(said, Problem) else (said, part, row)


MEMBER_WORDS = {
    **dict.fromkeys(("1", "true", "member", "members"), True),
    **dict.fromkeys(("0", "false", "nonmember", "non-member", "non_member", "nonmembers"), False),
}


def _is_member(row: Row, name: str) -> bool | Problem:
    value = value_of(row.fields, name)
    if value is UNREAD:
        return Problem(
            row.line, rows.missing(name, row.fields), rows.nearest(name, row.fields, option="--member-field")
        )
    said = value if isinstance(value, bool) else MEMBER_WORDS.get(str(value).strip().lower())
    if said is None or not isinstance(value, bool | int | str):
        what = f"field '{name}' is neither 1 nor 0, true nor false, member nor nonmember"
        return Problem(row.line, what, "say of every record whether it is a member")
    return said


def _renamed(row: Row, name: str, layout: Layout, *, keeps_id: bool = True) -> Row | Problem:
    """A row whose text is called as everywhere else."""
    text = value_of(row.fields, name)
    if text is UNREAD:
        return Problem(row.line, rows.missing(name, row.fields), rows.nearest(name, row.fields))
    own_id = value_of(row.fields, layout.id_field) if keeps_id else UNREAD
    return Row(row.line, {layout.text_field: text, **({} if own_id is UNREAD else {layout.id_field: own_id})})


def collect(
    given: Iterable[str | Mapping[str, object]], *, option: str, render: Render | None = None, **layout: Any
) -> RecordSet:
    """The records of texts, or of fields by name, that are in memory; they are checked as those of a file are.

    Args:
        given: one text or one mapping for each record; the n-th is row n.
        option: what they were given as, for messages: `members`.
        render: see `read`.
        layout: see `read`.

    Raises:
        RecordsError: a row cannot be used; one error for all rows.
    """
    how, part = Layout(**layout), Part(IN_MEMORY, "row")
    found = ((part, _row_in_memory(number, value, how.text_field)) for number, value in enumerate(given, start=1))
    return _checked(found, option, (IN_MEMORY,), how, render)


def _row_in_memory(number: int, value: object, text_field: str) -> Row | Problem:
    if isinstance(value, Mapping):
        return Row(number, {str(name): field for name, field in value.items()})
    if isinstance(value, str):
        return Row(number, {text_field: value})
    return Problem(number, f"{rows.kind(value)} where a text or a mapping is needed", "give texts, or fields by name")


def _named(source: str | Sequence[str]) -> tuple[str, ...]:
    return (source,) if isinstance(source, str) else tuple(source)


def joined(sources: Sequence[str]) -> str:
    """Several sources as one name for messages."""
    more = f" and {len(sources) - SHOWN_SOURCES} more" if len(sources) > SHOWN_SOURCES else ""
    return " + ".join(sources[:SHOWN_SOURCES]) + more


def _checked(
    given: Iterable[Located], option: str, sources: tuple[str, ...], layout: Layout, render: Render | None
) -> RecordSet:
    source = joined(sources)
    label = f"{option} {source}"
    writer, known = Writer(), set[bytes]()
    problems: list[tuple[Part, Problem]] = []
    parts: dict[Part, None] = {}
    unused: dict[str, None] = {}
    said: dict[str, None] = {}
    n_empty, n_duplicates, has_id_field = 0, 0, False
    last: Part | None = None
    for part, row in given:
        if part is not last:
            parts[part], last = None, part
        if isinstance(row, Row):
            has_id_field = has_id_field or value_of(row.fields, layout.id_field) is not UNREAD
            shown = _shown(row, layout, render, unused, said)
            problem = shown if isinstance(shown, Problem) else _id_problem(row, layout.id_field)
            if problem is not None and problem.is_empty and layout.skip_empty:
                n_empty += 1
                continue
            if not isinstance(shown, Problem) and problem is None:
                mark = fingerprint(shown.text)
                if mark in known:
                    n_duplicates += 1
                    continue
                known.add(mark)
                own_id = _id(value_of(row.fields, layout.id_field)) or ""
                writer.add(
                    Record(
                        own_id, shown.text, row.line, shown.n_prompt, part.name, shown.form, shown.chat, shown.gaps
                    )
                )  # fmt: skip
        else:
            problem = row
        if problem is not None:
            problems.append((part, problem))
            if len(problems) == MAX_PROBLEMS:
                raise _refusal(option, source, problems)
    del known
    records = _with_ids(writer.records(), is_many=len({part.name for part in parts}) > 1)
    problems += _shared_ids(records, parts)
    if problems:
        raise _refusal(option, source, problems)
    if not records:
        n_left = f": all {n_empty} of its texts are empty" if n_empty else ""
        raise RecordsError(f"{label}: holds no record{n_left}", hint="give at least one text")
    if layout.id_field != "id" and not has_id_field:
        raise RecordsError(f"{label}: no record has the field '{layout.id_field}'", hint="correct or drop --id-field")
    notes = [note for part in parts for note in part.notes]
    notes += [one if one in SAID.values() else f"{label}: {one}" for one in said]  # the same for all sets
    what = "1 empty text is" if n_empty == 1 else f"{n_empty} empty texts are"
    notes += [f"{label}: {what} left out (--skip-empty)"] if n_empty else []
    notes += [f"{label}: nothing is made of {rows.shown(sorted(unused))}"] if unused else []
    return RecordSet(
        option, source, records, n_duplicates, digest(records),
        sources=sources, notes=tuple(dict.fromkeys(notes)), n_empty=n_empty,
    )  # fmt: skip


def _shown(
    row: Row,
    layout: Layout,
    render: Render | None,
    unused: dict[str, None],
    said: dict[str, None],
) -> Rendered | Problem:
    """What models are shown of a row; or what is wrong with it.

    Fields that nothing is made of are put into `unused`, what was chosen into `said`.
    """
    found = find_record(row, layout)
    if isinstance(found, Problem):
        return found
    if more := unread(row, found, layout) - unused.keys():
        unused.update(dict.fromkeys(sorted(more)))
    if found.said:
        said[found.said] = None
    if found.chat is not None:
        return _rendered(row, found.chat, found.read[0], render, layout.score, said)
    name = found.read[1] if found.form != TEXT else layout.text_field
    if found.form == TEXT:
        return _text_problem(row, name, found.text) or Rendered(str(found.text))
    # an empty prompt is none, an empty completion leaves nothing to score
    problem = None if found.prompt == "" else _text_problem(row, found.read[0], found.prompt)
    problem = problem or _text_problem(row, name, found.text)
    n_prompt = 0 if layout.score == WHOLE else len(found.prompt)
    return problem or Rendered(f"{found.prompt}{found.text}", n_prompt, form=found.form)


def _rendered(
    row: Row, chat: Chat, name: str, render: Render | None, score: str, said: dict[str, None]
) -> Rendered | Problem:
    answers = chat.messages[len(chat.messages) - chat.n_answer :]
    if not any(message.get("content") or message.get("tool_calls") for message in answers):
        return Problem(row.line, "an empty answer", EMPTY_HINT, is_empty=True)
    if render is None:
        return Problem(row.line, f"field '{name}' needs a model's chat template", "give texts instead")
    try:
        prompt, whole = render(chat)
    except ValueError as error:
        return Problem(row.line, f"the chat template {error}", TEMPLATE_HINT)
    if not whole.startswith(prompt) or len(whole) == len(prompt):
        what = "the chat template does not put the answer after the other messages"
        return Problem(row.line, what, "apply the template yourself and give prompt and completion")
    n_prompt = 0 if score == WHOLE else len(prompt)
    gaps: Spans = ()
    if has_several := bool(earlier_answers(chat)):
        said[SAID[score]] = None
    if has_several and score == ASSISTANT:
        try:
            spans = answer_spans(render, chat, prompt, whole)
        except ValueError as error:
            return Problem(row.line, f"the chat template {error}", "--score last scores the last answer alone")
        n_prompt, gaps = spans[0][0], between(spans)
    return _encoding_problem(row.line, whole, f"field '{name}'") or Rendered(whole, n_prompt, gaps, TALK, chat)


def _text_problem(row: Row, field: str, text: object) -> Problem | None:
    if not isinstance(text, str):
        return Problem(row.line, f"field '{field}' is {rows.kind(text)}, not a string", "every text is a string")
    if len(text) > rows.MAX_CHARACTERS:
        what = f"a text of {len(text):,} characters, and at most {rows.MAX_CHARACTERS:,} can be read"
        return Problem(row.line, what, "cut it into several records")
    if not text.strip():
        what = "only whitespace" if text else "an empty text"
        return Problem(row.line, what, EMPTY_HINT, is_empty=True)
    return _encoding_problem(row.line, text, f"field '{field}'")


def _id_problem(row: Row, field: str) -> Problem | None:
    value = value_of(row.fields, field)
    if value is None or value is UNREAD or (isinstance(value, int) and not isinstance(value, bool)):
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
    return None if value is None or value is UNREAD or value == "" else str(value)


def _with_ids(records: Records, *, is_many: bool) -> Records:
    """The records, each with an id; the file stays where the set `is_many` files."""
    lacks_id = not all(records.column("id"))
    return completed(records, keyed_ids(Texts(records)) if lacks_id else None, is_many=is_many)


def _shared_ids(records: Records, parts: Iterable[Part]) -> list[tuple[Part, Problem]]:
    ids = fingerprints(records.column("id"))
    _, firsts, owner = np.unique(ids, return_index=True, return_inverse=True)
    part_of = {part.name: part for part in parts}
    only = next(iter(part_of.values()), None)
    problems = []
    for place in np.flatnonzero(firsts[owner] != np.arange(ids.size)).tolist():
        record, other = records[place], records[int(firsts[owner[place]])]
        part = part_of.get(record.file, only)
        unit = part.unit if part else "line"
        where = f"on {unit} {other.line} too" if other.file == record.file else f"in {other.file} too"
        what = f"id {record.id[:40]!r} stands {where}, with another text"
        problems.append(
            (part or Part(""), Problem(record.line, what, "give every text an id of its own, or none at all"))
        )
    return problems


def _refusal(option: str, source: str, problems: Sequence[tuple[Part, Problem]]) -> RecordsError:
    """One error for all unusable rows: the first few of the first few kinds of problem, and the count."""
    order = {name: place for place, name in enumerate(dict.fromkeys(part.name for part, _ in problems))}
    problems = sorted(problems, key=lambda one: (order[one[0].name], one[1].line))
    part, first = problems[0]
    is_one_file = len(order) == 1
    label, unit = f"{option} {part.name if is_one_file else source}", part.unit
    if len(problems) == 1:
        return RecordsError(f"{label}, {unit} {first.line}: {first.what}", hint=first.hint)
    lines: dict[tuple[str, str, str], list[int]] = {}
    for where, problem in problems:
        lines.setdefault(("" if is_one_file else f"{where.name}, ", where.unit, problem.what), []).append(problem.line)
    parts = [
        f"\n  {name}{_listed(of, numbers)}: {what}" for (name, of, what), numbers in list(lines.items())[:SHOWN_KINDS]
    ]
    rest = len(problems) - sum(len(numbers) for numbers in list(lines.values())[:SHOWN_KINDS])
    parts += [f"\n  and {rest} more"] if rest else []
    count = f"{len(problems)} {unit}s" if len(problems) < MAX_PROBLEMS else f"{MAX_PROBLEMS} {unit}s or more"
    return RecordsError(f"{label}: {count} cannot be used{''.join(parts)}", hint=first.hint)


def _listed(unit: str, numbers: Sequence[int]) -> str:
    head = ", ".join(str(number) for number in numbers[:SHOWN_LINES])
    more = f" and {len(numbers) - SHOWN_LINES} more" if len(numbers) > SHOWN_LINES else ""
    return f"{unit}{'s' if len(numbers) > 1 else ''} {head}{more}"
