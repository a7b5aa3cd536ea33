"""An unfinished run whose files were damaged: it goes on from what is whole, or starts over, and never falls."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdaudit.distill.folder import SEAL, newest_checkpoint, seal, set_damaged_aside
from tests.commands import Done, check_refused
from tests.distill.students import Recipe
from tests.models.test_pickles import Touch

FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors", "trainer_state.json", SEAL)
OPTIONS = ("--epochs", 3)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncate,
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "one bit": flip,
    "gone": Path.unlink,
    "a list": lambda path: path.write_text("[]"),
    "a pickle of another kind": lambda path: path.write_bytes(pickle.dumps({"state": 1})),
    "nested": lambda path: path.write_text("[" * 100_000),
    "a folder": as_folder,
    "a pipe": as_pipe,
    "a device": lambda path: as_link(path, "/dev/zero"),
    "a loop": lambda path: as_link(path, path.name),
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Two sealed checkpoints."""
    for step in (2, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in FILES[:-1]:
            (folder / name).write_bytes(f"{name} after {step}".encode() * 20)
        seal(folder)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_whatever_was_damaged_the_checkpoint_before_it_is_the_newest(
    damage: Callable[[Path], object], name: str, work: Path
) -> None:
    assert newest_checkpoint(work) == work / "checkpoint-10"
    damage(work / "checkpoint-10" / name)
    assert newest_checkpoint(work) == work / "checkpoint-2"
    assert set_damaged_aside(work) == {10: work / "damaged-10"}
    assert sorted(path.name for path in work.iterdir()) == ["checkpoint-2", "damaged-10"]
    assert set_damaged_aside(work) == {}


def test_a_stranger_among_the_files_is_damage_and_other_names_are_no_checkpoints(work: Path) -> None:
    (work / "checkpoint-2" / "pytorch_model.bin").write_bytes(b"")
    for name in ("checkpoint-x", "checkpoint-", "checkpoint-10.old"):
        (work / name).mkdir()
    assert newest_checkpoint(work) == work / "checkpoint-10"
    assert list(set_damaged_aside(work)) == [2]


def stopped(recipe: Recipe, out: Path, patch: pytest.MonkeyPatch) -> Path:
    """A run of three epochs that was killed before its end; its newest checkpoint."""

    def stop(*_: object) -> None:
        raise EOFError  # typer would end with 1, the code of a finding

    with patch.context() as within:
        within.setattr("kdaudit.distill.learn.save_student", stop)
        done = recipe.distill(out, *OPTIONS)
    assert done.code == 4, done.err
    newest = newest_checkpoint(out / "training")
    assert newest is not None
    return newest


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_goes_on_from_the_last_whole_checkpoint_or_starts_over(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    assert recipe.distill(whole, *OPTIONS).code == 0
    killed = tmp_path / "killed"
    name = stopped(recipe, killed, monkeypatch).name
    for damaged in ((name,), tuple(path.name for path in (killed / "training").glob("checkpoint-*"))):
        out = tmp_path / f"{len(damaged)} damaged"
        shutil.copytree(killed, out)
        for one in damaged:
            (out / "training" / one / "optimizer.pt").write_bytes(b"")
        done = recipe.distill(out, *OPTIONS)
        assert done.code == 0, done.err
        assert equal(whole, out)


def resealed(name: str, content: bytes) -> Callable[[Path], None]:
    def change(checkpoint: Path) -> None:
        (checkpoint / name).write_bytes(content)
        seal(checkpoint)

    return change


def test_a_sealed_checkpoint_that_is_none_runs_no_program_and_is_no_finding(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, mark = tmp_path / "killed", tmp_path / "mark"
    name = stopped(recipe, killed, monkeypatch).name
    program = tmp_path / "program"
    torch.save({"state": Touch(mark)}, program)
    hostile: Sequence[tuple[str, bytes]] = (
        *((file, program.read_bytes()) for file in ("optimizer.pt", "rng_state.pth", "model.safetensors")),
        ("scheduler.pt", b""),
    )  # fmt: skip
    for number, (file, content) in enumerate(hostile):
        out = tmp_path / str(number)
        shutil.copytree(killed, out)
        resealed(file, content)(out / "training" / name)
        done = recipe.distill(out, *OPTIONS)
        if file == "rng_state.pth" and done.code == 0:
            continue  # after the last step nothing is drawn any more, so that it is not read
        check_refused(done, "cannot be continued", "--no-resume", code=4)
    assert not mark.exists()


IDENTITIES = (b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe", b"3")


@pytest.mark.parametrize("content", IDENTITIES)
def test_a_damaged_identity_is_refused_with_the_way_out(content: bytes, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "out" / "training").mkdir(parents=True)
    (tmp_path / "out" / "training" / "identity.json").write_bytes(content)
    check_refused(recipe.distill(tmp_path / "out"), "identity.json", "--no-resume")


def test_checkpoints_that_no_identity_speaks_for_are_not_continued(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    stopped(recipe, out, monkeypatch)
    (out / "training" / "identity.json").unlink()
    other = ("--epochs", 1, "--lr", 1e-4)
    done: Done = recipe.distill(out, *other)
    assert done.code == 0, done.err
    assert recipe.distill(tmp_path / "fresh", *other).code == 0
    assert equal(out, tmp_path / "fresh")
    assert json.loads((out / "kdaudit.json").read_text())["training"]["epochs"] == 1
