"""Where the assistant's answers lie in a chat: found by what its template makes of the chat and of parts of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from kdaudit.records.forms import Chat

MARK = "\u2042kdaudit\u2042"
"""Stands in the place of an answer, to see what a template puts around it."""

Render = Callable[[Chat], tuple[str, str]]
"""A chat -> the text before its answer, and the whole text.

A ValueError says what the template does with it instead: refuses or fails."""

Spans = tuple[tuple[int, int], ...]
"""Where stretches of a text begin and end, in characters, rising."""


def earlier_answers(chat: Chat) -> list[int]:
    """The places of the assistant's messages before the answer at the end; none where that has a field of its own."""
    if chat.has_own_prompt:
        return []
    before = chat.messages[: len(chat.messages) - chat.n_answer]
    return [place for place, message in enumerate(before) if message["role"] == "assistant"]


def between(spans: Sequence[tuple[int, int]]) -> Spans:
    """What lies between some spans."""
    return tuple((end, start) for (_, end), (start, _) in pairwise(spans) if end < start)


def answer_spans(render: Render, chat: Chat, prompt: str, whole: str) -> Spans:
    """Where every answer of the assistant lies in a chat, each from its beginning to the mark that ends its turn.

    Args:
        render: applies the template.
        chat: all of it.
        prompt: what the template writes before the last answer.
        whole: what it writes of the whole chat.

    Raises:
        ValueError: the template does not show where an answer begins and ends.
    """
    spans = [_turn(render, chat, place, whole) for place in earlier_answers(chat)]
    spans.append((len(prompt), len(whole)))
    if any(start >= end for start, end in spans) or any(one[1] > other[0] for one, other in pairwise(spans)):
        raise ValueError("does not show where an earlier answer of the assistant begins and ends")
    return tuple(spans)


def words_of(render: Render, chat: Chat, place: int, whole: str) -> tuple[int, int]:
    """Where the words of one message lie in what a template makes of a chat.

    Raises:
        ValueError: the template does not show them as they stand.
    """
    lead, tail = _around(render, chat, place)
    is_around = whole.startswith(lead) and whole.endswith(tail) and len(whole) >= len(lead) + len(tail)
    if not is_around:
        raise ValueError("does not show the answer as it stands")
    return len(lead), len(whole) - len(tail)


def _turn(render: Render, chat: Chat, place: int, whole: str) -> tuple[int, int]:
    earlier = replace(chat, messages=chat.messages[: place + 1], n_answer=1)
    before: str | None
    try:
        before, ended = render(earlier)
    except ValueError:  # some refuse a chat that ends here, or begins with an answer
        before, ended = None, ""
    if before is not None and ended.startswith(before) and whole.startswith(ended):
        return len(before), len(ended)
    # some write earlier answers otherwise than the last one: without its thoughts, for example
    start, end = words_of(render, chat, place, whole)
    if before is not None:
        closing = _around(render, earlier, place)[1]
        end += len(closing) if whole.startswith(closing, end) else 0
        start = len(before) if whole.startswith(before) and len(before) <= start else start
    return start, end


def _around(render: Render, chat: Chat, place: int) -> tuple[str, str]:
    """What a template writes before and after the words of one message."""
    if chat.messages[place].get("tool_calls") or not chat.messages[place].get("content"):
        raise ValueError("writes a message with tool calls in a way of its own")
    marked = [{**one, "content": MARK} if k == place else one for k, one in enumerate(chat.messages)]
    lead, found, tail = render(replace(chat, messages=marked))[1].partition(MARK)
    if not found or MARK in tail:
        raise ValueError("does not show the answer as it stands")
    return lead, tail
