"""One audit measured by several processes: each its units, and the same bytes as one process alone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdaudit.audit import heartbeat, together
from kdaudit.signals import store
from kdaudit.views import build
from tests.audit.small_units import SHARD_CHARS
from tests.commands import FINISHED, Done, Given, check_refused, counted_loads, files_in, kdaudit

PROGRAM = [sys.executable, "-W", "ignore", "-m"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(build, "SHARD_CHARS", SHARD_CHARS)
    monkeypatch.setattr(heartbeat, "LINGER", 0.0)
    monkeypatch.setattr(together, "LOOK", 0.01)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def options(given: Given) -> tuple[object, ...]:
    return (*FINISHED, "--reference", given.start)


@pytest.fixture(scope="module")
def alone(given: Given, options: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process."""
    return given.attack_in_shards(tmp_path_factory.mktemp("alone") / "run", SHARD_CHARS, *options)


def check_same(out: Path, alone: Path) -> None:
    for name in ("results.json", "scores.parquet", "likelihoods.parquet"):
        assert (out / name).read_bytes() == (alone / name).read_bytes(), name
    assert files_in(out / "signals") == files_in(alone / "signals")
    assert not list(out.rglob("*.tmp"))


def as_rank(number: int, n: int, given: Given, out: Path, *options: object) -> Done:
    """One of n processes, run in this one."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": number, "WORLD_SIZE": n, "LOCAL_RANK": number}.items():
            patch.setenv(name, str(value))
        return given.attack(out, *options)


def test_two_processes_of_torchrun_find_what_one_finds(
    given: Given, options: tuple[object, ...], alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [*PROGRAM, "torch.distributed.run", "--nproc-per-node", "2", "-m", "tests.audit.small_units", "0"]
    done = subprocess.run(
        [*command, "attack", *given.arguments(), "--out", str(out), *map(str, options)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_same(out, alone)
    assert done.stdout.count("How strong each attack is") == 1
    assert done.stderr.count("Plan: ") == 1
    assert "2 processes divide 18 units of work" in done.stderr
    assert "rank 1 of 2 measured 9 units" in done.stderr
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["compute"]["processes"] == 2


def test_each_rank_measures_its_own_units_and_only_the_first_writes_more(
    given: Given, options: tuple[object, ...], alone: Path, tmp_path: Path
) -> None:
    for number, n_units in ((2, 6), (1, 12)):
        done = as_rank(number, 3, given, tmp_path, *options)
        assert (done.code, done.out) == (0, "")
        assert done.err == f"rank {number} of 3 measured 6 units\n"
        assert len(files_in(tmp_path)) == n_units
    assert [path.name for path in tmp_path.iterdir()] == ["signals"]
    with counted_loads() as loads:
        assert as_rank(1, 3, given, tmp_path, *options).err == (
            "rank 1 of 3 measured 0 units; 6 were there already\n"
        )  # fmt: skip
        assert loads == [], "a process without work ends at once"
    assert as_rank(0, 3, given, tmp_path, *options).code == 0
    check_same(tmp_path, alone)


def test_the_teacher_of_an_earlier_run_is_nobodys_work(
    given: Given, options: tuple[object, ...], alone: Path, tmp_path: Path
) -> None:
    of_students = [part for part in given.arguments() if part not in {"--teacher", str(given.teacher)}]

    def attack(out: str) -> Done:
        return kdaudit("attack", *of_students, "--teacher-run", alone, "--out", tmp_path / out, *options)

    assert attack("one").code == 0
    for number in (1, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RANK", str(number))
            patch.setenv("WORLD_SIZE", "2")
            assert attack("two").code == 0
    check_same(tmp_path / "two", tmp_path / "one")


def test_where_scores_alone_are_kept_a_unit_is_a_shard_in_all_passes(
    given: Given, options: tuple[object, ...], tmp_path: Path
) -> None:
    reduced = (*options, "--signals", "reduced", "--paper-compat")
    one, several = tmp_path / "one", tmp_path / "several"
    assert given.attack(one, *reduced).code == 0
    done = as_rank(1, 2, given, several, *reduced)
    assert done.err == "rank 1 of 2 measured 3 units\n"
    assert given.attack(several, *reduced, "--shard", "3/3").err.endswith("to judge\n")
    assert as_rank(0, 2, given, several, *reduced).code == 0
    check_same(several, one)


def test_shards_by_hand_measure_and_the_command_without_them_judges(
    given: Given, options: tuple[object, ...], alone: Path, tmp_path: Path
) -> None:
    done = given.attack(tmp_path, *options, "--shard", "2/2")
    assert (done.code, done.out) == (0, "")
    assert "shard 2 of 2: 9 of 18 units of work are measured here, and nothing is judged" in done.err
    assert "shard 2 of 2 measured 9 units\n" in done.err
    assert done.err.endswith("run the same command without --shard to judge\n")
    assert [path.name for path in tmp_path.iterdir()] == ["signals"]
    plan = given.attack(tmp_path, *options, "--shard", "1/2", "--plan-only")
    assert "shard 1 of 2: 9 of 18 units" in plan.out
    assert len(files_in(tmp_path)) == 9
    assert given.attack(tmp_path, *options, "--shard", "1/4", "--quiet").code == 0
    assert given.attack(tmp_path, *options).code == 0, "the rest is measured where it is judged"
    check_same(tmp_path, alone)


def test_a_shard_refuses_a_folder_of_something_else(
    given: Given, options: tuple[object, ...], alone: Path, tmp_path: Path
) -> None:
    before = files_in(alone)
    for part in (("--shard", "1/2"), ()):
        check_refused(given.attack(alone, *options, *part, "--seed", 9), "seed was 0 and is now 9")
    done = as_rank(1, 2, given, alone, *options, "--seed", 9)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rank 1 of 2: --out: ")
    (tmp_path / "thesis.tex").write_text("", encoding="utf-8")
    check_refused(given.attack(tmp_path, *options, "--shard", "1/2"), "holds no earlier run (thesis.tex)")
    assert files_in(alone) == before


def test_a_shard_that_may_overwrite_removes_nothing(given: Given, options: tuple[object, ...], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert given.attack(out, *options).code == 0
    before = files_in(out)
    assert given.attack(out, *options, "--seed", 9, "--overwrite", "--shard", "1/2").code == 0
    assert {name: content for name, content in files_in(out).items() if name in before} == before


def test_bad_input_is_said_once(given: Given, options: tuple[object, ...], tmp_path: Path) -> None:
    wrong = given.having(members=tmp_path / "absent.jsonl")
    check_refused(as_rank(0, 2, wrong, tmp_path / "run", *options), "absent.jsonl")
    done = as_rank(1, 2, wrong, tmp_path / "run", *options)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert as_rank(1, 2, given, tmp_path / "run", "--attack", "los").err.startswith("rank 1 of 2: ")
    assert as_rank(1, 2, given, tmp_path / "run", "--no-such-option").err == ""
    assert not (tmp_path / "run").exists()


def test_the_plan_is_printed_once(given: Given, options: tuple[object, ...], tmp_path: Path) -> None:
    first, second = (as_rank(number, 2, given, tmp_path, *options, "--plan-only") for number in (0, 1))
    assert "2 processes divide 18 units of work" in first.out
    assert (second.code, second.out, second.err) == (0, "", "")


def test_a_rank_that_never_comes_or_failed_is_named(
    given: Given, options: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LATE", 0.0)
    check_refused(as_rank(0, 2, given, tmp_path, *options), "rank 1 of 2 has not begun", "9 of its 9 units", code=4)
    assert len(files_in(tmp_path / "signals")) == 0, "it is known before the first unit"
    monkeypatch.undo()
    monkeypatch.setattr(build, "SHARD_CHARS", SHARD_CHARS)
    failed = heartbeat.Beat("h", 1, state=heartbeat.FAILED, error="no CUDA device", hint="give --device cpu")
    monkeypatch.setattr(heartbeat, "read", lambda *_: failed)
    check_refused(
        as_rank(0, 2, given, tmp_path, *options), "rank 1 of 2 (h, process 1) failed after 0 of 9 units",
        "no CUDA device", "give --device cpu", code=4,
    )  # fmt: skip


def test_a_damaged_unit_of_another_process_is_waited_for(
    given: Given, options: tuple[object, ...], alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert as_rank(1, 2, given, tmp_path, *options).code == 0
    (damaged, *_) = sorted((tmp_path / "signals").rglob("*.safetensors"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100])
    mended = []

    def mend(_: float) -> None:
        mended.append(damaged.write_bytes(whole))

    monkeypatch.setattr("kdaudit.audit.together.time.sleep", mend)
    assert as_rank(0, 2, given, tmp_path, *options).code == 0
    assert mended
    check_same(tmp_path, alone)


def test_an_interrupted_process_says_so_with_its_last_beat(
    given: Given, options: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat_folder = tmp_path / heartbeat.FOLDER
    heartbeat_folder.mkdir()
    original, written = store.write, list[Path]()

    def ended_by_the_launcher(path: Path, signals: object) -> None:
        if written:
            os.kill(os.getpid(), signal.SIGTERM)
        original(path, signals)  # type: ignore[arg-type]
        written.append(path)

    monkeypatch.setattr(store, "write", ended_by_the_launcher)
    done = as_rank(1, 2, given, tmp_path, *options)
    assert (done.code, done.out, done.err) == (130, "", "")
    beat = heartbeat.read(tmp_path, 1)
    assert beat is not None
    assert beat.state == heartbeat.STOPPED
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
