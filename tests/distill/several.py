"""`python -m tests.distill.several FILE` runs command lines of kdaudit, one in each line of FILE, in several processes.

Each process leaves its number beside FILE, as `process-RANK`.

Where FSDP is asked for, accelerate is told that its CPU is a GPU: it shards nothing over CPUs, though torch does. All
else is what runs on GPUs: accelerate's own preparation of model and optimiser, torch's FSDP2, and kdaudit.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from kdaudit.cli.main import main
from kdaudit.distill import trainer

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
PYTHON = [sys.executable, "-W", "ignore"]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def launch(
    commands: Sequence[Sequence[object]], folder: Path, *, n: int = 2, is_sharded: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run commands, one after the other, in `n` processes that torchrun starts."""
    return started(commands, folder, ["torch.distributed.run", "--nproc-per-node", str(n)], FSDP if is_sharded else {})


def started(
    commands: Sequence[Sequence[object]], folder: Path, launcher: Sequence[str], variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run commands, one after the other, in the processes that a launcher starts: a module, and its arguments."""
    start = [*PYTHON, "-m", *launcher, "-m", "tests.distill.several", str(write_commands(commands, folder))]
    return subprocess.run(start, env={**ENVIRONMENT, **variables}, capture_output=True, text=True, check=False)


def write_commands(commands: Sequence[Sequence[object]], folder: Path) -> Path:
    """The file that the processes read."""
    file = folder / "commands.txt"
    file.write_text("\n".join(shlex.join(map(str, line)) for line in commands), encoding="utf-8")
    return file


def _backend(*_: Any, **__: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


def _device(self: PartialState) -> None:
    self.device = torch.device("cpu")


def _run(lines: Sequence[str]) -> None:
    trainer.LOG_STEPS = 1  # the manifest tells the loss of every step
    for line in lines:
        try:
            main(shlex.split(line))
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        torch.distributed.init_process_group("gloo")
        PartialState._prepare_backend = _backend
        PartialState.set_device = _device
    commands = Path(sys.argv[1])
    commands.with_name(f"process-{os.environ['RANK']}").write_text(str(os.getpid()))
    _run(commands.read_text(encoding="utf-8").splitlines())
