"""Chat templates are programs of strangers: what they give is what transformers gives, and they can do no harm."""

import time
from typing import Any

import pytest

from kdaudit.errors import CheckpointError, ConfigError
from kdaudit.models import chat_process
from kdaudit.models.chat import chat_renderer
from tests import tiny

CHAT = [{"role": "user", "content": "how are\tyou – 中文 \ud83d?"}, {"role": "assistant", "content": "fine"}]
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
MARKED = (
    "{{ bos_token }}{%- for m in messages %}\n  {% if m.role == 'user' %}[{{ m.content | trim | tojson }}]"
    "{% else %}{% generation %}{{ m.content }}{% endgeneration %}{{ eos_token }}{% endif %}\n{% endfor %}"
)


def having(template: Any) -> Any:
    from copy import deepcopy

    tokenizer = deepcopy(tiny.tokenizer(bos=True))
    tokenizer.chat_template = template
    return tokenizer


def rendered(template: Any, chats: list[list[dict[str, str]]]) -> list[tuple[str, str]]:
    with chat_renderer(lambda: having(template)) as render:
        return [render(chat) for chat in chats]


@pytest.mark.parametrize("template", [MARKED, {"default": PLAIN, "tool_use": "{{ 1 // 0 }}"}])
def test_a_chat_is_what_transformers_makes_of_it(template: Any) -> None:
    tokenizer = having(template)
    chats = [CHAT, [*CHAT, *CHAT], [{**message, "name": "x"} for message in CHAT]]
    for chat, (before, whole) in zip(chats, rendered(template, chats), strict=True):
        expected = tokenizer.apply_chat_template(chat, tokenize=False)
        opened = tokenizer.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True)
        assert (before, whole) == (opened.removeprefix("<s>"), expected.removeprefix("<s>"))


FAILING = {
    "{{ raise_exception('Zorblax ' ~ messages[0].content) }}": "refuses the messages$",
    "\n\n{{ 1 // (messages | length - 3) // 0 }}": "fails with ZeroDivisionError in its line 3$",
    "{{ messages + 1 }}": "fails with TypeError in its line 1$",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "fails with RecursionError",
    "{% include 'x' %}": "fails with ",
    "{{ nothing.there }}": "fails with UndefinedError in its line 1$",
    "{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}": "fails with SecurityError",
}


QUICK = {"an endless loop", "a text of 2 GB", "no template", "a literal of 20 MB"}


@pytest.mark.parametrize(
    ("template", "words"),
    [pytest.param(*case, marks=[pytest.mark.slow] if i > 2 else []) for i, case in enumerate(FAILING.items())],
)
def test_an_error_in_a_template_is_said_without_a_word_of_the_chat(template: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        rendered(template, [CHAT])
    assert "how are" not in str(raised.value)


HOSTILE = {
    "an endless loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a text of 2 GB": "{{ 'a' * 2000000000 }}",
    "a text of 40 MB": "{{ 'a' * 40000000 }}",
    "a tower of powers": "{{ 10 ** (10 ** 10) }}",
    "a width": "{{ '%2000000000d' | format(1) }}",
    "doubling": "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}",
    "no template": "{% if %}",
    "nested": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "a literal of 20 MB": "{{ '" + "a" * 20_000_000 + "' }}",
    "no text": {"tool_use": "x"},
}


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


def test_without_a_template_it_is_said_so() -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        rendered(None, [CHAT])


def test_many_chats_take_one_process_and_little_time() -> None:
    with chat_renderer(lambda: having(PLAIN)) as render:
        render(CHAT)
        started = time.monotonic()
        for _ in range(500):
            render(CHAT)
        assert time.monotonic() - started < 10
    assert chat_process.SECONDS < 10
