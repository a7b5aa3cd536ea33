"""Whether two checkpoints hold the same tensors, however they were saved, and how far apart they are.

A copy that was saved again, split over other files or cast to another precision has other bytes and other hashes.
A few rows of every tensor tell, so that nothing has to be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.weights import weight_files

if TYPE_CHECKING:
    import torch

ROWS = 4  # of every tensor
NUMBERS = 4096  # of every row at most
SHARED_NAMES = 0.9  # of the tensors of both: less is another architecture
EQUAL = 0.9999  # of the numbers: a copy that was rounded twice differs in a few
NEAR = 0.001
"""Relative distance below which a checkpoint is hardly another one."""
BODY = re.compile(r"^(?:module\.)?(?:base_model\.model\.)?(?:model|transformer|gpt_neox|backbone|rwkv)\.")


@dataclass(frozen=True, slots=True)
class Sample:
    """A few rows of a tensor, as stored, and its whole shape."""

    numbers: torch.Tensor
    shape: tuple[int, ...]


@lru_cache(maxsize=1024)
def holds_same_tensors(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints hold the same tensors, up to a cast; adapters by themselves, on bases that do."""
    if (one.base is None) != (other.base is None):
        return False
    if one.base is not None and other.base is not None and not holds_same_tensors(one.base, other.base):
        return False
    pairs = _pairs(one, other)
    if pairs is None:
        return False
    import torch

    coarsest = (torch.float32, torch.float16, torch.bfloat16)
    return any(_share_equal(pairs, dtype) >= EQUAL for dtype in coarsest)


@lru_cache(maxsize=1024)
def relative_distance(one: Checkpoint, other: Checkpoint) -> float | None:
    """|a - b| / |a| over the weights of both; None where they are not of one architecture, or adapters."""
    pairs = _pairs(one, other) if one.base is None and other.base is None else None
    if pairs is None:
        return None
    gap = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    size = sum(float(a.double().square().sum()) for a, _ in pairs)
    return float((gap / size) ** 0.5) if size else None


def _pairs(one: Checkpoint, other: Checkpoint) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    """Rows of the tensors that both have, in the same order; None where their tensors are others."""
    samples = [_samples(found.folder, found.weights_sha256, found.allow_pickle) for found in (one, other)]
    first, second = samples
    shared = sorted(name for name in first if name in second)
    if not shared or len(shared) < SHARED_NAMES * max(len(first), len(second)):
        return None
    if any(first[name].shape != second[name].shape for name in shared):
        return None
    return [(first[name].numbers, second[name].numbers) for name in shared]


def _share_equal(pairs: list[tuple[torch.Tensor, torch.Tensor]], dtype: torch.dtype) -> float:
    import torch

    n_equal = sum(int(torch.eq(a.to(dtype), b.to(dtype)).sum()) for a, b in pairs)
    return n_equal / sum(a.numel() for a, _ in pairs)


@lru_cache(maxsize=16)
def _samples(folder: Path, weights_sha256: str, allow_pickle: bool) -> Mapping[str, Sample]:
    """By a tensor's name without the path of the model's body; a file that cannot be read gives nothing."""
    found: dict[str, Sample] = {}
    for path in weight_files(folder, str(folder), allow_pickle=allow_pickle):
        try:
            for name, entry, shape in _entries(path):
                sample = _rows(entry, shape)
                if sample.is_floating_point():
                    found[BODY.sub("", name)] = Sample(sample, shape)
        except (OSError, SafetensorError, RuntimeError, ValueError):  # loading it will say what is wrong
            return {}
    if {"lm_head.weight"} < found.keys():  # a head that is tied to the embeddings may be stored once or twice
        found.pop("lm_head.weight")
    return found


def _entries(path: Path) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                entry = tensors.get_slice(name)
                yield name, entry, tuple(entry.get_shape())
        return
    import torch

    weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    yield from ((name, one, tuple(one.shape)) for name, one in weights.items() if isinstance(one, torch.Tensor))


def _rows(entry: Any, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    if not shape:
        numbers: torch.Tensor = torch.as_tensor(entry[...] if not isinstance(entry, torch.Tensor) else entry)
        return numbers.reshape(-1)
    if len(shape) == 1:
        row: torch.Tensor = entry[:NUMBERS]
        return row
    chosen = sorted({int(i * (shape[0] - 1) / max(1, ROWS - 1)) for i in range(ROWS)}) if shape[0] else []
    rows = [entry[i : i + 1].reshape(-1)[:NUMBERS] for i in chosen]
    return torch.cat(rows) if rows else torch.zeros(0)
