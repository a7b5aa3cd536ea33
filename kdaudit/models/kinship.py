"""Whether two checkpoints hold the same tensors, however they were saved, and how far apart they are.

A copy that was saved again, split over other files or cast to another precision has other bytes and other hashes.
Names and shapes stand in the headers of the files; of tensors whose shapes agree a few rows are read. Only where these
are all the same is the rest read too, some megabytes at a time, so that no model is ever in memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from kdaudit.errors import KdauditError, ModelError
from kdaudit.foreign import reading
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.fit import NO_WEIGHTS
from kdaudit.models.gguf import is_gguf
from kdaudit.models.weights import ADAPTER_CONFIG, SAFE, read_json, weight_files

if TYPE_CHECKING:
    import torch

ROWS = 4  # of every tensor
CHUNK = 2**22  # numbers that are compared at one time
SHARED_NAMES = 0.8  # of the tensors of both, with equal shapes: less is another architecture or another kind of storage
BODY = re.compile(r"^(?:(?:module|base_model|model|language_model|transformer|gpt_neox|backbone|rwkv)\.)+")
LORA = re.compile(r"(.*)\.lora_([AB])\.weight$")
ADAPTER = "adapter:"


Part = tuple[slice, ...]
"""Which numbers of a tensor, by its leading dimensions."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor on disk."""

    shape: tuple[int, ...]
    read: Callable[[Part], torch.Tensor]
    """The numbers of a part, as stored."""


@lru_cache(maxsize=4096)
def holds_same_tensors(one: Checkpoint, other: Checkpoint, *, exactly: bool = False) -> bool:
    """Whether two checkpoints compute with the same tensors; an adapter of LoRA is what its base becomes by it.

    Args:
        one: a checkpoint.
        other: another one.
        exactly: no tensor may be rounded, and none may be another one: embeddings of another vocabulary, a head.
    """
    if one.weights_sha256 == other.weights_sha256:
        return True
    if one.is_recorded or other.is_recorded:
        return False
    with suppress(KdauditError), reading("", ModelError):  # a file that cannot be read: loading it says why
        pairs = _pairs(one, other, of_all=exactly)
        return pairs is not None and all(
            _are_same(a, b, exactly=exactly)
            for parts in (_some, _all)
            for pair in pairs
            for a, b in _numbers(pair, parts)
        )
    return False


@lru_cache(maxsize=4096)
def relative_distance(one: Checkpoint, other: Checkpoint) -> float | None:
    """|a - b| / |a| over the weights of both, from a few rows of each; None where they cannot be compared."""
    if one.stored is not None or other.stored is not None or one.is_recorded or other.is_recorded:
        return None
    with suppress(KdauditError), reading("", ModelError):
        return _distance(_pairs(one, other) or [])
    return None


def _distance(pairs: Sequence[tuple[Tensor, Tensor]]) -> float | None:
    gap = size = 0.0
    for pair in pairs:
        parts = [(a.double(), b.double()) for a, b in _numbers(pair, _some) if a.is_floating_point()]
        weight = math.prod(pair[0].shape) / max(1, sum(a.numel() for a, _ in parts))  # of a number that was read
        gap += weight * sum(float((a - b).square().sum()) for a, b in parts)
        size += weight * sum(float(a.square().sum()) for a, _ in parts)
    return (gap / size) ** 0.5 if size and math.isfinite(gap / size) else None


def _pairs(one: Checkpoint, other: Checkpoint, *, of_all: bool = False) -> list[tuple[Tensor, Tensor]] | None:
    """The tensors that both have; None where most (or any) are others. Nothing but headers is read for that."""
    if one.n_layers != other.n_layers:
        return None
    first, second = _tensors(one), _tensors(other)
    shared = [name for name in first if name in second and first[name].shape == second[name].shape]
    n_most = max(len(first), len(second))
    if not shared or len(shared) < (n_most if of_all else SHARED_NAMES * n_most):
        return None
    if {name for name in {*first, *second} if name.startswith(ADAPTER)} - set(shared):
        return None
    return [(first[name], second[name]) for name in sorted(shared)]


def _numbers(
    pair: tuple[Tensor, Tensor], parts: Callable[[tuple[int, ...]], Iterator[Part]]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for part in parts(pair[0].shape):
        yield pair[0].read(part), pair[1].read(part)


def _some(shape: tuple[int, ...]) -> Iterator[Part]:
    """A few rows, spread over the tensor; of the experts of a mixture one row each."""
    if len(shape) < 2:
        yield (slice(None),)
        return
    for row in sorted({(shape[0] - 1) * i // (ROWS - 1) for i in range(ROWS)}):
        yield (slice(row, row + 1), *(slice(row % size, row % size + 1) for size in shape[1:-1]))


def _all(shape: tuple[int, ...]) -> Iterator[Part]:
    """Everything, in parts of some megabytes."""
    if len(shape) < 2:
        yield (slice(None),)
        return
    n_in_row = math.prod(shape[1:])
    step = max(1, CHUNK // n_in_row)
    inner = max(1, CHUNK * shape[1] // n_in_row)
    for start in range(0, shape[0], step):
        if n_in_row <= CHUNK or len(shape) == 2:
            yield (slice(start, start + step),)
            continue
        yield from ((slice(start, start + 1), slice(column, column + inner)) for column in range(0, shape[1], inner))


def _are_same(a: torch.Tensor, b: torch.Tensor, *, exactly: bool) -> bool:
    """Whether two parts are equal, or one of them is the other after rounding."""
    import torch

    if not (a.is_floating_point() and b.is_floating_point()):
        return a.dtype == b.dtype and torch.equal(a, b)
    wide = torch.float64 if torch.float64 in {a.dtype, b.dtype} else torch.float32
    one, other = a.to(wide), b.to(wide)
    if torch.equal(one, other):
        return True
    if exactly:
        return False
    for coarse in dict.fromkeys((a.dtype, b.dtype, torch.bfloat16, torch.float16, torch.float32)):
        rounded = one.to(coarse).to(wide), other.to(coarse).to(wide)
        if torch.equal(*rounded) and (torch.equal(rounded[0], one) or torch.equal(rounded[1], other)):
            return True
    return False


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """By name without the path of the model's body."""
    found = _named(_stored((checkpoint.base or checkpoint).folder, checkpoint))
    return found if checkpoint.base is None else _adapted(found, checkpoint)


def _named(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    bare = [BODY.sub("", name) for name in stored]
    is_clear = len(set(bare)) == len(bare)
    return {
        name: tensor
        for name, tensor in zip(bare if is_clear else stored, stored.values(), strict=True)
        if not name.endswith(NO_WEIGHTS) and 0 not in tensor.shape and not _is_mask(name, tensor)
    }


def _is_mask(name: str, tensor: Tensor) -> bool:
    return len(tensor.shape) == 4 and name.endswith(".bias")


def _stored(folder: Path, checkpoint: Checkpoint) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    if is_gguf(folder):
        return found  # its names and layouts are those of llama.cpp
    for path in weight_files(folder, checkpoint.name, allow_pickle=checkpoint.allow_pickle):
        found |= _in_safetensors(path) if path.suffix == SAFE else _in_pickle(path)
    return found


def _in_safetensors(path: Path) -> dict[str, Tensor]:
    tensors: Any = safe_open(path, framework="pt")
    found = {}
    for name in tensors.keys():  # noqa: SIM118 - no mapping
        entry = tensors.get_slice(name)
        shape = tuple(entry.get_shape())
        found[name] = Tensor(shape, partial(_sliced, entry) if shape else partial(_single, tensors, name))
    return found


def _in_pickle(path: Path) -> dict[str, Tensor]:
    """As `torch.save` writes them; its format from before 2020 cannot be read in parts and gives an error."""
    import torch

    weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {
        name: Tensor(tuple(one.shape), partial(_sliced, one if one.ndim else one.reshape(1)))
        for name, one in weights.items()
        if isinstance(one, torch.Tensor)
    }


def _sliced(entry: Any, part: Part) -> torch.Tensor:
    numbers: torch.Tensor = entry[part]
    return numbers


def _single(tensors: Any, name: str, part: Part) -> torch.Tensor:
    number: torch.Tensor = tensors.get_tensor(name).reshape(1)[part]
    return number


def _adapted(base: dict[str, Tensor], checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a base with a LoRA adapter in them; those of any other adapter stand beside the base's."""
    settings = read_json(checkpoint.folder / ADAPTER_CONFIG, checkpoint.name)
    own = _stored(checkpoint.folder, checkpoint)
    low_rank: dict[str, dict[str, Tensor]] = {}
    for name, tensor in own.items():
        if (named := LORA.match(name)) is not None:
            low_rank.setdefault(BODY.sub("", named[1]) + ".weight", {})[named[2]] = tensor
    is_plain = settings.get("peft_type") == "LORA" and 2 * len(low_rank) == len(own)
    changed = {}
    if is_plain and not (settings.get("use_dora") or settings.get("alpha_pattern")):
        for name, parts in low_rank.items():
            if name in base and (added := _added(base[name].shape, parts, settings)) is not None:
                changed[name] = Tensor(base[name].shape, partial(_summed, base[name], added))
    if len(changed) < len(low_rank) or not changed:
        return base | {f"{ADAPTER}{name}": tensor for name, tensor in own.items()}
    return base | changed


def _added(
    shape: tuple[int, ...], parts: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> Callable[[Part], torch.Tensor] | None:
    """What LoRA adds to a weight, of which only the rows that are asked for are made; None where it does not fit."""
    down, up = parts["A"], parts["B"]
    if len(down.shape) != 2 or len(up.shape) != 2 or len(shape) != 2:
        return None
    usual, turned = (up.shape[0], down.shape[1]), (down.shape[1], up.shape[0])
    is_turned = turned == shape and (usual != shape or bool(settings.get("fan_in_fan_out")))
    if not is_turned and usual != shape:
        return None
    rank = down.shape[0]
    scale = float(settings["lora_alpha"]) / (rank**0.5 if settings.get("use_rslora") else rank)

    def read(part: Part) -> torch.Tensor:
        a, b = (one.read((slice(None),)).float() for one in (down, up))
        added: torch.Tensor = (b @ a[:, part[0]]).T if is_turned else b[part[0]] @ a
        return added * scale

    return read


def _summed(base: Tensor, added: Callable[[Part], torch.Tensor], part: Part) -> torch.Tensor:
    return base.read(part).float() + added(part)
