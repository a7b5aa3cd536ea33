"""A checkpoint is fingerprinted once a run, and a file that changed meanwhile is read again."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdaudit.models import weights
from kdaudit.models.weights import sha256_files
from tests.commands import Given, halves, kdaudit


@contextmanager
def counted_reads() -> Iterator[Counter[str]]:
    """Counts how often the weight file of each folder is read for its hash."""
    found: Counter[str] = Counter()
    original = hashlib.file_digest

    def counting(file: Any, digest: Any) -> Any:
        path = Path(file.name)
        if path.suffix == ".safetensors":
            found[path.parent.name] += 1
        return original(file, digest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "file_digest", counting)
        yield found


@pytest.fixture(autouse=True)
def from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No digest is known from before, and that of a file that was only just written is kept as well."""
    monkeypatch.setattr(weights, "_digests", {})
    monkeypatch.setattr(weights, "STEP", 0)


def test_an_audit_reads_every_checkpoint_once(given: Given, tmp_path: Path) -> None:
    with counted_reads() as found:
        assert given.attack(tmp_path / "run", "--attack", "loss", "--reference", given.start).code == 0
    assert found == {path.name: 1 for path in (given.teacher, given.student, given.start)}  # the start: 2 before


def test_a_distillation_reads_teacher_start_and_student_once(given: Given, tmp_path: Path) -> None:
    with counted_reads() as found:
        assert (
            kdaudit("distill", *inputs(given, tmp_path), "--out", tmp_path / "made", "--epochs", 1, "--quiet").code == 0
        )
    once = {given.teacher.name, given.start.name, "made"}  # the student: 2 before
    assert {name: n for name, n in found.items() if not name.startswith("checkpoint-")} == dict.fromkeys(once, 1)


def test_a_comparison_reads_every_checkpoint_once_whatever_number_of_arms_needs_it(
    given: Given, tmp_path: Path
) -> None:
    asked = (
        *("mitigate", *inputs(given, tmp_path), "--out", tmp_path / "arms", "--seeds", 1, "--epochs", 2, "--quiet"),
        *("--batch-tokens", 512, "--plain-epochs", 1, "--method", "soft-only"),
    )
    for _ in range(2):  # the second time everything is finished
        with counted_reads() as found:
            done = kdaudit(*asked)
        assert done.code == 0, done.err
        found = Counter({name: n for name, n in found.items() if not name.startswith("checkpoint-")})
        weights._digests.clear()
        assert {given.teacher.name, given.start.name, "seed-0"} <= found.keys()
        seeds = found.pop("seed-0")
        assert seeds == 3  # plain, plain-1, soft-only
        assert set(found.values()) == {1}  # the teacher 5, the start 14, each student 3 before


def inputs(given: Given, folder: Path) -> tuple[object, ...]:
    members, nonmembers = halves(folder, 40)
    return ("--teacher", given.teacher, "--student", given.start, "--train", members, "--nonmembers", nonmembers)


def test_a_file_that_changes_in_the_very_moment_after_it_was_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # as it is used
    path = tmp_path / "model.safetensors"
    for number in range(200):
        content = f"{number:08}".encode()
        path.write_bytes(content)
        os.utime(path, (10**9, 10**9))
        digest = hashlib.sha256(hashlib.sha256(content).digest()).hexdigest()
        assert [sha256_files([path]), sha256_files([path])] == [digest, digest]


def test_a_file_that_has_lain_for_a_while_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    path.write_bytes(b"one")
    other.write_bytes(b"two")
    with counted_reads() as found:
        first = sha256_files([path])
        assert sha256_files([path]) == first
        assert found.total() == 1
        both = sha256_files([path, other])
        assert found.total() == 2
        os.utime(path, (10**9, 10**9))  # the same content
        assert sha256_files([path]) == first
        assert found.total() == 3
        other.replace(path)  # the older times of another file
        assert sha256_files([path]) != first
        assert sha256_files([path]) not in {first, both}
