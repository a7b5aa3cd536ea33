"""Stored signals come back as they were, or not at all, and never for another model, text or setting."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from kdaudit.audit import measure as passes
from kdaudit.audit.measure import measure_passes, signal_files
from kdaudit.audit.plan import Pass, Plan
from kdaudit.errors import DiskFullError
from kdaudit.models.checkpoint import find
from kdaudit.signals.store import ARRAYS, PassKey, read, shard_path, write
from kdaudit.signals.tokens import TokenSignals
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame, Showing
from kdaudit.targets.script import Script
from kdaudit.views.build import build
from kdaudit.views.view import PLAIN
from tests import tiny

KEY = PassKey(1, "abc", "float32", "cpu", ("torch 2.6", "transformers 5.0"), "plain 1", "frame", 4096)
CHANGES: dict[str, Any] = {
    "engine_version": 2, "model": "abd", "dtype": "bfloat16", "device": "cuda H100",
    "versions": ("torch 2.7", "transformers 5.0"), "view": "plain 2", "frame": "other", "batch_tokens": 4095,
}  # fmt: skip


FRAME = Frame(CAUSAL, (0,))


def passage(ids: Sequence[int], byte_end: Sequence[int] | None = None) -> Passage:
    ends = np.array(range(1, len(ids) + 1) if byte_end is None else byte_end, dtype=np.int32)
    return Passage(np.array(ids, dtype=np.int32), ends, ends)


def path_of(key: PassKey, shard: Sequence[Passage], frame: Frame = FRAME) -> Path:
    return shard_path(Path(), key, b"".join(frame.plan(passage).mark for passage in shard))


def signals(size: int, *, seed: int = 0) -> TokenSignals:
    rng = np.random.default_rng([size, seed])
    logprob, mean, std, top = -rng.exponential(3, (4, size)).astype(np.float32)
    return TokenSignals(
        logprob, mean, std, top, np.cumsum(rng.integers(1, 5, size), dtype=np.int32), int(rng.integers(0, 4))
    )


def check_equal(found: Sequence[TokenSignals] | None, expected: Sequence[TokenSignals]) -> None:
    assert found is not None
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.byte_start == other.byte_start
        for name in ARRAYS:
            assert getattr(one, name).dtype == getattr(other, name).dtype
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_what_is_written_comes_back_to_the_last_bit(sizes: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ab" / "shard.safetensors"
        written = [signals(size, seed=i) for i, size in enumerate(sizes)]
        write(path, written)
        check_equal(read(path), written)
        assert list(path.parent.iterdir()) == [path]


def test_values_that_are_no_numbers_come_back_too(tmp_path: Path) -> None:
    odd = replace(signals(3), logprob=np.array([np.nan, -np.inf, 0], dtype=np.float32))
    write(tmp_path / "shard", [odd])
    check_equal(read(tmp_path / "shard"), [odd])


@pytest.mark.parametrize("name", CHANGES)
def test_everything_that_can_change_a_signal_changes_the_path(name: str) -> None:
    shard = [passage([1, 2])]
    assert CHANGES.keys() == set(PassKey.__dataclass_fields__)
    changed = path_of(replace(KEY, **{name: CHANGES[name]}), shard)
    assert changed != path_of(KEY, shard)


shards = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=3).map(
        lambda tokens: passage([t for t, _ in tokens], np.cumsum([n for _, n in tokens], dtype=np.int32).tolist())
    ),
    max_size=3,
)


def content(shard: Sequence[Passage]) -> list[tuple[list[int], list[int]]]:
    return [(one.ids.tolist(), one.byte_end.tolist()) for one in shard]


@given(shards, shards)
def test_two_shards_share_a_path_only_where_every_token_is_the_same(one: list[Passage], other: list[Passage]) -> None:
    is_same = path_of(KEY, one) == path_of(KEY, other)
    assert is_same == (content(one) == content(other))


@pytest.mark.parametrize("other", [[[1], [2, 3]], [[1, 2, 3]], [[1, 2], [3], []], [[3], [1, 2]]])
def test_where_a_text_ends_and_which_comes_first_is_part_of_the_path(other: list[list[int]]) -> None:
    path = path_of(KEY, [passage([1, 2]), passage([3])])
    assert path_of(KEY, [passage(ids) for ids in other]) != path


def test_another_target_plan_of_the_same_texts_is_another_path() -> None:
    shard = [passage([1, 2, 3])]

    def show_twice(text: Passage, frame: Frame) -> tuple[Showing, ...]:
        return CAUSAL.show(text, frame) * 2

    twice = replace(FRAME, kind=replace(CAUSAL, show=show_twice))
    given = [replace(shard[0], n_given=1)]
    paths = {path_of(KEY, shard), path_of(KEY, shard, twice), path_of(KEY, shard, Frame(CAUSAL)), path_of(KEY, given)}
    assert len(paths) == 4


def test_a_missing_file_is_no_signals(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing" / "here") is None


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 60, 0.5, 0.99])
def test_a_truncated_file_is_no_signals(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "shard"
    write(path, [signals(50)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert read(path) is None


@pytest.mark.parametrize("strange", [b"not a shard", b"\x00" * 500, b"{}", b"\xff" * 64])
def test_a_strangers_file_is_no_signals(tmp_path: Path, strange: bytes) -> None:
    (tmp_path / "shard").write_bytes(strange)
    assert read(tmp_path / "shard") is None


@pytest.mark.parametrize("lacking", ["size", "byte_start", "logprob", "byte_end"])
def test_a_file_that_lacks_an_array_is_no_signals(tmp_path: Path, lacking: str) -> None:
    path = tmp_path / "shard"
    write(path, [signals(5)])
    arrays = load_file(path)
    del arrays[lacking]
    save_file(arrays, path)
    assert read(path) is None


@pytest.mark.parametrize("name", ["logprob", "logprob_std", "byte_end", "size", "byte_start"])
def test_a_file_whose_arrays_do_not_fit_together_is_no_signals(tmp_path: Path, name: str) -> None:
    path = tmp_path / "shard"
    write(path, [signals(5), signals(6)])
    arrays = load_file(path)
    save_file({**arrays, name: arrays[name][:-1].copy()}, path)
    assert read(path) is None


def test_what_is_no_file_is_no_signals_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "zero", "loop", "."):
        assert read(tmp_path / name) is None


def test_a_shard_of_another_layout_is_no_signals(tmp_path: Path) -> None:
    write(tmp_path / "good", [signals(3), signals(2)])
    arrays = load_file(tmp_path / "good")
    assert read(tmp_path / "good", n_texts=2) is not None
    assert read(tmp_path / "good", n_texts=3) is None
    others: dict[str, Any] = {
        "logprob": arrays["logprob"].astype(np.float64), "size": np.array([6, -1], np.int32),
        "byte_start": arrays["byte_start"][:1], "byte_end": arrays["byte_end"].astype(np.float32),
    }  # fmt: skip
    for name, other in others.items():
        save_file({**arrays, name: other}, tmp_path / "other")
        assert read(tmp_path / "other") is None, name


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "shard"
    write(path, [signals(5)])
    before = path.read_bytes()

    def fail(*given: Any) -> None:
        if step == "write":
            with open(given[0], "wb") as file:
                file.write(given[1][:20])
        raise error

    if step == "write":
        monkeypatch.setattr(Path, "write_bytes", fail)
    else:
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DiskFullError if isinstance(error, OSError) else KeyboardInterrupt):
        write(path, [signals(6)])
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def plan_of(folder: Path, *, load: str | None = None) -> Plan:
    checkpoint = find(str(folder), option="--teacher", load=load)
    passages = build(
        [*map(Script, tiny.texts(6, seed=1))], [tiny.tokenizer()], [FRAME], views=[PLAIN], shots=[], window=tiny.CONTEXT
    )
    return Plan(
        subjects=(), attacks=(), passes=(Pass("teacher", checkpoint, PLAIN, 0, 1, 6, 1),), passages=passages,
        tokenizer_of={checkpoint.fingerprint: 0}, device="cpu", dtype="float32", batch_tokens=512, warnings=(),
    )  # fmt: skip


def measured(plan: Plan, folder: Path) -> dict[Path, list[TokenSignals]]:
    shards = plan.passages.shards()
    files = signal_files(plan, shards, folder)
    measure_passes(plan, shards, files, on_progress=lambda *_: None)
    found = {path: read(path) for paths in files.values() for path in paths}
    return {path: shard for path, shard in found.items() if shard is not None}


def test_one_models_signals_never_come_back_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [plan_of(tiny.save(tmp_path / str(seed), seed=seed)) for seed in (1, 2)]
    first, second = (measured(plan, tmp_path / "signals") for plan in plans)
    assert first.keys().isdisjoint(second)
    for one, other in zip(*first.values(), *second.values(), strict=True):
        assert one.logprob.size == other.logprob.size
        assert np.abs(one.logprob - other.logprob).max() > 0.01
    monkeypatch.setattr(passes, "loaded", None)  # a second run has nothing to load
    for plan, before in zip(plans, (first, second), strict=True):
        for path, shard in measured(plan, tmp_path / "signals").items():
            check_equal(shard, before[path])


def test_the_memory_of_a_pass_is_that_of_its_largest_batch(checkpoint: Callable[..., Path]) -> None:
    """A long text is read whole however small a batch is, and few tokens fill no large one."""
    plan = plan_of(checkpoint(seed=1))
    (one,) = plan.passes

    def states(batch_tokens: int, *, longest: int, n_tokens: int) -> float:
        changed = replace(one, longest=longest, n_tokens=n_tokens)
        return replace(plan, batch_tokens=batch_tokens).memory_bytes(changed) - one.checkpoint.memory_bytes("float32")

    assert states(512, longest=40, n_tokens=9000) == states(512, longest=512, n_tokens=9000)
    assert states(8, longest=40, n_tokens=9000) == states(40, longest=40, n_tokens=9000)
    assert states(4096, longest=40, n_tokens=600) == states(600, longest=40, n_tokens=9000)
    assert states(8, longest=40, n_tokens=9000) < states(80, longest=40, n_tokens=9000)
