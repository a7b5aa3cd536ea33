"""Tiny distillations for the tests of mitigations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from kdaudit.distill.settings import DistillConfig
from tests.commands import Given


def config(given: Given, out: Path, **changes: Any) -> DistillConfig:
    """Of a student that starts from `given.start`; one epoch in a few steps."""
    settings: dict[str, Any] = {
        "teacher": str(given.teacher), "student": str(given.start), "train": (str(given.members),),
        "nonmembers": (str(given.nonmembers),), "out": out, "key_file": out.with_name("key"), "epochs": 1,
        "batch_tokens": 128, "lr": 5e-3, **changes,
    }  # fmt: skip
    return DistillConfig(**settings)


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


def largest_gap(one: Path, other: Path) -> float:
    """Between the weights of two students of one architecture."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)
