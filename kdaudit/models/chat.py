"""Chats as texts: a checkpoint's chat template applied in a process of its own, with limits of time and memory."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdaudit.errors import CheckpointError, ConfigError
from kdaudit.models import chat_process
from kdaudit.records import Render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TEMPLATE = 2**20
"""Characters: twenty times the longest that is known."""
START_SECONDS = 120
"""Until the process has answered for the first time, on a machine with much else to do."""
WALL_SECONDS = 60
"""For one chat; the time of the processor is limited more tightly in the process itself."""
REFUSED = "TemplateError"
"""What a template raises by itself where it does not like the messages."""


@contextmanager
def chat_renderer(find_tokenizer: Callable[[], PreTrainedTokenizerBase]) -> Iterator[Render]:
    """Apply a tokenizer's chat template; tokenizer and process are there from the first chat to the end of the block.

    A template is a program of whoever made the checkpoint: what it takes in time and memory is limited, and an error in
    it is no error of ours.

    Raises:
        ConfigError: by the renderer: the tokenizer has no chat template.
        CheckpointError: by the renderer: the template is none, or takes more time or memory than a chat can need.
        ValueError: by the renderer: it refuses or fails on these messages; the message goes on after "the template".
    """
    started: list[tuple[Any, subprocess.Popen[bytes]]] = []

    def render(messages: Sequence[Mapping[str, object]]) -> tuple[str, str]:
        is_first = not started
        if is_first:
            tokenizer = find_tokenizer()
            started.append((tokenizer, _start(tokenizer)))
        tokenizer, process = started[0]
        answer = _ask(process, json.dumps(messages, default=str), START_SECONDS if is_first else WALL_SECONDS)
        if answer is None:
            raise CheckpointError(
                f"the chat template of {tokenizer.name_or_path} takes more than {chat_process.SECONDS} seconds or "
                f"{chat_process.MEMORY // 2**20} MB for one chat, or crashes: it was stopped",
                hint="apply a template that you know yourself and give prompt and completion",
            )
        if "texts" not in answer:
            raise _failure(answer["error"], answer["line"], tokenizer)
        before, whole = answer["texts"]
        first = tokenizer("a")["input_ids"][:1]
        if tokenizer.bos_token and first == [tokenizer.bos_token_id]:  # it is put before every text anyway
            before, whole = (text.removeprefix(tokenizer.bos_token) for text in (before, whole))
        return before, whole

    try:
        yield render
    finally:
        for _, process in started:
            process.kill()
            process.communicate()


def _failure(error: str, line: int | None, tokenizer: Any) -> Exception:
    if error == REFUSED:
        return ValueError("refuses the messages")
    where = f" in its line {line}" if line else ""
    if error in {"TemplateSyntaxError", "MemoryError", "OverflowError"}:
        what = {"MemoryError": "takes too much memory", "OverflowError": "makes a text or a number without end"}
        return CheckpointError(
            f"the chat template of {tokenizer.name_or_path} {what.get(error, 'is no template: a syntax error')}{where}",
            hint="apply a template that you know yourself and give prompt and completion",
        )
    return ValueError(f"fails with {error}{where}")


def _start(tokenizer: Any) -> subprocess.Popen[bytes]:
    if not tokenizer.chat_template:
        raise ConfigError(
            "the records are chats (messages), and the model's tokenizer has no chat template",
            hint="give a model with one, or records with prompt and completion",
        )
    named = tokenizer.chat_template
    template = named.get("default") if isinstance(named, dict) else named
    what = f"the chat template of {tokenizer.name_or_path}"
    if not isinstance(template, str):
        raise CheckpointError(f"{what} is no text, and none of its templates is called default")
    if len(template) > MAX_TEMPLATE:
        raise CheckpointError(f"{what} has {len(template):,} characters, and at most {MAX_TEMPLATE:,} can be meant")
    process = subprocess.Popen(
        # -P: beside the script lie modules whose names could be those of others
        [sys.executable, "-P", str(Path(chat_process.__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )
    _tell(process, json.dumps([template, dict(tokenizer.special_tokens_map)]))
    return process


def _tell(process: subprocess.Popen[bytes], line: str) -> bool:
    """Whether it could be told."""
    if process.stdin is None:
        return False
    try:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return False
    return True


def _ask(process: subprocess.Popen[bytes], line: str, seconds: float) -> Any:
    """Its answer; None where it ended, or gave none in that time."""
    if not _tell(process, line) or process.stdout is None:
        return None
    pipe, until, parts = process.stdout.fileno(), time.monotonic() + seconds, [b""]
    while not parts[-1].endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
        part = os.read(pipe, 2**20) if ready else b""
        if not part:
            return None
        parts.append(part)
    return json.loads(b"".join(parts))
