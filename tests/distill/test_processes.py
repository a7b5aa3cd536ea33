"""What only whole processes show: killed by the system, or two that train together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.commands import texts
from tests.distill.students import manifest_of

pytestmark = pytest.mark.slow  # five whole starts of Python; test_killed.py stops a run in this process
PYTHON = [sys.executable, "-W", "ignore"]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
          "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`kdaudit distill` on checkpoints of its own; models without dropout, whose draws processes do not share."""
    folder = tmp_path_factory.mktemp("processes")
    teacher, start = (tiny.save(folder / name, "llama", seed=seed) for seed, name in ((1, "teacher"), (2, "start")))
    train = tiny.write_jsonl(folder / "train.jsonl", texts(60), prefix="r")
    given = {"teacher": teacher, "student": start, "train": train}
    options = ["--teacher-saw", "none", "--epochs", "3", "--batch-tokens", "120", "--lr", "1e-3", "--quiet"]
    return ["-m", "kdaudit", "distill", *(part for name, path in given.items() for part in (f"--{name}", str(path))),
            *options]  # fmt: skip


def run(command: list[str], out: Path) -> None:
    done = subprocess.run(
        [*PYTHON, *command, "--out", str(out)], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def largest_gap(one: Path, other: Path) -> float:
    first, second = (load_file(path / "model.safetensors") for path in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture(scope="module")
def whole(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student of one process that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "student"
    run(command, out)
    return out


def test_killed_by_the_system_it_continues_to_the_same_weights(command: list[str], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    with subprocess.Popen(
        [*PYTHON, *command, "--out", str(out)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    ) as process:
        for _ in range(3000):
            if list(out.glob("training/checkpoint-*/sha256.json")) or process.poll() is not None:
                break
            time.sleep(0.02)
        process.kill()
    assert not (out / "kdaudit.json").exists()
    run(command, out)
    assert largest_gap(whole, out) == 0
    assert torch.is_tensor(load_file(out / "model.safetensors")["lm_head.weight"])


def test_two_processes_learn_what_one_does(command: list[str], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    run([*LAUNCH, *command], out)
    assert manifest_of(out)["training"]["processes"] == 2
    assert largest_gap(whole, out) < 2e-5  # float32 sums in another order
    one, two = (manifest_of(path)["utility"]["nll"]["student"]["value"] for path in (whole, out))
    assert one == pytest.approx(two, abs=1e-4)
