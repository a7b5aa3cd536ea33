"""Chat templates are programs of strangers: what they give is what transformers gives, and they can do no harm."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from kdaudit.errors import CheckpointError, ConfigError
from kdaudit.models.chat import chat_renderer
from kdaudit.models.chat_process import prepare
from kdaudit.models.repeatable import CHAT_DATE, pinned_clock, read_date
from kdaudit.records import Chat
from tests import tiny

CHAT = [{"role": "user", "content": "how are\tyou – 中文 \ud83d?"}, {"role": "assistant", "content": "fine"}]
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
DATED = (
    "{{ bos_token }}{{ strftime_now('%d %b %Y %H:%M') }}{{ messages }}{%- for m in messages %}\n  "
    "{% if m.role == 'user' %}[{{ m.content | trim | tojson }}]"
    "{% else %}{% generation %}{{ m.content }}{% endgeneration %}{{ eos_token }}{% endif %}\n{% endfor %}"
)
NAMED = {"default": "{{ messages | tojson }}{{ eos_token }}{{ unk_token }}", "tool_use": "{{ 1 // 0 }}"}


def having(template: Any) -> Any:
    from copy import deepcopy

    tokenizer = deepcopy(tiny.tokenizer(bos=True))
    tokenizer.chat_template = template
    return tokenizer


def rendered(template: Any, chats: list[list[dict[str, Any]]]) -> list[tuple[str, str]]:
    with chat_renderer(lambda: having(template)) as render:
        return [render(Chat(chat)) for chat in chats]


def in_process(template: Any, chat: list[dict[str, Any]]) -> tuple[str, str]:
    """By transformers itself, on the recorded day."""
    tokenizer = having(template)
    with pinned_clock(read_date(CHAT_DATE)):
        opened = tokenizer.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(chat, tokenize=False)
    return opened.removeprefix("<s>"), whole.removeprefix("<s>")


@pytest.mark.parametrize("template", [DATED, pytest.param(NAMED, marks=pytest.mark.slow)], ids=["dated", "named"])
def test_a_chat_is_letter_by_letter_what_transformers_makes_of_it_in_the_process(template: Any) -> None:
    chats: list[list[dict[str, Any]]] = [
        CHAT,
        [*CHAT, *CHAT],
        [{**message, "name": None, "weight": 0.1 + 0.2, "x": [1.5, None, True, 10**30]} for message in CHAT],
    ]
    if template == DATED:  # tojson refuses these, there as here
        odd = {"pairs": [("a", 1)], "raw": b"\xff", "at": datetime(2020, 1, 2, tzinfo=UTC), "keys": {3: None}}
        chats.append([{**message, **odd} for message in CHAT])
    assert rendered(template, chats) == [in_process(template, chat) for chat in chats]


FAILING = {
    "{{ raise_exception('Zorblax ' ~ messages[0].content) }}": "refuses the messages$",
    "\n\n{{ 1 // (messages | length - 3) // 0 }}": "fails with ZeroDivisionError in its line 3$",
    "{{ messages + 1 }}": "fails with TypeError in its line 1$",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "fails with RecursionError",
    "{% include 'x' %}": "fails with ",
    "{{ nothing.there }}": "fails with UndefinedError in its line 1$",
    "{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}": "fails with SecurityError",
    "{{ 'a' * 5000000 }}": "makes a text of 5,000,000 characters, and at most",
}


def is_quick(position: int) -> Any:
    """A process of its own takes a second to start, so that few of these are default tests."""
    return [] if position == 1 else [pytest.mark.slow]


@pytest.mark.parametrize(
    ("template", "words"), [pytest.param(*case, marks=is_quick(i)) for i, case in enumerate(FAILING.items())]
)
def test_an_error_in_a_template_is_said_without_a_word_of_the_chat(template: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        rendered(template, [CHAT])
    assert "how are" not in str(raised.value)


def test_an_answer_to_nothing_is_refused_as_transformers_refuses_it() -> None:
    render, _ = prepare(template=PLAIN, special_tokens={}, today=CHAT_DATE, at_most=100)
    assert render(CHAT[1:])["error"] == "ValueError"
    assert render([*CHAT, *CHAT, *CHAT, *CHAT]) == {"length": 168}


EXTRAS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for d in documents or [] %}<{{ d.title }}>{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}[no thinking]{% endif %}" + PLAIN
)


def test_a_template_is_given_all_that_the_record_brings_for_it() -> None:
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    documents, arguments = [{"title": "t", "text": "x"}], {"enable_thinking": False}
    render, _ = prepare(template=EXTRAS, special_tokens={}, today=CHAT_DATE, at_most=10_000)
    given = {"tools": tools, "documents": documents, "arguments": arguments}
    tokenizer = having(EXTRAS)
    how: dict[str, Any] = {"tools": tools, "documents": documents, "tokenize": False, **arguments}
    expected = [tokenizer.apply_chat_template(CHAT[:1], add_generation_prompt=True, **how),
                tokenizer.apply_chat_template(CHAT, **how)]  # fmt: skip
    assert render(CHAT, **given)["texts"] == expected
    assert "weather" in expected[0]
    assert "<t>[no thinking]" in expected[0]
    with chat_renderer(lambda: having(EXTRAS)) as in_a_process:
        assert list(in_a_process(Chat(CHAT, tools=tools, documents=documents, arguments=arguments))) == expected


def test_an_answer_of_several_messages_begins_where_the_prompt_ends() -> None:
    render, _ = prepare(template=PLAIN, special_tokens={}, today=CHAT_DATE, at_most=10_000)
    user, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    before, whole = render([user, answer, user, answer], n_answer=3)["texts"]
    assert (before, whole) == ("user: a\nassistant: ", "user: a\nassistant: b\nuser: a\nassistant: b\n")


BY_PARTS = (
    "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.parametrize(("template", "joint"), [(PLAIN, "\n"), (BY_PARTS, ""), (PLAIN + "{{ '' + '' }}", "\n")])
def test_parts_of_a_message_are_shown_as_the_template_takes_them(template: str, joint: str) -> None:
    render, _ = prepare(template=template, special_tokens={}, today=CHAT_DATE, at_most=10_000)
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts[:1]}]
    assert render(chat)["texts"][1] == f"user: one{joint}two\nassistant: one\n"


HOSTILE = {
    "an endless loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a text of 2 GB": "{{ 'a' * 2000000000 }}",
    "a tower of powers": "{{ 10 ** (10 ** 10) }}",
    "a tower of powers of the chat's": "{{ 10 ** (10 ** (messages | length + 8)) }}",
    "a width": "{{ '%2000000000d' | format(1) }}",
    "doubling": "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}",
    "no template": "{% if %}",
    "nested": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "a literal of 20 MB": "{{ '" + "a" * 20_000_000 + "' }}",
    "no text": {"tool_use": "x"},
    "a list": [{"name": "default", "template": "x"}],
    "a slow lexer": "{{ 1 }}" * 140_000,
}
QUICK = {"an endless loop", "a text of 2 GB", "a literal of 20 MB"}


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(template, id=name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name, template in HOSTILE.items()
    ],
)
def test_a_hostile_template_is_stopped(template: Any) -> None:
    started = time.monotonic()
    with pytest.raises((CheckpointError, ValueError), match=r"template|fails with"):
        rendered(template, [CHAT])
    assert time.monotonic() - started < 60  # on a busy machine


@pytest.mark.slow
def test_a_template_that_is_slow_for_every_chat_is_stopped_after_a_few() -> None:
    loop = "{% for a in range(99999) %}{% for b in range(60) %}{% endfor %}{% endfor %}" + PLAIN
    with pytest.raises(CheckpointError, match=r"for each$"):
        rendered(loop, [CHAT] * 1000)


LOOPING = HOSTILE["an endless loop"]


@pytest.mark.parametrize("template", [PLAIN, pytest.param(LOOPING, marks=pytest.mark.slow)], ids=["idle", "busy"])
def test_no_process_is_left_where_kdaudit_itself_is_killed(template: str) -> None:
    code = (
        "import os, pickle, sys; from kdaudit.models.chat import _start, _answer_line; process = _start()\n"
        "settings = {'template': sys.argv[1], 'special_tokens': {}, 'today': '2024-07-26', 'at_most': 99}\n"
        "_answer_line(process, pickle.dumps(settings)); print(process.pid, flush=True)\n"
        "process.stdin.write(pickle.dumps([{'role': 'user', 'content': 'x'}] * 2)); process.stdin.flush()\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, template], stdout=subprocess.PIPE, check=False)
    child, started = int(done.stdout), time.monotonic()
    while _is_running(child) and time.monotonic() - started < 30:
        time.sleep(0.05)
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that ended stays until init takes note of it
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return sys.platform != "linux"


def test_without_a_template_it_is_said_so() -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        rendered(None, [CHAT])
