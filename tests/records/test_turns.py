"""Which words of a chat are scored: the last answer, every answer of the assistant, or all of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kdaudit.errors import RecordsError
from kdaudit.records import Record, RecordSet, read
from tests.templates import CHATML, GEMMA, MISTRAL, THINKING, renderer

TURNS = ("Hi there", "Hello you", "And now?", "Well, now", "Bye", "So long")
FAMILIES = {"ChatML": CHATML, "a template that thinks": THINKING, "Gemma": GEMMA, "Mistral": MISTRAL}
ENDED = {
    "ChatML": ["Hello you<|im_end|>\n", "Well, now<|im_end|>\n", "So long<|im_end|>\n"],
    "a template that thinks": [
        "Hello you<|im_end|>\n", "Well, now<|im_end|>\n", "<think>\n\n</think>\n\nSo long<|im_end|>\n",
    ],
    "Gemma": ["Hello you<end_of_turn>\n", "Well, now<end_of_turn>\n", "So long<end_of_turn>\n"],
    "Mistral": [" Hello you</s>", " Well, now</s>", " So long</s>"],
}  # fmt: skip
"""What is scored of TURNS: an answer goes from where the model begins to write to the mark that ends its turn."""


def talk(*said: str, first: str = "user") -> list[dict[str, Any]]:
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": roles[k % 2], "content": one} for k, one in enumerate(said)]


def found(folder: Path, *rows: dict[str, Any], template: str = CHATML, **layout: Any) -> RecordSet:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(str(path), option="--members", render=renderer(template), **layout)


def scored(record: Record) -> list[str]:
    """The stretches that are scored."""
    starts = [record.n_prompt, *(end for _, end in record.gaps)]
    ends = [*(start for start, _ in record.gaps), len(record.text)]
    return [record.text[start:end] for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_scored_with_the_mark_that_ends_it(family: str, tmp_path: Path) -> None:
    (record,) = found(tmp_path, {"messages": talk(*TURNS)}, template=FAMILIES[family]).records
    assert scored(record) == ENDED[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_answer_alone_is_scored_where_that_is_asked_for(family: str, tmp_path: Path) -> None:
    (record,) = found(tmp_path, {"messages": talk(*TURNS)}, template=FAMILIES[family], score="last").records
    assert scored(record) == ENDED[family][-1:]


def test_all_of_a_chat_and_of_a_prompt_is_scored_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = {"messages": talk(*TURNS)}, {"prompt": "ask", "completion": " said"}
    chat, pair = found(tmp_path, *rows, score="all").records
    assert scored(chat) == [chat.text]
    assert scored(pair) == ["ask said"]


@pytest.mark.parametrize("score", ["last", "assistant"])
def test_a_chat_of_one_answer_is_read_as_ever(score: str, tmp_path: Path) -> None:
    (record,) = found(tmp_path, {"messages": talk("Hi", "Hello")}, score=score).records
    assert record.text[record.n_prompt :] == "Hello<|im_end|>\n"
    assert record.gaps == ()
    assert found(tmp_path, {"messages": talk("Hi", "Hello")}, score=score).notes == ()


def test_what_is_scored_of_several_answers_is_said(tmp_path: Path) -> None:
    said = [found(tmp_path, {"messages": talk(*TURNS)}, score=score).notes[0] for score in ("last", "assistant", "all")]
    assert "its last answer alone" in said[0]
    assert "every answer" in said[1]
    assert "what the user says too" in said[2]


def test_a_prompt_in_a_field_of_its_own_says_what_is_learnt(tmp_path: Path) -> None:
    rows: Sequence[dict[str, Any]] = (
        {"prompt": talk(*TURNS[:5]), "completion": talk("So long", first="assistant")},
        {"chosen": talk(*TURNS), "rejected": talk(*TURNS)},
    )
    for row in rows:
        (record,) = found(tmp_path, row, answer_field="chosen").records
        assert scored(record) == ["So long<|im_end|>\n"]


def test_a_chat_that_begins_with_an_answer_is_scored_from_its_words_on(tmp_path: Path) -> None:
    (record,) = found(tmp_path, {"messages": talk("Hello", "Hi", "Well", first="assistant")}).records
    assert scored(record)[-1] == "Well<|im_end|>\n"
    assert scored(record)[0].startswith("Hello")


def test_what_is_scored_changes_the_hash_of_the_records(tmp_path: Path) -> None:
    hashes = {found(tmp_path, {"messages": talk(*TURNS)}, score=score).sha256 for score in ("last", "assistant", "all")}
    assert len(hashes) == 3


def test_a_template_that_hides_earlier_answers_is_refused_with_the_way_out(tmp_path: Path) -> None:
    forgetful = CHATML.replace("m.content", "('(an answer)' if m.role == 'assistant' and not loop.last else m.content)")
    with pytest.raises(RecordsError, match="does not show the answer") as caught:
        found(tmp_path, {"messages": talk(*TURNS)}, template=forgetful)
    assert "--score last" in str(caught.value.hint)
