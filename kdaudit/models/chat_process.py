"""The program that applies a chat template, in a process of its own: a template is a program that somebody else wrote.

It is started by `kdaudit.models.chat` as a script. It reads one JSON value from every line, the template first and
then chats, and answers each chat with one line. Its memory is limited as a whole (where the system can do that: Linux)
and its time for each line; beyond them it ends, and whoever asked sees that.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

SECONDS = 5
"""Of the processor, for one chat."""
MEMORY = 2**29
"""Bytes beside those of the program itself."""
MAX_TEXT = 2**24
"""Characters of a rendered chat."""


def main() -> None:
    """Answer until nobody asks any more."""
    sys.modules["torch"] = None  # type: ignore[assignment] # rendering needs none of it, and it takes seconds
    from transformers.utils.chat_template_utils import render_jinja_template

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory()
    template, variables = json.loads(sys.stdin.readline())

    def render(messages: list[dict[str, Any]], *, is_open: bool) -> str:
        (text,), _ = render_jinja_template(
            conversations=[messages], chat_template=template, add_generation_prompt=is_open, **variables
        )
        if len(text) > MAX_TEXT:
            raise OverflowError
        return str(text)

    for line in sys.stdin:
        _limit_time()
        try:
            messages = json.loads(line)
            answer: dict[str, Any] = {"texts": [render(messages[:-1], is_open=True), render(messages, is_open=False)]}
        except Exception as error:
            answer = {"error": type(error).__name__, "line": _line(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _limit_memory() -> None:
    with suppress(OSError, ValueError):  # elsewhere than on Linux the time alone is limited
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _limit_time() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS, hard))


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
