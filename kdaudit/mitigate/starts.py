"""Changed starts: a surgery on the checkpoint that the students start from, done once and saved."""

from __future__ import annotations

import gc
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdaudit.artefacts import write_text
from kdaudit.distill.folder import save_student
from kdaudit.distill.prepare import Prepared
from kdaudit.errors import ConfigError
from kdaudit.mitigate.base import Method, Operation
from kdaudit.models.loading import load

if TYPE_CHECKING:
    import torch

PROBE_TEXTS = 64
"""Training texts that a surgery may look at, cut to one length: a few thousand tokens."""


@dataclass(frozen=True, slots=True)
class Start:
    """A changed start on disk."""

    folder: Path
    operation: Operation


def changed_start(prepared: Prepared, method: Method, strength: float | None, folder: Path) -> Start:
    """The start of a method that operates on it; done already where nothing that decides it has changed.

    Args:
        prepared: the plain run, for its start, tokenizer and training texts.
        method: with a surgery.
        strength: of the method.
        folder: of the arm.

    Raises:
        ConfigError: the start has no module that the method replaces, or the strength does not suit it.
        ModelError: it cannot be loaded.
    """
    if method.operate is None:
        raise ValueError(f"{method.name} leaves the start as it is")
    ids = probe_ids(prepared)
    start = prepared.models.start
    decided_by = [start.fingerprint, method.name, strength, hashlib.sha256(ids.tobytes()).hexdigest()]
    key = hashlib.sha256(json.dumps(decided_by).encode()).hexdigest()[:12]
    made, about = folder / f"start-{key}", folder / f"start-{key}.json"
    if not (about.is_file() and (made / "config.json").is_file()):
        model = load(start, device="cpu", dtype="float32")
        found = method.operate(model, _tensor(ids), strength)
        if found.n_replaced < 1:
            raise ConfigError(f"--method {method.name}: it replaces nothing in {start.name}")
        save_student(model, prepared.models.tokenizer, made)
        write_text(about, json.dumps(asdict(found), indent=1) + "\n")
        del model
        gc.collect()
    content = json.loads(about.read_text(encoding="utf-8"))
    return Start(made, Operation(content["n_replaced"], tuple(content["warnings"])))


def probe_ids(prepared: Prepared) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(B, T), token ids of the beginnings of the first training texts that reach the median length."""
    sizes = [int(example.ids.size) for example in prepared.examples.items]
    length = int(np.median(sizes))
    long_enough = [one.ids[:length] for one in prepared.examples.items if one.ids.size >= length]
    return np.stack(long_enough[:PROBE_TEXTS]).astype(np.int64)


def _tensor(ids: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> torch.Tensor:
    import torch

    return torch.from_numpy(ids)
