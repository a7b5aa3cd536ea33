"""A run that ends early, however it ends, continues where it stopped and finds what it would have found."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kdaudit import lock
from kdaudit.signals import store
from kdaudit.views import build
from tests.commands import FINISHED, Given, check_refused, counted_loads, files_in, results

Write = Callable[[Path, Sequence[Any]], None]
SHARD_CHARS = 600  # several shards for each of the three passes


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD_CHARS", SHARD_CHARS)


@pytest.fixture(scope="module")
def options(given: Given) -> tuple[object, ...]:
    return (*FINISHED, "--reference", given.start)


@pytest.fixture(scope="module")
def uninterrupted(given: Given, options: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    return given.attack_in_shards(tmp_path_factory.mktemp("uninterrupted") / "run", SHARD_CHARS, *options)


def stopping_after(n_shards: int, error: BaseException) -> tuple[Write, list[Path]]:
    """A `store.write` that fails on the shard after `n_shards`, and the list of those that it wrote."""
    original, written = store.write, list[Path]()

    def write(path: Path, signals: Sequence[Any]) -> None:
        if len(written) == n_shards:
            raise error
        original(path, signals)
        written.append(path)

    return write, written


KILLED_AT_THE_SIXTH_SHARD = """
import os, signal, sys
from kdaudit.cli.main import main
from kdaudit.signals import store
from kdaudit.views import build

build.SHARD_CHARS = int(sys.argv[1])
renamed, rename = [], os.replace

def replace(source, target):
    if str(target).endswith(".safetensors"):
        if len(renamed) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        renamed.append(target)
    rename(source, target)

os.replace = replace
main(sys.argv[2:])
"""


def check_same_findings(out: Path, uninterrupted: Path) -> None:
    assert (out / "results.json").read_bytes() == (uninterrupted / "results.json").read_bytes()
    assert (out / "scores.parquet").read_bytes() == (uninterrupted / "scores.parquet").read_bytes()
    assert files_in(out / "signals") == files_in(uninterrupted / "signals")


@pytest.mark.parametrize("n_shards", [0, 1, 4, 8])
def test_an_interrupted_run_says_how_to_continue_and_repeats_no_finished_shard(
    n_shards: int, given: Given, options: tuple[object, ...], uninterrupted: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    n_all = len(files_in(uninterrupted / "signals"))
    assert n_all > 8
    write, finished = stopping_after(n_shards, KeyboardInterrupt())
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", write)
        done = given.attack(tmp_path, *options)
    assert done.code == 130
    assert "interrupted; the same command continues" in done.err
    assert str(tmp_path) in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "results.json").exists()

    write, rest = stopping_after(-1, AssertionError())
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", write)
        done = given.attack(tmp_path, *options)
    assert done.code == 0, done.err
    assert len(finished) == n_shards
    assert len(rest) == n_all - n_shards
    assert not set(rest) & set(finished)
    check_same_findings(tmp_path, uninterrupted)


def test_a_run_killed_in_the_middle_continues_to_identical_results(
    given: Given, options: tuple[object, ...], uninterrupted: Path, tmp_path: Path
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED_AT_THE_SIXTH_SHARD, encoding="utf-8")
    out = tmp_path / "run"
    command = [sys.executable, str(script), str(SHARD_CHARS), "attack", *given.arguments(), "--out", str(out)]
    killed = subprocess.run([*command, *map(str, options)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(out.rglob("*.safetensors"))) == 5
    (unfinished,) = (path for path in out.rglob("*.tmp") if path.name != lock.FILE_NAME)

    done = given.attack(out, *options)
    assert done.code == 0, done.err
    assert not unfinished.exists()  # what the dead process left is removed
    check_same_findings(out, uninterrupted)


def test_a_full_disk_loses_nothing_that_is_finished(
    given: Given, options: tuple[object, ...], uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, _ = stopping_after(3, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", write)
        done = given.attack(tmp_path, *options, "--quiet")
    check_refused(done, "the disk is full", "run the same command again", code=4)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3

    assert given.attack(tmp_path, *options).code == 0
    check_same_findings(tmp_path, uninterrupted)


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6])
def test_a_disk_that_fills_up_under_any_file_leaves_whole_results(
    nth: int, given: Given, options: tuple[object, ...], uninterrupted: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = shutil.copytree(uninterrupted, tmp_path / "run")
    gated = (*options, "--gate", "student.auc <= 0.9", "--quiet")
    synced = []

    def full_at_last(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_at_last)
        check_refused(given.attack(out, *gated), "disk", code=4)
    is_new = bool(results(out)["verdict"]["gates"])
    assert is_new == (nth > 4), "manifest, scores, likelihoods, results, manifest, summary"
    assert not list(out.rglob("*.tmp"))
    assert given.attack(out, *gated).code == 3


def test_a_damaged_shard_is_measured_again(
    given: Given, options: tuple[object, ...], uninterrupted: Path, tmp_path: Path
) -> None:
    assert given.attack(tmp_path, *options).code == 0
    (shard, *_) = sorted((tmp_path / "signals").rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:100])
    with counted_loads() as loads:
        assert given.attack(tmp_path, *options).code == 0
    assert len(loads) == 1
    check_same_findings(tmp_path, uninterrupted)
