"""The forms in which prompts, answers and chats are kept, and what becomes of each."""

import inspect
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdaudit.errors import RecordsError
from kdaudit.records import Chat, RecordSet, check_alike, notes_on, read
from kdaudit.records.forms import RESERVED

SECRET = "the patient was told"


def render(chat: Chat) -> tuple[str, str]:
    """A template that shows everything that it is given, and its speakers in capitals."""

    def said(message: Any) -> str:
        content = message["content"]
        text = content if isinstance(content, str) else "&".join(part["text"] for part in content)
        calls = "".join(f"({call['function']['name']})" for call in message.get("tool_calls", ()))
        return f"{str(message['role'])[0].upper()}:{text}{calls}|"

    lead = "".join(f"<{one}>" for one in (chat.tools, chat.documents, chat.arguments) if one)
    shown = [said(message) for message in chat.messages]
    before = lead + "".join(shown[: len(shown) - chat.n_answer])
    return f"{before}A:", before + "".join(shown[len(shown) - chat.n_answer :])


def found(tmp_path: Path, *rows: Any, **layout: Any) -> RecordSet:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(str(path), option="--members", render=render, **layout)


def split(tmp_path: Path, row: Any, **layout: Any) -> tuple[str, str]:
    """The prompt and the last answer of one record."""
    (record,) = found(tmp_path, row, score="last", **layout).records
    return record.text[: record.n_prompt], record.text[record.n_prompt :]


def refusal(tmp_path: Path, *rows: Any, **layout: Any) -> str:
    with pytest.raises(RecordsError) as caught:
        found(tmp_path, *rows, **layout)
    assert SECRET not in f"{caught.value}{caught.value.hint}"
    return f"{caught.value} | {caught.value.hint}".replace(f"--members {tmp_path / 'a.jsonl'}", "…")


USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}
SYSTEM = {"role": "system", "content": "be kind"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f"}}]}
TOOL = {"role": "tool", "content": "42"}
HUMAN, GPT = {"from": "human", "value": "hi"}, {"from": "gpt", "value": "there"}
ALPACA = {"instruction": "Add", "input": "1 2", "output": "3"}

FORMS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str]]] = {
    "messages": ({"messages": [SYSTEM, USER, ANSWER]}, {}, ("S:be kind|U:hi|A:", "there|")),
    "messages as JSON in a table": ({"messages": json.dumps([USER, ANSWER])}, {}, ("U:hi|A:", "there|")),
    "parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                      {"role": "assistant", "content": [{"type": "text", "text": "c"}]}]},
        {}, ("U:a&b|A:", "c|"),
    ),
    "a call with null content": (
        {"messages": [USER, CALL, TOOL, ANSWER]}, {}, ("U:hi|A:(f)|T:42|A:", "there|")
    ),
    "an answer that is a call": ({"messages": [USER, CALL]}, {}, ("U:hi|A:", "(f)|")),
    "a call without content": (
        {"messages": [USER, {name: CALL[name] for name in ("role", "tool_calls")} | {"content": ""}]},
        {}, ("U:hi|A:", "(f)|"),
    ),
    "tools": (
        {"messages": [USER, ANSWER], "tools": [{"name": "f"}], "documents": json.dumps([{"title": "t"}]),
         "chat_template_kwargs": {"enable_thinking": False}},
        {}, ("<[{'name': 'f'}]><[{'title': 't'}]><{'enable_thinking': False}>U:hi|A:", "there|"),
    ),
    "ShareGPT": ({"conversations": [HUMAN, GPT]}, {}, ("U:hi|A:", "there|")),
    "ShareGPT with a system of its own": (
        {"conversations": [HUMAN, GPT], "system": "be kind"}, {}, ("S:be kind|U:hi|A:", "there|")
    ),
    "ShareGPT with roles": ({"conversations": [USER, ANSWER]}, {}, ("U:hi|A:", "there|")),
    "ShareGPT with a tool": (
        {"conversations": [HUMAN, GPT, {"from": "observation", "value": "42"}, GPT]}, {},
        ("U:hi|A:there|T:42|A:", "there|"),
    ),
    "Alpaca as a chat": (ALPACA, {}, ("U:Add\n1 2|A:", "3|")),
    "Alpaca without input": ({**ALPACA, "input": ""}, {}, ("U:Add|A:", "3|")),
    "Alpaca as text": (ALPACA, {"pairs": "text"}, ("Add\n1 2", "3")),
    "Alpaca in its own prompt": (
        ALPACA, {"pairs": "alpaca"},
        ("Below is an instruction that describes a task, paired with an input that provides further context. Write a "
         "response that appropriately completes the request.\n\n### Instruction:\nAdd\n\n### Input:\n1 2\n\n"
         "### Response:", "3"),
    ),
    "Alpaca in its own prompt without input": (
        {"instruction": "Add {input}", "output": "3"}, {"pairs": "alpaca"},
        ("Below is an instruction that describes a task. Write a response that appropriately completes the request."
         "\n\n### Instruction:\nAdd {input}\n\n### Response:", "3"),
    ),
    "prompt and response": ({"prompt": "hi", "response": "there"}, {}, ("U:hi|A:", "there|")),
    "prompt and response as text": ({"prompt": "hi ", "response": "there"}, {"pairs": "text"}, ("hi ", "there")),
    "question and answer": ({"question": "hi", "answer": "there"}, {}, ("U:hi|A:", "there|")),
    "prompt and completion": ({"prompt": "hi ", "completion": "there"}, {}, ("hi ", "there")),
    "prompt and completion as a chat": (
        {"prompt": "hi", "completion": "there"}, {"pairs": "chat"}, ("U:hi|A:", "there|")
    ),
    "a prompt that is JSON": ({"prompt": '[{"a": 1}]', "completion": "{}"}, {}, ('[{"a": 1}]', "{}")),
    "TRL's conversational pair": (
        {"prompt": [SYSTEM, USER], "completion": [ANSWER]}, {}, ("S:be kind|U:hi|A:", "there|")
    ),
    "TRL's pair with a whole exchange as the completion": (
        {"prompt": [USER], "completion": [CALL, TOOL, ANSWER]}, {}, ("U:hi|A:", "(f)|T:42|A:there|")
    ),
    "the chosen one": (
        {"prompt": "hi ", "chosen": "there", "rejected": "no"}, {"answer_field": "chosen"}, ("hi ", "there")
    ),
    "the rejected one": (
        {"prompt": "hi ", "chosen": "there", "rejected": "no"}, {"answer_field": "rejected"}, ("hi ", "no")
    ),
    "the chosen one of chats": (
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [CALL]}, {"answer_field": "chosen"}, ("U:hi|A:", "there|")
    ),
    "the chosen chat with the prompt in it": (
        {"chosen": [USER, ANSWER], "rejected": [USER, CALL]}, {"answer_field": "chosen"}, ("U:hi|A:", "there|")
    ),
    "the chosen chat beside its prompt": (
        {"prompt": "hi", "chosen": [USER, ANSWER], "rejected": [USER, CALL]}, {"answer_field": "chosen"},
        ("U:hi|A:", "there|"),
    ),
    "another answer": ({"question": "hi", "best": "there"}, {"answer_field": "best"}, ("U:hi|A:", "there|")),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_a_prompt_and_an_answer(name: str, tmp_path: Path) -> None:
    row, layout, expected = FORMS[name]
    assert split(tmp_path, row, **layout) == expected


def test_a_question_that_is_shown_as_a_chat_unasked_is_said(tmp_path: Path) -> None:
    label = f"--members {tmp_path / 'a.jsonl'}"
    said = f"{label}: instruction, output, input are shown as a chat of one turn; --pairs chooses otherwise"
    assert found(tmp_path, ALPACA).notes == (said,)
    assert found(tmp_path, ALPACA, pairs="chat").notes == found(tmp_path, ALPACA, pairs="text").notes == ()


def test_a_text_comes_before_everything_else(tmp_path: Path) -> None:
    assert split(tmp_path, {"text": "x", "messages": [USER, ANSWER]}) == ("", "x")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a preference pair": (
        {"prompt": SECRET, "chosen": "a", "rejected": "b"},
        "a preference pair | say which answer is meant: --answer-field chosen",
    ),
    "an empty list": ({"messages": []}, "field 'messages' is not a list of messages"),
    "a message without a role": ({"messages": [{"content": SECRET}]}, "field 'messages' is not a list of messages"),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER]},
        "holds a message with a part other than text",
    ),
    "null content": ({"messages": [USER, {**ANSWER, "content": None}]}, "holds a message whose content is null"),
    "a number": ({"messages": [USER, {**ANSWER, "content": 3}]}, "holds a message whose content is a number"),
    "no answer": ({"messages": [ANSWER, USER]}, "the last message is not the assistant's"),
    "an unknown speaker": (
        {"conversations": [{"from": "martian", "value": SECRET}]}, "has an unknown speaker 'martian'"
    ),
    "a speaker that may be a text": (
        {"conversations": [{"from": SECRET, "value": "x"}]}, "has an unknown speaker |"
    ),
    "turns of another kind": ({"conversations": [SECRET]}, "field 'conversations' is not a list of turns"),
    "tools of another kind": ({"messages": [USER, ANSWER], "tools": 3}, "field 'tools' is a number, not a list of obj"),
    "a reserved argument": (
        {"messages": [USER, ANSWER], "chat_template_kwargs": {"chat_template": SECRET}},
        "field 'chat_template_kwargs' sets chat_template, which belongs to transformers",
    ),
    "an answer that is a number": ({"question": SECRET, "answer": 3}, "field 'answer' is a number, not a string"),
    "an input that is a list": ({**ALPACA, "input": []}, "field 'input' is a list, not a string"),
    "messages and a number": ({"prompt": [USER], "completion": 3}, "field 'completion' is a number, not a l"),
    "an empty answer": ({"messages": [USER, {**ANSWER, "content": ""}]}, "an empty answer"),
    "an empty completion": ({"prompt": "a", "completion": ""}, "an empty text"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_said_with_the_way_out(name: str, tmp_path: Path) -> None:
    row, words = REFUSED[name]
    message = refusal(tmp_path, row)
    assert message.startswith("…, line 1: ")
    assert words in message


def test_an_answer_field_without_a_prompt_is_refused(tmp_path: Path) -> None:
    assert "field 'chosen' stands without a prompt" in refusal(tmp_path, {"chosen": "a"}, answer_field="chosen")


def test_empty_answers_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = [{"messages": [USER, {**ANSWER, "content": ""}]}, {"messages": [USER, ANSWER]}]
    one = found(tmp_path, *rows, skip_empty=True)
    assert (len(one.records), one.n_empty) == (1, 1)


def test_reserved_arguments_are_those_of_transformers() -> None:
    from transformers import PreTrainedTokenizerBase
    from transformers.utils.chat_template_utils import render_jinja_template

    for function in (PreTrainedTokenizerBase.apply_chat_template, render_jinja_template):
        assert {*inspect.signature(function).parameters} <= RESERVED


def test_what_columns_add_to_messages_is_left_out(tmp_path: Path) -> None:
    rows = [{"messages": [USER, ANSWER], "tools": None}, {"messages": [USER, CALL], "tools": [{"name": "f"}]}]
    table = pa.Table.from_pylist(rows)
    assert table.to_pylist()[0]["messages"][0].keys() == {"role", "content", "tool_calls"}
    pq.write_table(table, tmp_path / "a.parquet")
    from_columns = read(str(tmp_path / "a.parquet"), option="--members", render=render)
    assert from_columns.sha256 == found(tmp_path, *rows).sha256


def test_fields_of_a_chat_that_nothing_is_made_of_are_named_once(tmp_path: Path) -> None:
    chat = {"id": "a", "messages": [USER, ANSWER], "system": "x", "source": "web"}
    one = found(tmp_path, chat, {**chat, "id": "b", "messages": [USER, USER, ANSWER], "score": 1})
    assert one.notes == (f"--members {tmp_path / 'a.jsonl'}: nothing is made of score, source, system",)
    assert found(tmp_path, {"text": "x", "source": "web"}).notes == ()
    assert "nothing is made of messages" in found(tmp_path, {"text": "x", "messages": []}).notes[0]
    table = pa.table({"messages": [[USER, ANSWER]], "source": ["web"], "n": [1]})
    pq.write_table(table, tmp_path / "a.parquet")
    from_columns = read(str(tmp_path / "a.parquet"), option="--members", render=render)
    assert from_columns.notes == (f"--members {tmp_path / 'a.parquet'}: nothing is made of n, source",)


def test_records_of_several_forms_in_one_set_are_counted_and_said(tmp_path: Path) -> None:
    mixed = found(tmp_path, {"text": "x"}, {"messages": [USER, ANSWER]}, {"text": "y"})
    assert dict(mixed.forms) == {"text": 2, "chat": 1}
    (note,) = notes_on([mixed])
    assert "mixes forms of records: 1 in the form of a chat, 2 in the form of a text" in note
    assert notes_on([found(tmp_path, {"text": "x"})]) == ()


def test_a_form_that_one_set_alone_has_is_refused(tmp_path: Path) -> None:
    def made(name: str, *rows: Any) -> RecordSet:
        (tmp_path / name).mkdir(exist_ok=True)
        return found(tmp_path / name, *rows)

    text, chat, pair = {"text": "x"}, {"messages": [USER, ANSWER]}, {"prompt": "a", "completion": "b"}
    check_alike(made("a", text, chat), made("b", chat, text))
    with pytest.raises(RecordsError, match=r"holds 1 records in the form of a text, and --members .* holds none"):
        check_alike(made("a", text, chat), made("b", chat))
    with pytest.raises(RecordsError, match=r"in the form of a chat, and --members .* holds none"):
        check_alike(made("a", chat), made("b", pair))
    with pytest.raises(RecordsError, match="holds prompts, of which the completions alone are scored"):
        check_alike(made("a", text), made("b", pair))
