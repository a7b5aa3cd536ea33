"""Chats as texts: a checkpoint's chat template applied in a process of its own, with limits of time and memory."""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from kdaudit.errors import CheckpointError, ConfigError
from kdaudit.models import chat_process
from kdaudit.models.repeatable import CHAT_DATE, read_date, shows_address
from kdaudit.records import Chat, Render
from kdaudit.records.rows import MAX_CHARACTERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TEMPLATE = 2**20
"""Characters: twenty times the longest that is known."""
MAX_ANSWER = 2**27
"""Bytes: two texts of the largest size, each character spelt with six, and then some."""
WALL_SECONDS = 60
"""For one chat; the time of the processor is limited more tightly in the process itself."""
HINT = "apply a template that you know yourself and give prompt and completion"


@contextmanager
def chat_renderer(find_tokenizer: Callable[[], PreTrainedTokenizerBase], *, today: str = CHAT_DATE) -> Iterator[Render]:
    """Apply a tokenizer's chat template; tokenizer and process are there from the first chat to the end of the block.

    A template is a program of whoever made the checkpoint: what it takes in time and memory is limited, and an error in
    it is not an error of ours.

    Args:
        find_tokenizer: loads it.
        today: what a template that asks for the date is told.

    Raises:
        ConfigError: `today` is not a date; by the renderer: there is no chat template, or one that draws by chance.
        CheckpointError: by the renderer: the template is none, or takes more time or memory than a chat can need.
        ValueError: by the renderer: it refuses or fails on these messages; the message goes on after "the template".
    """
    read_date(today)
    started: list[tuple[subprocess.Popen[bytes], str, str]] = []

    def render(chat: Chat) -> tuple[str, str]:
        if not started:
            tokenizer: Any = find_tokenizer()
            settings = {
                "template": _template(tokenizer), "special_tokens": dict(tokenizer.special_tokens_map),
                "today": today, "at_most": MAX_CHARACTERS,
            }  # fmt: skip
            is_led = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
            lead = (tokenizer.bos_token or "") if is_led else ""
            started.append((_start(), f"the chat template of {tokenizer.name_or_path}", lead))
            process, what, _ = started[0]
            refusal = _ask(process, settings, what).get("refusal")
            if refusal:
                raise ConfigError(refusal[0], hint=refusal[1])
        process, what, lead = started[0]
        given = {field.name: getattr(chat, field.name) for field in fields(chat) if field.name != "has_own_prompt"}
        answer = _ask(process, given, what)
        if "texts" not in answer:
            if (
                len(chat.messages) == chat.n_answer and answer.get("error") == "ValueError"
            ):  # transformers refuses a chat of none
                raise ValueError("needs a message before the answer")
            raise _failure(answer, what)
        before, whole = (str(text) for text in answer["texts"])
        if shows_address(whole) and not shows_address(str(chat)):
            raise ValueError("shows where an object lies in memory, which is another place each time")
        return before.removeprefix(lead), whole.removeprefix(lead)  # the lead is put before every text anyway

    try:
        yield render
    finally:
        for process, _, _ in started:
            process.kill()
            process.communicate()


def _template(tokenizer: Any) -> str | Mapping[str, str]:
    """The one of a tokenizer, or several by name.

    Raises:
        ConfigError: there is none.
        CheckpointError: it is none, or renders otherwise than by a template.
    """
    from transformers import PreTrainedTokenizerBase

    found = tokenizer.chat_template
    if not found:
        raise ConfigError(
            "the records are chats (messages), and the model's tokenizer has no chat template",
            hint="give a model with one, or records with prompt and completion; --pairs text and --pairs alpaca show a "
            "question and its answer without one",
        )
    what = f"the chat template of {tokenizer.name_or_path}"
    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
        raise CheckpointError(f"{what} is applied by code of the checkpoint's own", hint=HINT)
    named = found if isinstance(found, dict) else {"default": found}
    if "default" not in named or not all(isinstance(one, str) for one in named.values()):
        raise CheckpointError(f"{what} is not a text, or none of its templates is called default", hint=HINT)
    n_characters = sum(map(len, named.values()))
    if n_characters > MAX_TEMPLATE:
        raise CheckpointError(
            f"{what} has {n_characters:,} characters, and at most {MAX_TEMPLATE:,} can be meant", hint=HINT
        )
    return found if isinstance(found, str) else named


def _failure(answer: Mapping[str, Any], what: str) -> Exception:
    """What to raise for an answer without texts."""
    if "length" in answer:
        return ValueError(
            f"makes a text of {answer['length']:,} characters, and at most {MAX_CHARACTERS:,} can be read"
        )
    error, line = str(answer.get("error")), answer.get("line")
    where = f" in its line {line}" if line else ""
    hopeless = {
        "TemplateSyntaxError": "is not a template: a syntax error", "MemoryError": "takes too much memory",
        "OverflowError": "makes a text or a number without end",
    }  # fmt: skip
    if error in hopeless:
        return CheckpointError(f"{what} {hopeless[error]}{where}", hint=HINT)
    return ValueError("refuses the messages" if error == "TemplateError" else f"fails with {error}{where}")


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", chat_process.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # it finds what is found here
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        },
    )


def _ask(process: subprocess.Popen[bytes], question: object, what: str) -> dict[str, Any]:
    """Its answer.

    Raises:
        CheckpointError: it ended, or gave none in time.
    """
    line = _answer_line(process, pickle.dumps(question))
    if line is None:
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            code = -signal.SIGXCPU  # late as well: on a busy machine its own clock goes slower
        why = f"takes more than {chat_process.SECONDS} seconds for a chat, or {chat_process.SECONDS_EACH} for each"
        if code != -signal.SIGXCPU:
            why = f"ends the process that applies it (exit code {code})"
        raise CheckpointError(f"{what} {why}", hint=HINT)
    found = json.loads(line)
    return found if isinstance(found, dict) else {}


def _answer_line(process: subprocess.Popen[bytes], question: bytes) -> bytes | None:
    """The line that it answers, or None where it ended or is late."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(question)
        process.stdin.flush()
    except BrokenPipeError:
        return None
    pipe, until, parts, n_bytes = process.stdout.fileno(), time.monotonic() + WALL_SECONDS, [b""], 0
    while not parts[-1].endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
        part = os.read(pipe, 2**20) if ready else b""
        n_bytes += len(part)
        if not part or n_bytes > MAX_ANSWER:
            return None
        parts.append(part)
    return b"".join(parts)
