"""Signals on disk: one file per shard, whole or absent, whose name changes with whatever can change a number in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kdaudit.artefacts import replacing
from kdaudit.foreign import check_regular
from kdaudit.signals.tokens import TokenSignals

ARRAYS = ("logprob", "logprob_mean", "logprob_std", "logprob_top", "byte_end")


@dataclass(frozen=True, slots=True)
class PassKey:
    """Everything about one pass of one model that can change a signal, the texts apart."""

    engine_version: int
    model: str
    """Fingerprint of weights, adapter, configuration and quantisation."""
    dtype: str
    device: str
    """Kind and name of the device: rounding differs between them."""
    versions: tuple[str, ...]
    """The versions of the libraries that compute."""
    view: str
    """Name and version of what is shown of each record."""
    frame: str
    """The kind of model with a hash of the lead and prefix tokens."""
    batch_tokens: int


def shard_path(folder: Path, key: PassKey, marks: bytes) -> Path:
    """Where the signals of a shard lie; another model, view, cut, text or target plan gives another path.

    Args:
        folder: of the signals.
        key: of the pass.
        marks: of the target plans of the shard, one behind the other.
    """
    digest = hashlib.sha256(json.dumps(asdict(key), sort_keys=True).encode() + marks)
    name = digest.hexdigest()
    return folder / name[:2] / f"{name}.safetensors"


def write(path: Path, signals: Sequence[TokenSignals]) -> None:
    """Write one shard; it is whole or absent, whenever the process ends.

    Raises:
        DiskFullError: no space is left.
        OutputError: the file cannot be written.
    """
    arrays = {name: np.concatenate([getattr(found, name) for found in signals]) for name in ARRAYS}
    arrays["size"] = np.array([found.logprob.size for found in signals], dtype=np.int32)
    for name in ("byte_start", "n_skipped"):
        arrays[name] = np.array([getattr(found, name) for found in signals], dtype=np.int32)
    with replacing(path) as waiting:
        waiting.write_bytes(save(arrays))


def read(path: Path, *, n_texts: int | None = None) -> list[TokenSignals] | None:
    """The signals of one shard; None where the file is absent or is not as `write` leaves it.

    Args:
        path: of the shard.
        n_texts: that it must hold; None: any number.
    """
    try:
        check_regular(path)  # to read a pipe or a device would never end
        arrays = load(path.read_bytes())
        size = arrays["size"]
        arrays.setdefault("n_skipped", np.zeros_like(size))  # of an earlier version, which skipped nothing
        shapes = {**dict.fromkeys(ARRAYS, (int(size.sum()),)), "size": size.shape}
        shapes |= dict.fromkeys(("byte_start", "n_skipped"), size.shape)
        is_alike = all(arrays[name].shape == shape for name, shape in shapes.items())
        kinds = {name: np.float32 if name.startswith("logprob") else np.int32 for name in shapes}
        is_alike = is_alike and all(arrays[name].dtype == kind for name, kind in kinds.items())
        if not is_alike or size.ndim != 1 or (size < 0).any() or n_texts not in {None, size.size}:
            return None
        ends = np.cumsum(size)
        return [
            TokenSignals(
                logprob=arrays["logprob"][end - size : end],
                logprob_mean=arrays["logprob_mean"][end - size : end],
                logprob_std=arrays["logprob_std"][end - size : end],
                logprob_top=arrays["logprob_top"][end - size : end],
                byte_end=arrays["byte_end"][end - size : end],
                byte_start=int(start),
                n_skipped=int(skipped),
            )
            for size, end, start, skipped in zip(
                arrays["size"], ends, arrays["byte_start"], arrays["n_skipped"], strict=True
            )
        ]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def write_columns(path: Path, columns: Mapping[str, NDArray[np.float64]]) -> None:
    """Write figures of the texts of one shard in the place of its signals; whole or absent, as by `write`.

    Args:
        path: of the file.
        columns: (n,) each, by name.

    Raises:
        DiskFullError: no space is left.
        OutputError: the file cannot be written.
    """
    with replacing(path) as waiting:
        waiting.write_bytes(save(dict(columns)))


def read_columns(path: Path, names: Collection[str], n: int) -> dict[str, NDArray[np.float64]] | None:
    """The figures of one shard; None where the file is absent or is not as `write_columns` leaves it.

    Args:
        path: of the file.
        names: of the columns that it must hold.
        n: texts of the shard.
    """
    try:
        check_regular(path)
        found = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError, TypeError):
        return None
    is_alike = found.keys() == set(names) and all(
        one.shape == (n,) and one.dtype == np.float64 for one in found.values()
    )
    return found if is_alike else None
