"""Which of several processes this one is, as torchrun, accelerate, srun or a person has numbered them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kdaudit.errors import ConfigError

LAUNCHERS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))
"""Number, count and number on the host: torchrun and accelerate set the first, srun the second. SLURM_NTASKS says
nothing: it is also set in a batch script that runs one process."""


@dataclass(frozen=True, slots=True)
class Rank:
    """One of the processes that divide the units of an audit."""

    number: int
    """From 0."""
    n: int
    local: int = 0
    """The number among those of one host, from 0."""
    is_shard: bool = False
    """Whether a person divides the units (--shard): such a process knows of no other one, and judges nothing."""

    @property
    def is_one_of_several(self) -> bool:
        """Whether a launcher started more processes than this one."""
        return self.n > 1 and not self.is_shard

    @property
    def judges(self) -> bool:
        """Whether this process writes the results."""
        return self.number == 0 and not self.is_shard

    def taker(self, shard: int) -> int:
        """The number of the process that measures a shard, in every pass."""
        return shard % self.n

    def takes(self, shard: int) -> bool:
        """Whether this process measures a shard."""
        return self.taker(shard) == self.number

    def __str__(self) -> str:
        """`rank 2 of 3`, counted from 0 as launchers do, or `shard 3 of 3`."""
        return f"shard {self.number + 1} of {self.n}" if self.is_shard else f"rank {self.number} of {self.n}"


ALONE = Rank(0, 1)


def launched(environ: Mapping[str, str] = os.environ) -> Rank:
    """What a launcher says of this process; ALONE where there is none.

    Raises:
        ConfigError: naming the variable that says nothing of use.
    """
    for number, count, local in LAUNCHERS:
        if not environ.get(count) and (count.startswith("SLURM") or not environ.get(number)):
            continue
        n = _read(environ, count, 1, None)
        place = _read(environ, number, 0, n - 1)
        return Rank(place, n, _read(environ, local, 0, None) if environ.get(local) else place)
    return ALONE


def is_follower() -> bool:
    """Whether another process of the same launch says what all of them would say."""
    try:
        return launched().number > 0
    except ConfigError:
        return False


def refuse_several(command: str) -> None:
    """Refuse a launch of several processes for a command that does not divide its work.

    Raises:
        ConfigError: every process would do the same work in the same files.
    """
    if (n := launched().n) > 1:
        raise ConfigError(
            f"kdaudit {command}: {n} processes were started, and each would do the same work in the same files",
            hint=f"start one, without torchrun, accelerate or srun: kdaudit {command}",
        )


def parse_shard(text: str) -> Rank:
    """A part of the work as typed: 1/16 to 16/16.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"\s*([0-9]{1,9})/([0-9]{1,9})\s*", text)
    number, n = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= number <= n:
        raise ConfigError(
            f"--shard: '{text}' is " + (f"none of 1/{n} to {n}/{n}" if n else "not of the form I/N"),
            hint=f"--shard 1/{n or 16} to --shard {n or 16}/{n or 16} are the {n or 16} parts of an audit",
        )
    return Rank(number - 1, n, is_shard=True)


def _read(environ: Mapping[str, str], name: str, least: int, most: int | None) -> int:
    text = environ.get(name, "")
    if text.isascii() and text.isdigit() and least <= int(text) and (most is None or int(text) <= most):
        return int(text)
    says = f"sets {name} to {text[:40]!r}" if text else f"does not set {name}, but the rest of what a launcher sets"
    span = f"from {least}" if most is None else f"from {least} to {most}"
    raise ConfigError(
        f"the environment {says}: it must be a whole number {span}",
        hint="start with torchrun, accelerate launch or srun, which set it, or unset what is left of a launcher "
        f"({', '.join(one for names in LAUNCHERS for one in names if environ.get(one))})",
    )
