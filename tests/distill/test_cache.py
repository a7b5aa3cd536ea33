"""The teacher written down: what it holds is what the live teacher says, and it is written once."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdaudit.distill import cache
from kdaudit.distill.batches import collate, inputs_of, n_targets
from kdaudit.distill.cache import CacheKey, TeacherCache, open_cache
from kdaudit.distill.losses import distillation_loss
from kdaudit.distill.student import Speaker, speaker
from kdaudit.errors import ModelError
from kdaudit.targets.causal import CAUSAL
from tests import tiny
from tests.distill.training import PROBE, some_examples

KEY = CacheKey(
    cache_version=1, teacher="t", dtype="float32", temperature=2.0, top_k=tiny.VOCABULARY, vocabulary=None, versions=()
)  # fmt: skip
CPU = torch.device("cpu")
EXAMPLES = some_examples(12)


@pytest.fixture(scope="module")
def teacher() -> Any:
    return tiny.model("llama", seed=1)


@pytest.fixture
def opened(teacher: Any, tmp_path: Path) -> Callable[..., tuple[TeacherCache, int]]:
    """Opens the cache in one folder; gives it and how often the teacher was loaded."""

    def open_again(**changes: Any) -> tuple[TeacherCache, int]:
        loads = 0

        def speak() -> Speaker:
            nonlocal loads
            loads += 1
            return speaker(teacher, PROBE)

        found = open_cache(
            tmp_path, replace(KEY, **changes), EXAMPLES, speak, kind=CAUSAL, n_epochs=2, device=CPU, batch_tokens=100
        )
        return found, loads

    return open_again


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@pytest.mark.parametrize("rows", [[0, 1, 2], [11, 3, 7], [5, -1, 0]])
@pytest.mark.parametrize("objective", ["forward-kl", "reverse-kl", "jsd", "skew-kl"])
def test_with_all_words_it_is_the_live_teacher(
    rows: list[int], objective: str, teacher: Any, opened: Callable[..., tuple[TeacherCache, int]]
) -> None:
    found, _ = opened()
    batch = collate([(row, 0, EXAMPLES[max(row, 0)]) for row in rows], CAUSAL)
    said = speaker(tiny.model("llama", seed=2), PROBE)(inputs_of(batch, CPU)).outputs
    with torch.no_grad():
        live, cached = (
            distillation_loss(
                said, taught, batch["targets"], objective=objective, hard_weight=0.3, temperature=2.0, n_targets=1
            )
            for taught in (speaker(teacher, PROBE)(inputs_of(batch, CPU)).outputs, found.read(rows, 0, CPU))
        )
    assert float(live) == pytest.approx(float(cached), rel=1e-5)


def test_the_rest_is_what_the_likeliest_words_leave_over(opened: Callable[..., tuple[TeacherCache, int]]) -> None:
    found, _ = opened(top_k=5)
    cached = found.read(list(range(len(EXAMPLES))), 0, CPU)
    assert cached.words.shape == (sum(n_targets(example, CAUSAL) for example in EXAMPLES), 5)
    total = cached.log_probs.double().exp().sum(-1) + cached.log_rest.double().exp()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=1e-5)
    assert (cached.log_probs.diff(dim=-1) <= 0).all()


def test_it_is_written_once_and_a_damaged_shard_is_written_again(
    opened: Callable[..., tuple[TeacherCache, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SHARD_TOKENS", 100)
    first, loads = opened()
    assert (loads, len(files(tmp_path)) > 2) == (1, True)
    assert opened()[1] == 0
    files(tmp_path)[1].write_bytes(b"half")
    again, loads = opened()
    assert loads == 1
    np.testing.assert_array_equal(first.shard_of, again.shard_of)
    whole = [one.read(list(range(len(EXAMPLES))), 0, CPU).log_probs for one in (first, again)]
    assert torch.equal(*whole)


def test_any_number_of_processes_writes_the_files_of_one(
    teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SHARD_TOKENS", 60)
    monkeypatch.setattr(cache, "SHOWN_SECONDS", -1)
    calls: list[int] = []

    def write(folder: Path, process: int, n_processes: int) -> list[tuple[int, int]]:
        def speak() -> Speaker:
            calls.append(process)
            return speaker(teacher, PROBE)

        told: list[tuple[int, int]] = []
        open_cache(
            folder, KEY, EXAMPLES, speak, kind=CAUSAL, n_epochs=1, device=CPU, batch_tokens=100, process=process,
            n_processes=n_processes, on_tokens=lambda done, total: told.append((done, total)),
        )  # fmt: skip
        return told

    def content(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in files(folder)}

    write(tmp_path / "one", 0, 1)
    whole = content(tmp_path / "one")
    for process in (2, 0):
        with pytest.raises(ModelError, match="files of the teacher's cache are not there"):
            write(tmp_path / "three", process, 3)
    assert 0 < len(content(tmp_path / "three")) < len(whole)
    assert write(tmp_path / "three", 1, 3)[-1][0] < sum(one.size for one in EXAMPLES)
    assert content(tmp_path / "three") == whole
    assert calls == [0, 2, 0, 1]
    files(tmp_path / "three")[0].unlink()
    for process in range(2):  # another number continues
        with suppress(ModelError):
            write(tmp_path / "three", process, 2)
    assert content(tmp_path / "three") == whole
    assert len(calls) == 5


@pytest.mark.parametrize("changes", [{"temperature": 1.0}, {"top_k": 3}, {"teacher": "u"}, {"dtype": "bfloat16"}])
def test_whatever_changes_a_number_gets_files_of_its_own(
    changes: dict[str, Any], opened: Callable[..., tuple[TeacherCache, int]], tmp_path: Path
) -> None:
    opened()
    before = files(tmp_path)
    assert opened(**changes)[1] == 1
    assert set(before) < set(files(tmp_path))


def test_no_text_stands_in_it(opened: Callable[..., tuple[TeacherCache, int]], tmp_path: Path) -> None:
    opened()
    assert not any(b"patient" in path.read_bytes() for path in files(tmp_path))
