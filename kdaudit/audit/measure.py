"""The passes of an audit: one model in memory at a time, every finished shard kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import numpy as np

from kdaudit.audit.plan import Pass, Plan
from kdaudit.errors import ModelError
from kdaudit.models.loading import loaded
from kdaudit.signals import store
from kdaudit.signals.engine import ENGINE_VERSION, PROBE_PASSAGES, device_name, measure
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame
from kdaudit.views.view import View

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is to do."""

SignalFiles = Mapping[tuple[str, View], tuple[Path, ...]]
"""(checkpoint fingerprint, view) -> one file per shard."""


def measure_passes(
    plan: Plan,
    shards: list[list[int]],
    files: SignalFiles,
    *,
    on_progress: Progress,
    own: Sequence[int] | None = None,
    now: Sequence[int] | None = None,
) -> None:
    """Run every pass whose signals are not on disk yet.

    Args:
        plan: what to run.
        shards: indices of the texts, the same groups for every model.
        files: where the signals of every pass are to lie.
        on_progress: told about text tokens.
        own: numbers of the shards that this process measures, rising; None: all.
        now: those of them that are measured now, where those behind them come later; None: all of them.

    Raises:
        ModelError: a checkpoint cannot be loaded or scored.
    """
    own = range(len(shards)) if own is None else own
    now = own if now is None else now
    n_chars = [int(plan.passages.sizes[shard].sum()) for shard in shards]
    n_own, n_later = (sum(n_chars[i] for i in own if i > after) for after in (-1, max(now, default=-1)))
    for _, group in groupby(plan.passes, key=lambda one: one.checkpoint.fingerprint):
        lacking: list[tuple[Pass, list[int]]] = []
        for one in group:
            paths = files[one.checkpoint.fingerprint, one.view]
            absent = [i for i in now if store.read(paths[i], n_texts=n_texts(one, shards[i])) is None]
            if absent:
                lacking.append((one, absent))
        if lacking:
            with loaded(lacking[0][0].checkpoint, device=plan.device, dtype=plan.dtype) as model:
                for one, absent in lacking:
                    paths = files[one.checkpoint.fingerprint, one.view]
                    n_lacking = n_later + sum(n_chars[i] for i in absent)
                    waiting = _shards(plan, one, [shards[i] for i in absent])
                    measured = measure(
                        model,
                        waiting,
                        plan.passages.frame(one.view, one.tokenizer),
                        batch_tokens=plan.batch_tokens,
                        probe=plan.passages.read(shards[0][:PROBE_PASSAGES], one.view, one.tokenizer),
                        on_tokens=_counter(plan, one, n_own, n_lacking, on_progress),
                    )
                    with _naming(one):
                        for i, signals in zip(absent, measured, strict=True):
                            store.write(paths[i], signals)


def stage_of(one: Pass) -> str:
    """What a pass is called while it runs."""
    return f"{one.label}, {one.view.name}"


@contextmanager
def _naming(one: Pass) -> Iterator[None]:
    """Say in an error of the engine, which knows no names, which model it is about."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{one.label} ({one.checkpoint.name}): {error}", hint=error.hint) from error


def _shards(plan: Plan, one: Pass, shards: list[list[int]]) -> Iterator[list[Passage]]:
    for shard in shards:
        yield plan.passages.read(shard, one.view, one.tokenizer)


def signal_files(plan: Plan, shards: Sequence[Sequence[int]], folder: Path) -> SignalFiles:
    """Where the signals of every pass lie, in the order of the passes.

    Args:
        plan: what to run.
        shards: indices of the texts.
        folder: of the signals.
    """
    found = {}
    for one in plan.passes:
        key = _key(plan, one, plan.passages.frame(one.view, one.tokenizer))
        marks = plan.passages.marks[one.view][one.tokenizer]
        found[one.checkpoint.fingerprint, one.view] = tuple(
            store.shard_path(folder, key, marks[shard].tobytes()) for shard in shards
        )
    return found


def _key(plan: Plan, one: Pass, frame: Frame) -> store.PassKey:
    libraries = ["torch", "transformers"]
    libraries += ["bitsandbytes"] if one.checkpoint.load else []
    libraries += ["peft"] if one.checkpoint.base else []
    further = () if frame.kind.is_causal else (frame.between, frame.tail, frame.mask, frame.start)
    return store.PassKey(
        engine_version=ENGINE_VERSION,
        model=one.checkpoint.fingerprint,
        dtype=plan.dtype,
        device=device_name(plan.device),
        versions=tuple(f"{name} {version(name)}" for name in libraries),
        view=f"{one.view.name} {one.view.version}",
        frame=hashlib.sha256(repr((frame.kind.name, frame.lead, frame.prefix, *further)).encode()).hexdigest(),
        batch_tokens=plan.batch_tokens,
    )


def n_texts(one: Pass, shard: Sequence[int]) -> int:
    """Texts of a shard as a pass shows them."""
    return len(shard) * one.view.n_variants


def _counter(plan: Plan, one: Pass, n_own: int, n_lacking: int, on_progress: Progress) -> Callable[[int], None]:
    """A counter of tokens of what this process measures, which starts at what is finished; shares are by characters."""
    stage, n_all = stage_of(one), max(1, int(plan.passages.sizes.sum(dtype=np.int64)))
    n_tokens = plan.passages.shown[one.view][one.tokenizer].n_tokens
    total, lacking = (round(n_tokens * n_chars / n_all) for n_chars in (n_own, n_lacking))
    done = total - lacking
    on_progress(stage, done, total)

    def advance(n_tokens: int) -> None:
        nonlocal done
        done = min(total, done + n_tokens)
        on_progress(stage, done, total)

    return advance
