"""How records stand in a source: which field holds what, and finding it in a row."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kdaudit.config import ASSISTANT

CHAT = "messages"
PAIR = ("prompt", "completion")
TURNS = (PAIR, ("prompt", "response"), ("question", "answer"), ("instruction", "output"))
"""Fields that hold what is asked and what is answered."""
CONVERSATION = "conversations"
EXTRAS = ("tools", "documents", "chat_template_kwargs")
"""Fields that a chat template is given beside the messages."""
BESIDE = (*EXTRAS, "system", "input")
OF_CHATS = frozenset({CHAT, CONVERSATION, *BESIDE, *(name for pair in TURNS for name in pair)})
"""Every field of a record with a prompt."""


class _Unread:
    """Stands for a value that is in the source and was not read."""


UNREAD: Final = _Unread()
TEXT_FIELD: Final = "text"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which fields a record is made of, as the options say."""

    text_field: str = TEXT_FIELD
    id_field: str = "id"
    answer_field: str | None = None
    """The field with the answer, where it is none of the usual ones: `chosen` of a preference pair."""
    pairs: str | None = None
    """How a question and its answer in two fields are shown: chat, text or alpaca. None: prompt and completion as text,
    the others as a chat."""
    txt_record: str = "line"
    """What is a record of a .txt file: line, paragraph or file."""
    skip_empty: bool = False
    """Whether empty texts are left out and counted; else they are refused."""
    score: str = ASSISTANT
    """Which words of a record with a prompt are learnt and scored: last, assistant or all."""
    more: tuple[str, ...] = ()
    """Further fields to be read: the one that says who is a member."""

    @property
    def of_chats(self) -> Collection[str]:
        """Every field that a record without a plain text may be made of."""
        return {*OF_CHATS, self.answer_field} if self.answer_field else OF_CHATS


def holds(names: Collection[str], field: str) -> bool:
    """Whether a field is among names; `doc.text` is there where `doc` is, which is a struct."""
    return field in names or ("." in field and field.split(".")[0] in names)


def value_of(fields: Mapping[str, object], field: str) -> object:
    """The value of a field, `doc.text` inside of `doc`; UNREAD where there is none."""
    if field in fields or "." not in field:
        return fields.get(field, UNREAD)
    value: object = fields
    for name in field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return UNREAD
        value = value[name]
    return value


def holds_records(names: Collection[str], layout: Layout) -> bool:
    """Whether a record can be made of fields of these names."""
    return (
        holds(names, layout.text_field)
        or bool({CHAT, CONVERSATION, layout.answer_field} & {*names})
        or any(set(pair) <= {*names} for pair in TURNS)
    )


def wanted(names: Iterable[str], layout: Layout) -> list[str]:
    """The columns that a record needs, of those that are there: the text, or what stands in its place, and the id."""
    there = list(names)
    texts = {layout.text_field} if holds(there, layout.text_field) else layout.of_chats
    asked = {*texts, layout.id_field, *layout.more}
    heads = {name.split(".")[0] for name in asked if name not in there}
    return [name for name in there if name in asked or name in heads]
