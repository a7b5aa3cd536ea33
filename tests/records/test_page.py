"""What the page on data says that kdaudit prints is what it prints."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from kdaudit.cli.docs import pages
from kdaudit.errors import RecordsError
from kdaudit.records import Chat, notes_on, read

PAGE = pages()["data"]
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}
PICTURE = {"role": "user", "content": [{"type": "image"}]}


def render(chat: Chat) -> tuple[str, str]:
    return "hi", f"hi {chat.messages[-1]['content']}"


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


SAID: dict[str, tuple[bytes, dict[str, Any]]] = {
    "t.csv": (b"id~text\n1~one\n", {}),
    "noext": (lines({"text": "x"}), {}),
    "p.txt": (b"one\nmore\n\ntwo\n", {"skip_empty": True}),
    "m.jsonl": (lines({"messages": [USER, ANSWER], "source": "web"}), {}),
    "qa.jsonl": (lines({"question": "a", "answer": "b"}), {}),
    "mix.jsonl": (lines({"text": "x"}, {"messages": [USER, ANSWER]}), {}),
}
REFUSED: dict[str, bytes] = {
    "two.json": json.dumps({"train": [{"text": "x"}], "test": [{"text": "y"}]}).encode(),
    "l1.txt": "café\n".encode("latin-1"),
    "p.txt": b"one\nmore\n\ntwo\n",
    "dpo.jsonl": lines({"prompt": "hi", "chosen": "a", "rejected": "b"}),
    "parts.jsonl": lines({"messages": [PICTURE, ANSWER]}),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_said(said: str) -> None:
    assert f"| `{said}` |" in PAGE


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_about_a_file(name: str) -> None:
    content, layout = SAID[name]
    Path(name).write_bytes(content)
    (said,) = notes_on([read(name, option="--members", render=render, **layout)])
    check_said(said)


def refused(name: str) -> Iterator[str]:
    with pytest.raises(RecordsError) as caught:
        read(name, option="--members", render=render)
    check_said(str(caught.value))
    yield caught.value.hint


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_said_about_a_file_that_cannot_be_used(name: str) -> None:
    Path(name).write_bytes(REFUSED[name])
    (hint,) = refused(name)
    if name in {"p.txt", "dpo.jsonl"}:
        check_said(hint)


def test_what_is_said_about_folders() -> None:
    Path("mixed").mkdir()
    for name in ("train-0.jsonl", "test-0.jsonl"):
        (Path("mixed") / name).write_bytes(lines({"text": "x"}))
    (hint,) = refused("mixed")
    check_said(hint)
    data = datasets.Dataset.from_list([{"text": "x"}])
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk("saved")
    (hint,) = refused("saved")
    check_said(hint)


@pytest.mark.slow
def test_what_is_said_about_a_file_that_unpacks_without_end() -> None:
    Path("bomb.jsonl.gz").write_bytes(gzip.compress(b"\n" * (2**30 + 2**21), mtime=0))
    list(refused("bomb.jsonl.gz"))
