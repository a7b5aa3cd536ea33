"""The program that applies a chat template, in a process of its own: a template is a program that somebody else wrote.

`kdaudit.models.chat` starts it. It reads pickles from there, settings first and then chats, and answers each with one
line of JSON: nothing that a template could make is ever unpickled. Its memory is limited as a whole (on Linux), its
time for each chat and for all; beyond them it ends, and whoever asked sees that.
"""

from __future__ import annotations

import json
import math
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import Any

SECONDS = 3
"""Processor time for one chat: a text of a million tokens takes a tenth of one."""
SECONDS_EACH = 0.1
"""Processor time for the average chat: no file keeps a template busy for long, however many chats it holds."""
MEMORY = 2**29
"""Bytes beside those of the program itself."""


def main() -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when whoever asked ends: Ctrl-C is for them
    sys.modules["torch"] = None  # type: ignore[assignment] # rendering needs none of it, and it takes seconds
    from transformers.utils import chat_template_utils  # noqa: F401 # the limits are the template's, not the library's

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory()
    started, n_chats = time.process_time(), 0
    _limit_time(started + SECONDS)
    render, refusal = prepare(**_next())
    _tell(refusal)
    while (chat := _next()) is not None:
        n_chats += 1
        _limit_time(started + SECONDS + SECONDS_EACH * n_chats)
        _tell(render(**chat))


Answer = dict[str, Any]


def prepare(
    *, template: str | Mapping[str, str], special_tokens: Mapping[str, str], today: str, at_most: int
) -> tuple[Callable[..., Answer], Answer]:
    """What renders a chat, and why it must not be asked to, if there is a reason.

    Args:
        template: of the tokenizer, or several by name.
        special_tokens: of the tokenizer, by the name under which a template knows them.
        today: what a template that asks for the date is told.
        at_most: characters of a whole text.

    Returns:
        A function of the fields of a `Chat` that gives `texts`: the one before the answer, and the whole one. Or it
        gives what keeps them from being made: the `error` and its `line` of the template, or the `length` of a text
        that is too long; never a word of the chat.
    """
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from kdaudit.errors import ConfigError
    from kdaudit.models.repeatable import check_template, pinned_clock, read_date

    # everything of the checkpoint's own that a template can see, and nothing more
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **special_tokens)
    tokenizer.chat_template = template

    def apply(messages: list[dict[str, Any]], **how: Any) -> str:
        with pinned_clock(read_date(today)):
            return str(tokenizer.apply_chat_template(messages, tokenize=False, **how))

    @cache
    def takes_parts() -> bool:
        """Whether the template shows a list of one part as it shows the text in it."""
        parts = [{"type": "text", "text": "a"}]
        try:
            shown, plain = (
                apply([{"role": "user", "content": one}, {"role": "assistant", "content": one}]) for one in (parts, "a")
            )
        except Exception:
            return False
        return shown == plain

    def render(
        messages: Sequence[Mapping[str, Any]],
        n_answer: int = 1,
        tools: object = None,
        documents: object = None,
        arguments: Mapping[str, object] | None = None,
    ) -> Answer:
        given: dict[str, Any] = {**(arguments or {}), "tools": tools, "documents": documents}
        try:
            chat = [dict(message) for message in messages]
            if any(isinstance(message.get("content"), list) for message in chat) and not takes_parts():
                chat = [{**message, "content": _joined(message.get("content"))} for message in chat]
            before = apply(chat[: len(chat) - n_answer], add_generation_prompt=True, **given)
            whole = apply(chat, **given)
        except Exception as error:
            return {"error": type(error).__name__, "line": _line(error)}
        length = max(len(before), len(whole))
        return {"length": length} if length > at_most else {"texts": [before, whole]}

    try:
        check_template(template)
    except ConfigError as error:
        return render, {"refusal": [str(error), error.hint]}
    return render, {}


def _joined(content: object) -> object:
    """The texts of a message's parts, each in lines of its own, as servers of chat models join them."""
    return "\n".join(part["text"] for part in content) if isinstance(content, list) else content


def _tell(answer: Answer) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _next() -> Any:
    try:
        return pickle.load(sys.stdin.buffer)  # what kdaudit itself writes there
    except EOFError:
        return None


def _limit_memory() -> None:
    with suppress(OSError, ValueError):  # elsewhere than on Linux the time alone is limited
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _limit_time(until: float) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(min(time.process_time() + SECONDS, until)), hard))


def _line(error: BaseException) -> int | None:
    """The line of the template; never its message, which may hold what the chat says."""
    found: int | None = getattr(error, "lineno", None)
    step: TracebackType | None = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == "<template>":
            found = step.tb_lineno
        step = step.tb_next
    return found


if __name__ == "__main__":
    main()
