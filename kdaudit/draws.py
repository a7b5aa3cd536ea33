"""Random numbers: a run has one seed, and every named draw has its own stream."""

from __future__ import annotations

from zlib import crc32

import numpy as np


def generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one named draw: adding another draw does not move this one."""
    return np.random.default_rng([seed, crc32(name.encode())])
