"""Copies of a checkpoint, saved in other ways."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]


def rewritten(folder: Path, to: Path, change: Callable[[Weights], Weights], *, note: str = "copy") -> Path:
    """A copy with changed weights; the note in the file's header gives it another hash."""
    shutil.copytree(folder, to)
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, to / "model.safetensors", metadata={"format": "pt", "note": note})
    return to


def split(folder: Path, to: Path) -> Path:
    """A copy in two shards."""
    shutil.copytree(folder, to)
    weights = load_file(to / "model.safetensors")
    (to / "model.safetensors").unlink()
    names = sorted(weights)
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for place in set(places.values()):
        save_file({name: weights[name] for name in names if places[name] == place}, to / place)
    (to / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return to


def pickled(folder: Path, to: Path) -> Path:
    """A copy as torch.save writes it."""
    shutil.copytree(folder, to)
    torch.save(load_file(to / "model.safetensors"), to / "pytorch_model.bin")
    (to / "model.safetensors").unlink()
    return to


def cast(dtype: torch.dtype) -> Callable[[Weights], Weights]:
    """Every weight rounded to `dtype`."""
    return lambda weights: {name: weight.to(dtype) for name, weight in weights.items()}
