"""Changed starts: a surgery on the checkpoint that the students start from, done once and saved."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kdaudit.artefacts import write_text
from kdaudit.distill.folder import save_student
from kdaudit.distill.prepare import Prepared
from kdaudit.errors import ConfigError
from kdaudit.mitigate.base import Method, Operation
from kdaudit.models.loading import load

if TYPE_CHECKING:
    import torch

PROBE_TEXTS = 64
"""Training texts that a surgery may look at: a few thousand tokens."""


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
    inputs = probe_inputs(prepared)
    start = prepared.models.start
    decided_by = [start.fingerprint, method.name, strength, _digest(inputs)]
    key = hashlib.sha256(json.dumps(decided_by).encode()).hexdigest()[:12]
    made, about = folder / f"start-{key}", folder / f"start-{key}.json"
    if not (about.is_file() and (made / "config.json").is_file()):
        model = load(start, device="cpu", dtype="float32")
        found = method.operate(model, _tensors(inputs), strength)
        if found.n_replaced < 1:
            raise ConfigError(f"--method {method.name}: it replaces nothing in {start.name}")
        save_student(model, prepared.models.tokenizer, made)
        write_text(about, json.dumps(asdict(found), indent=1) + "\n")
        del model
        gc.collect()
    content = json.loads(about.read_text(encoding="utf-8"))
    return Start(made, Operation(content["n_replaced"], tuple(content["warnings"])))


def probe_inputs(prepared: Prepared) -> Mapping[str, NDArray[np.int64]]:
    """What a start is called with for the first training texts, as in the first epoch: (B, S) by the argument's name.

    Nothing tells a causal model about padding. So its texts are cut to their median length, which it reads as it reads
    the beginnings of longer ones, and shorter ones are left out. Other models read whole texts, which are padded, and
    the masks among the inputs say where.
    """
    kind, examples = prepared.models.frame.kind, prepared.examples.items
    if kind.is_causal:
        length = int(np.median([one.ids.size for one in examples]))
        examples = tuple(replace(one, ids=one.ids[:length]) for one in examples if one.ids.size >= length)
    return kind.inputs([kind.learn(one, 0) for one in examples[:PROBE_TEXTS]])


def _digest(inputs: Mapping[str, NDArray[np.int64]]) -> str:
    digest = hashlib.sha256()
    for name, table in sorted(inputs.items()):
        digest.update(f"{name} {table.shape}".encode() + table.tobytes())
    return digest.hexdigest()


def _tensors(inputs: Mapping[str, NDArray[np.int64]]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(table) for name, table in inputs.items()}
