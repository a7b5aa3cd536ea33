"""Processes that are started as a launcher starts them, and killed as a cluster kills them."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kdaudit.audit import heartbeat
from kdaudit.views import build
from tests.audit.small_units import SHARD_CHARS
from tests.audit.test_together import check_same
from tests.commands import FINISHED, Given

pytestmark = pytest.mark.slow  # dozens of whole starts of Python
PYTHON = [sys.executable, "-W", "ignore", "-m"]
PROGRAM = "tests.audit.small_units"
PAUSE = 2.0
"""Seconds after each of the six units that one of three processes measures, so that a kill comes between two."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def options(given: Given) -> list[str]:
    return [*given.arguments(), *FINISHED, "--reference", str(given.start)]


@pytest.fixture(scope="module")
def alone(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SHARD_CHARS", SHARD_CHARS)
        done = given.attack(out, *FINISHED, "--reference", given.start)
    assert done.code == 0, done.err
    return out


@pytest.fixture
def start(options: list[str], tmp_path: Path) -> Start:
    """Starts rank r of n as srun does: nobody ends the others where one dies."""

    def begin(number: int, n: int, *, pause: float = 0.0) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PYTHON, PROGRAM, str(pause), "attack", *options, "--out", str(tmp_path)], text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, "RANK": str(number), "WORLD_SIZE": str(n), "LOCAL_RANK": str(number)},
        )  # fmt: skip

    return begin


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=600)
    return process.returncode, err


def torchrun(n: int, out: Path, options: list[str], *, pause: float = 0.0) -> list[str]:
    launcher = [*PYTHON, "torch.distributed.run", "--nproc-per-node", str(n), "-m", PROGRAM, str(pause)]
    return [*launcher, "attack", *options, "--out", str(out)]


def measured(out: Path) -> int:
    return len(list(out.glob("signals/*/*.safetensors")))


def wait_until(is_so: Callable[[], bool], *, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("n", [1, 3, 4])
def test_any_number_of_processes_finds_what_one_finds(n: int, options: list[str], alone: Path, tmp_path: Path) -> None:
    done = subprocess.run(torchrun(n, tmp_path, options), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check_same(tmp_path, alone)


def test_accelerate_launches_it_too(options: list[str], alone: Path, tmp_path: Path) -> None:
    launcher = [
        *PYTHON, "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", PROGRAM, "0",
    ]  # fmt: skip
    done = subprocess.run(
        [*launcher, "attack", *options, "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rank 1 of 2 measured 9 units" in done.stderr
    check_same(tmp_path, alone)


@pytest.mark.parametrize("seed", range(5))
def test_one_of_three_killed_at_any_moment_leaves_work_that_two_finish_to_the_same_bytes(
    seed: int, start: Start, alone: Path, tmp_path: Path
) -> None:
    victim, moment = (seed + 1) % 3, random.Random(seed).uniform(0, 3 * PAUSE)
    began = time.monotonic()
    processes = [start(number, 3, pause=PAUSE) for number in range(3)]
    wait_until(lambda: measured(tmp_path) > 0 and all(heartbeat.read(tmp_path, number) for number in (1, 2)))
    time.sleep(moment)
    processes[victim].kill()
    processes[victim].wait()  # a process that nobody waits for keeps its id
    at_death, pid = measured(tmp_path), processes[victim].pid
    ends = [finish(process) for process in processes]
    seconds = time.monotonic() - began
    kept = measured(tmp_path)
    print(  # noqa: T201 - the figure for the record
        f"seed {seed}: rank {victim} killed after {moment:.2f} s with {at_death} of 18 units measured; the others left "
        f"{kept} and ended with {[code for code, _ in ends]} after {seconds:.0f} s"
    )
    assert ends[victim][0] == -signal.SIGKILL
    assert [ends[number][0] for number in range(1, 3) if number != victim] == [0] * (2 - (victim > 0))
    code, err = ends[0]
    if kept == 18:  # it had come to its end, and the first measured or waited on
        assert code == (0 if victim else -signal.SIGKILL), err
    elif victim:
        assert code == 4, err
        assert re.search(rf"rank {victim} of 3 \(\S+, process {pid}\) stopped after [0-6] of 6 units", err)
        assert "run the same command again, with any number of processes" in err
    assert (tmp_path / "results.json").exists() == (code == 0)
    two = [start(number, 2) for number in range(2)]
    assert [finish(process)[0] for process in two] == [0, 0]
    check_same(tmp_path, alone)


def test_torchrun_ends_all_where_one_dies_and_rank_0_says_which(
    options: list[str], alone: Path, tmp_path: Path
) -> None:
    launcher = subprocess.Popen(
        torchrun(3, tmp_path, options, pause=PAUSE), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until(lambda: heartbeat.read(tmp_path, 2) is not None and measured(tmp_path) > 3)
    beat = heartbeat.read(tmp_path, 2)
    assert beat is not None
    os.kill(beat.process, signal.SIGKILL)
    code, err = finish(launcher)
    assert code == 1
    assert re.search(rf"rank 2 of 3 \(\S+, process {beat.process}\) stopped after [0-6] of 6 units", err), err
    subprocess.run(torchrun(2, tmp_path, options), check=True, capture_output=True)
    check_same(tmp_path, alone)


def test_a_second_start_does_not_believe_what_the_first_left(start: Start, alone: Path, tmp_path: Path) -> None:
    first = [start(number, 3, pause=PAUSE) for number in range(3)]
    wait_until(lambda: all(heartbeat.read(tmp_path, number) for number in (1, 2)) and measured(tmp_path) > 3)
    for process in first:
        process.kill()
        process.wait()
    assert heartbeat.read(tmp_path, 2) is not None
    assert [finish(process)[0] for process in [start(number, 3) for number in range(3)]] == [0, 0, 0]
    check_same(tmp_path, alone)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_rank_0_ends_in_order_while_it_waits(end: signal.Signals, start: Start, tmp_path: Path) -> None:
    waiting = start(0, 2)
    wait_until(lambda: measured(tmp_path) == 9)
    time.sleep(1)
    waiting.send_signal(end)
    code, err = finish(waiting)
    assert code == 130
    assert "interrupted; the same command continues" in err
    assert "Traceback" not in err


def test_threads_do_not_matter_to_these_models(options: list[str], alone: Path, tmp_path: Path) -> None:
    """Of larger ones they move last digits where a product has few rows: see the page on scale."""
    command = [*PYTHON, PROGRAM, "0", "attack", *options, "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    check_same(tmp_path, alone)
