"""Killed runs end bit-identical in everything that they leave."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdaudit import manifest
from kdaudit.distill.learn import Told
from kdaudit.distill.run import run_distill
from kdaudit.distill.settings import DistillConfig
from tests import encoders, tiny
from tests.commands import files_in, halves, texts
from tests.distill.students import Recipe, manifest_of


class KilledError(BaseException):
    """Stands for a signal that leaves no time."""


def config(recipe: Recipe, out: Path, **options: Any) -> DistillConfig:
    settings: dict[str, Any] = {
        "teacher": str(recipe.teacher), "student": str(recipe.start), "train": (str(recipe.train),), "out": out,
        "teacher_saw": "none", "epochs": 2, "batch_tokens": 60, "lr": 1e-3, "copies_per_epoch": 1, **options,
    }  # fmt: skip
    return DistillConfig(**settings)


def killed_at(stage: str, share: float) -> Told:
    def stop(found: str, done: int, total: int, note: str) -> None:
        if found == stage and done >= share * total:
            raise KilledError

    return Told(on_progress=stop)


def test_whenever_it_is_killed_it_ends_with_the_same_files(recipe: Recipe, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole" / "student", tmp_path / "again" / "student"
    run_distill(config(recipe, whole))
    assert len(manifest_of(whole)["training"]["losses"]) >= 3
    for stage, share in (("distilling", 0.2), ("distilling", 0.55), ("distilling", 0.93), ("utility", 0.1)):
        with pytest.raises(KilledError):
            run_distill(config(recipe, again), told=killed_at(stage, share))
    run_distill(config(recipe, again))
    assert files_in(again) == files_in(whole)


def test_a_masked_model_that_is_continued_sees_the_masks_of_the_uninterrupted_run(
    recipe: Recipe, tmp_path: Path
) -> None:
    """BERT drops states at random too: both streams continue where they stopped."""
    teacher, start = (encoders.save(tmp_path / f"bert-{seed}", "bert", seed=seed, context=128) for seed in (1, 2))
    masked = replace(recipe, teacher=teacher, start=start)
    whole, again = tmp_path / "whole" / "student", tmp_path / "again" / "student"
    options: dict[str, Any] = {"batch_tokens": 200, "hidden_weight": 0.5, "whole_word": True}
    run_distill(config(masked, whole, **options))
    for share in (0.3, 0.8):
        with pytest.raises(KilledError):
            run_distill(config(masked, again, **options), told=killed_at("distilling", share))
    run_distill(config(masked, again, **options))
    assert files_in(again) == files_in(whole)


def test_a_run_that_was_killed_after_its_last_file_leaves_nothing_more(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "student"

    save = manifest.save

    def die(*given: Any) -> None:
        save(*given)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("kdaudit.manifest.save", die)
        with pytest.raises(KilledError):
            run_distill(config(recipe, out, copies_per_epoch=0))
    assert (out / "training").is_dir()
    run_distill(config(recipe, out, copies_per_epoch=0))
    assert not (out / "training").exists()


ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
PROGRAM = [sys.executable, "-W", "ignore", "-m", "kdaudit"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, records and a finished audit that every command below may need."""
    folder = tmp_path_factory.mktemp("shared")
    for seed, name in ((1, "teacher"), (2, "start"), (3, "other")):
        tiny.save(folder / name, seed=seed, context=128)
    tiny.write_jsonl(folder / "train.jsonl", texts(60), prefix="r")
    halves(folder, 24)
    return folder


def commands(shared: Path) -> Iterator[tuple[str, list[str]]]:
    """By name how to start each command, without its --out."""
    teacher, start = str(shared / "teacher"), str(shared / "start")
    train = ["--train", str(shared / "train.jsonl"), "--teacher-saw", "none", "--batch-tokens", "120", "--lr", "1e-3"]
    yield "distill", ["distill", "--teacher", teacher, "--student", start, *train, "--epochs", "4", "--keep-epochs"]
    yield "lora", ["distill", "--teacher", teacher, "--student-layers", "0", *train, "--epochs", "3", "--lora", "2"]
    sets = ["--members", str(shared / "members.jsonl"), "--nonmembers", str(shared / "nonmembers.jsonl")]
    yield "attack", ["attack", "--teacher", teacher, "--student", str(shared / "other"), *sets, "--attack", "loss"]
    methods = ["--method", "soft-only,bottleneck", "--seeds", "1", "--epochs", "2"]
    yield "mitigate", ["mitigate", "--teacher", teacher, "--student", start, *train, *methods]


def start(command: list[str], out: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*PROGRAM, *command, "--out", "out", "--quiet"], cwd=out.parent, env=ENVIRONMENT,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(command: list[str], out: Path) -> float:
    begun = time.monotonic()
    process = start(command, out)
    _, err = process.communicate()
    assert process.returncode == 0, err.decode()
    return time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["distill", "lora", "attack", "mitigate"])
def test_killed_by_the_system_at_any_moment_every_file_is_the_same(name: str, shared: Path, tmp_path: Path) -> None:
    command, rng = dict(commands(shared))[name], random.Random(name)
    (tmp_path / "whole").mkdir()
    seconds = finish(command, tmp_path / "whole" / "out")
    for number in range(int(os.environ.get("KILLS", "3"))):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        process = start(command, out)
        time.sleep(seconds * rng.uniform(0.3, 1.0))
        process.kill()
        process.communicate()
        finish(command, out)
        assert _named(files_in(out.parent)) == _named(files_in(tmp_path / "whole"))
        shutil.rmtree(out.parent)


def _named(files: dict[str, bytes]) -> dict[str, int]:
    """A short word on each content, for a difference that can be read."""
    return {name: hash(content) for name, content in files.items()}
