"""A run that keeps the scores of a shard, and none of its signals, finds what any other run finds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kdaudit.audit import plan, reduced
from kdaudit.signals import store
from kdaudit.views import build
from tests.commands import Given, check_refused, files_in, results

OPTIONS = ("--attack", "all", "--paper-compat")


@pytest.fixture(autouse=True)
def small_shards_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD_CHARS", 250)
    monkeypatch.setattr(reduced, "BLOCK_CHARACTERS", 700)


@pytest.fixture(scope="module")
def full(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return given.attack_in_shards(tmp_path_factory.mktemp("full") / "run", 250, *OPTIONS, "--reference", given.start)


def check_reduced(out: Path, full: Path) -> None:
    for name in ("results.json", "scores.parquet", "likelihoods.parquet"):
        assert (out / name).read_bytes() == (full / name).read_bytes(), name
    kept = files_in(out / "signals")
    assert kept
    assert {Path(name).parts[0] for name in kept} == {"scores"}


def test_a_reduced_run_finds_the_same_and_leaves_no_signal(given: Given, full: Path, tmp_path: Path) -> None:
    done = given.attack(tmp_path, *OPTIONS, "--reference", given.start, "--signals", "reduced")
    assert done.code == 0, done.err
    check_reduced(tmp_path, full)
    n_shards = len(files_in(tmp_path / "signals"))
    assert n_shards * 4 < len(files_in(full / "signals"))


def test_many_records_are_reduced_unless_signals_are_asked_for(
    given: Given, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MANY", 8)
    for name, more in (("many", ()), ("kept", ("--signals", "full"))):
        done = given.attack(tmp_path / name, *OPTIONS, "--reference", given.start, *more)
        assert done.code == 0, done.err
        assert ("the run folder keeps scores, not what models say of every token" in done.err) == (name == "many")
    check_reduced(tmp_path / "many", full)
    assert files_in(tmp_path / "kept" / "signals") == files_in(full / "signals")


@pytest.mark.parametrize("n_finished", [0, 1, 3])
def test_an_interrupted_reduced_run_continues_where_it_was(
    n_finished: int, given: Given, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., None] = store.write_columns
    written: list[Path] = []

    def stopping(path: Path, columns: Mapping[str, Any]) -> None:
        if len(written) == n_finished:
            raise KeyboardInterrupt
        original(path, columns)
        written.append(path)

    options = (*OPTIONS, "--reference", given.start, "--signals", "reduced")
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_columns", stopping)
        assert given.attack(tmp_path, *options).code == 130
    times = {path: path.stat().st_mtime_ns for path in written}
    done = given.attack(tmp_path, *options)
    assert done.code == 0, done.err
    check_reduced(tmp_path, full)
    assert {path: path.stat().st_mtime_ns for path in written} == times


def test_damaged_scores_of_a_shard_are_measured_again(given: Given, full: Path, tmp_path: Path) -> None:
    options = (*OPTIONS, "--reference", given.start, "--signals", "reduced")
    assert given.attack(tmp_path, *options).code == 0
    first, second, *_ = sorted((tmp_path / "signals").rglob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-9])
    second.unlink()
    assert given.attack(tmp_path, *options).code == 0
    check_reduced(tmp_path, full)


def test_another_word_for_what_is_kept_is_refused(given: Given, tmp_path: Path) -> None:
    check_refused(given.attack(tmp_path, "--signals", "some"), "--signals")


def test_the_results_name_all_attacks(full: Path) -> None:
    assert len(results(full)["attacks"]) >= 10


def test_parts_that_were_measured_apart_are_judged_together(given: Given, full: Path, tmp_path: Path) -> None:
    options = (*OPTIONS, "--reference", given.start, "--signals", "reduced")
    for part in ("2/3", "1/3"):
        done = given.attack(tmp_path, *options, "--shard", part)
        assert done.code == 0, done.err
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "signals").rglob("*.safetensors")}
    assert given.attack(tmp_path, *options).code == 0
    check_reduced(tmp_path, full)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len(files_in(tmp_path / "signals")) > len(written)
