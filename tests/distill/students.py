"""`kdaudit distill` on tiny checkpoints, as a user would run it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.commands import Done, Given, kdaudit, texts

FAST: dict[str, object] = {"--epochs": 1, "--batch-tokens": 200, "--lr": 1e-3}


@dataclass(frozen=True)
class Recipe:
    """What a student is distilled with."""

    teacher: Path
    start: Path
    train: Path

    def distill(self, out: Path, *options: object, start: tuple[object, ...] | None = None) -> Done:
        """`kdaudit distill`, 1 epoch; the teacher saw nothing. Both hold unless the options say otherwise."""
        begun = ("--student", self.start) if start is None else start
        saw = () if "--nonmembers" in options or "--teacher-saw" in options else ("--teacher-saw", "none")
        fast = [part for name, value in FAST.items() if name not in options for part in (name, value)]
        given = ("--teacher", self.teacher, *begun, "--train", self.train, "--out", out, *fast, *saw, "--quiet")
        return kdaudit("distill", *given, *options)

    def attack(self, student: Path, out: Path, *options: object) -> Done:
        """`kdaudit attack` with no word on records."""
        return kdaudit(
            "attack",
            "--teacher",
            self.teacher,
            "--student",
            student,
            "--out",
            out,
            "--attack",
            "loss",
            "--quiet",
            *options,
        )


def manifest_of(student: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((student / "kdaudit.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture
def recipe(given: Given, tmp_path: Path) -> Recipe:
    """A training file of its own: its key lies beside it."""
    return Recipe(given.teacher, given.start, tiny.write_jsonl(tmp_path / "train.jsonl", texts(60), prefix="r"))
