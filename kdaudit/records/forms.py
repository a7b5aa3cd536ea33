"""What a row says: a plain text, a prompt with a completion, or a chat, in any of the forms in which they are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdaudit.records.layout import CHAT, CONVERSATION, EXTRAS, PAIR, TURNS, UNREAD, Layout, value_of
from kdaudit.records.rows import Problem, Row, is_name, kind, missing, nearest

TEXT, PROMPTED, TALK = "text", "prompt and completion", "chat"
"""Forms of records, in the words of a message."""
ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "bot": "assistant", "model": "assistant", "system": "system", "tool": "tool", "observation": "tool",
}  # fmt: skip
"""Names of speakers in ShareGPT's form, and roles."""
RESERVED = frozenset({
    "self", "conversation", "conversations", "messages", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "truncation", "max_length",
    "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "processor_kwargs", "kwargs",
})  # fmt: skip
"""Arguments of transformers' apply_chat_template that are not for the template."""
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
"""Source: tatsu-lab/stanford_alpaca, train.py, PROMPT_DICT."""
ENDS = "end each chat with the answer to score"
EACH = 'each message is {"role": "user", "content": "…"}'


@dataclass(frozen=True, slots=True)
class Chat:
    """What a chat template is given."""

    messages: Sequence[Mapping[str, Any]]
    n_answer: int = 1
    """Messages at the end that are the answer; those before are the prompt."""
    tools: object = None
    documents: object = None
    arguments: Mapping[str, object] | None = None
    """Further ones of the template, such as enable_thinking."""
    has_own_prompt: bool = False
    """Prompt and answer stand in fields of their own, which says what is learnt: the answer."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a row says."""

    form: str
    text: object = ""
    """Without a prompt; with one, the completion."""
    prompt: str = ""
    chat: Chat | None = None
    read: tuple[str, ...] = ()
    """The fields that it was made of."""
    said: str = ""
    """What was chosen about it that nobody asked for."""


def find_record(row: Row, layout: Layout) -> Found | Problem:
    """What a row says, or why it says nothing; whether a text can be used is not looked at.

    Args:
        row: as it stands in the source.
        layout: which fields a record has.
    """
    fields = row.fields
    text = value_of(fields, layout.text_field)
    if text is not UNREAD:
        return Found(TEXT, text, read=(layout.text_field,))
    if layout.answer_field and layout.answer_field in fields:
        return _answered(row, layout.answer_field, layout)
    if CHAT in fields:
        return _chat(row, fields[CHAT], (CHAT,))
    if CONVERSATION in fields:
        return _conversation(row, fields[CONVERSATION])
    for asked, answer in TURNS:
        if asked in fields and answer in fields:
            return _pair(row, asked, answer, layout)
    if "chosen" in fields:
        return Problem(row.line, "a preference pair", "say which answer is meant: --answer-field chosen")
    names = [name for name in fields if isinstance(name, str)]
    return Problem(row.line, missing(layout.text_field, names), nearest(layout.text_field, names))


def unread(row: Row, found: Found, layout: Layout) -> set[str]:
    """The fields of a record with a prompt that nothing was made of."""
    if found.form == TEXT:
        return {name for name in (CHAT, CONVERSATION) if name in row.fields}
    return {*row.fields} - {*found.read, layout.id_field, *layout.more}


def _answered(row: Row, field: str, layout: Layout) -> Found | Problem:
    """The answer of a field that the user named, such as the chosen one of a preference pair."""
    answer, asked = row.fields[field], next((pair[0] for pair in TURNS if pair[0] in row.fields), None)
    if asked is None:
        return _no_prompt(row, field) if isinstance(answer, str) else _chat(row, answer, (field,), has_own_prompt=True)
    first = answer[0] if isinstance(answer, list) and answer else None
    if isinstance(first, Mapping) and first.get("role") != "assistant":
        return _chat(row, answer, (field, asked), has_own_prompt=True)  # it holds the whole chat, the prompt too
    return _pair(row, asked, field, layout)


def _no_prompt(row: Row, field: str) -> Problem:
    return Problem(row.line, f"field '{field}' stands without a prompt", "a record needs a prompt beside its answer")


def _pair(row: Row, asked: str, answer: str, layout: Layout) -> Found | Problem:
    """A prompt or question in one field and the answer in another."""
    fields = row.fields
    question, reply = fields[asked], fields[answer]
    if isinstance(question, list) or isinstance(reply, list):
        prompts = [{"role": "user", "content": question}] if isinstance(question, str) else question
        replies = [{"role": "assistant", "content": reply}] if isinstance(reply, str) else reply
        if not isinstance(prompts, list) or not isinstance(replies, list):
            other = asked if not isinstance(prompts, list) else answer
            return Problem(row.line, f"field '{other}' is {kind(fields[other])}, not a list of messages", EACH)
        messages = [*prompts, *replies]
        return _chat(row, messages, (asked, answer), n_answer=len(replies), has_own_prompt=True)
    for name, value in ((asked, question), (answer, reply)):
        if not isinstance(value, str):
            return Problem(row.line, f"field '{name}' is {kind(value)}, not a string", "every text is a string")
    more = fields.get("input", UNREAD) if asked == "instruction" else UNREAD
    beside = "" if more is UNREAD or more is None else more
    if not isinstance(beside, str):
        return Problem(row.line, f"field 'input' is {kind(beside)}, not a string", "every text is a string")
    read = (asked, answer, *(("input",) if more is not UNREAD else ()))
    is_usual = asked == PAIR[0] and answer in {PAIR[1], layout.answer_field}
    how = layout.pairs or ("text" if is_usual else "chat")
    whole = f"{question}\n{beside}" if beside else str(question)
    if how == "text":
        return Found(PROMPTED, reply, whole, read=read)
    if how == "alpaca":
        shape = ALPACA_INPUT if beside else ALPACA
        return Found(PROMPTED, reply, shape.format(instruction=question, input=beside), read=read)
    messages = [{"role": "user", "content": whole}, {"role": "assistant", "content": reply}]
    found = _chat(row, [*_system(fields), *messages], (*read, "system"))
    if isinstance(found, Problem) or layout.pairs:
        return found
    return replace(found, said=f"{', '.join(read)} are shown as a chat of one turn; --pairs chooses otherwise")


def _system(fields: Mapping[str, object]) -> list[dict[str, object]]:
    said = fields.get("system")
    return [{"role": "system", "content": said}] if isinstance(said, str) and said else []


def _conversation(row: Row, value: object) -> Found | Problem:
    """ShareGPT's form: from and value in the place of role and content, with names of its own for the speakers."""
    turns = _listed(value)
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        what = f"field '{CONVERSATION}' is not a list of turns"
        return Problem(row.line, what, 'each turn is {"from": "human", "value": "…"}')
    messages = []
    for turn in turns:
        who, said = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        if who not in ROLES:
            shown = f" '{who}'" if isinstance(who, str) and is_name(who) else ""
            known = ", ".join(ROLES)
            return Problem(row.line, f"field '{CONVERSATION}' has an unknown speaker{shown}", f"known ones are {known}")
        rest = {name: one for name, one in turn.items() if name not in {"from", "value", "role", "content"}}
        messages.append({"role": ROLES[str(who)], "content": said, **rest})
    has_own = messages[0]["role"] == "system"
    return _chat(row, [*([] if has_own else _system(row.fields)), *messages], (CONVERSATION, "system"))


def _chat(
    row: Row, value: object, read: tuple[str, ...], *, n_answer: int = 1, has_own_prompt: bool = False
) -> Found | Problem:
    messages = _listed(value)
    if not isinstance(messages, list) or not messages or not all(isinstance(one, Mapping) for one in messages):
        return Problem(row.line, f"field '{read[0]}' is not a list of messages", EACH)
    shown = []
    for message in messages:
        content = message.get("content")
        if not isinstance(message.get("role"), str) or ("content" not in message and not message.get("tool_calls")):
            return Problem(row.line, f"field '{read[0]}' is not a list of messages", EACH)
        if isinstance(content, list):
            if not content or not all(_is_text(part) for part in content):
                what = f"field '{read[0]}' holds a message with a part other than text"
                return Problem(row.line, what, "only texts are audited: leave pictures and sounds out")
        elif content is None and message.get("tool_calls"):
            message = {**message, "content": ""}
        elif not isinstance(content, str):
            return Problem(row.line, f"field '{read[0]}' holds a message whose content is {kind(content)}", EACH)
        shown.append(dict(message))
    if shown[-1]["role"] != "assistant":
        return Problem(row.line, "the last message is not the assistant's", ENDS)
    if not 0 < n_answer <= len(shown):
        return Problem(row.line, "a chat without an answer", ENDS)
    given = {name: _listed(row.fields.get(name)) for name in EXTRAS}
    given = {name: None if one is UNREAD else one for name, one in given.items()}
    if problem := _extra_problem(row, given):
        return problem
    tools, documents, arguments = given.values()
    chat = Chat(shown, n_answer, tools or None, documents or None, arguments or None, has_own_prompt)
    return Found(TALK, chat=chat, read=(*read, *EXTRAS))


def _extra_problem(row: Row, given: Mapping[str, object]) -> Problem | None:
    for name in EXTRAS[:2]:
        value = given[name]
        if value is not None and not (isinstance(value, list) and all(isinstance(one, Mapping) for one in value)):
            return Problem(row.line, f"field '{name}' is {kind(value)}, not a list of objects", "or leave it out")
    arguments = given[EXTRAS[2]]
    if arguments is None:
        return None
    if not isinstance(arguments, Mapping):
        return Problem(row.line, f"field '{EXTRAS[2]}' is {kind(arguments)}, not an object", "or leave it out")
    if taken := sorted(RESERVED & {*arguments}):
        return Problem(row.line, f"field '{EXTRAS[2]}' sets {taken[0]}, which belongs to transformers", "remove it")
    return None


def _is_text(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _listed(value: object) -> Any:
    """A list or an object that stands in a table or a column as its JSON; everything else as it is."""
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
