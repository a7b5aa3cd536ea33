"""Files that are whole or absent, and what a killed process leaves."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from kdaudit import artefacts
from kdaudit.artefacts import HOST, create_text, remove_leftovers, waiting_name, write_text
from kdaudit.manifest import make_key

DEAD = 2**22 + 1
"""No process has this number: Linux counts to 2**22."""


def test_what_a_killed_process_left_is_gone_when_its_file_is_written_again(tmp_path: Path) -> None:
    (tmp_path / f"a.json.{DEAD}.tmp").write_text("{", encoding="utf-8")
    (tmp_path / f"b.json.{DEAD}.tmp").write_text("{", encoding="utf-8")
    (tmp_path / f"a.json.{os.getppid()}.tmp").write_text("{", encoding="utf-8")
    (tmp_path / f"a.json.{'9' * 40}.tmp").mkdir()
    (tmp_path / f"a.json.{HOST}-{DEAD}.tmp").write_text("{", encoding="utf-8")
    elsewhere = tmp_path / f"a.json.{HOST[::-1]}-{DEAD}.tmp"
    elsewhere.write_text("{", encoding="utf-8")
    write_text(tmp_path / "a.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.json", f"b.json.{DEAD}.tmp", f"a.json.{os.getppid()}.tmp", elsewhere.name,
    }, "an id says nothing about a process of another host"  # fmt: skip


def test_a_folder_that_is_the_current_one_has_a_name_to_wait_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert waiting_name(Path()) == tmp_path / f"here.{HOST}-{os.getpid()}.tmp"
    (tmp_path / f"here.{DEAD}.tmp").mkdir()
    remove_leftovers(Path())
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_file_that_another_process_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    assert create_text(path, "first\n")
    assert not create_text(path, "second\n")
    assert path.read_text(encoding="utf-8") == "first\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["key"]


def test_without_hard_links_the_first_one_wins_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    assert create_text(tmp_path / "key", "first\n")
    assert not create_text(tmp_path / "key", "second\n")
    assert (tmp_path / "key").read_text(encoding="utf-8") == "first\n"
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


def test_threads_that_create_a_key_at_once_hold_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, together = tmp_path / "train.jsonl.kdaudit-key", Barrier(2)
    monkeypatch.setattr("kdaudit.manifest.secrets.token_hex", lambda n: f"{together.wait():02x}" * n)
    monkeypatch.setattr(artefacts, "waiting_name", lambda path: path.with_name(f"{together.wait()}.tmp"))
    with ThreadPoolExecutor(2) as pool:
        keys = list(pool.map(make_key, [path, path]))
    assert keys[0] == keys[1]
    assert make_key(path) == keys[0]


@pytest.mark.slow
def test_processes_that_create_a_key_at_once_hold_the_same_one(tmp_path: Path) -> None:
    script = "import sys\nfrom pathlib import Path\nfrom kdaudit.manifest import make_key\n"
    script += "sys.stdin.read(1)\nprint(make_key(Path(sys.argv[1])).hex())"
    for attempt in range(10):
        command = [sys.executable, "-c", script, str(tmp_path / f"key-{attempt}")]
        started = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)
        ]
        for one in started:
            assert one.stdin is not None
            one.stdin.write("g")
        found = {one.communicate()[0] for one in started}
        assert len(found) == 1
        assert found != {""}
