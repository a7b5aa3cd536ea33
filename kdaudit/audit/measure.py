"""The passes of an audit: one model in memory at a time, every finished shard kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kdaudit.audit.plan import Pass, Plan
from kdaudit.config import TENSORS
from kdaudit.errors import ModelError
from kdaudit.models.devices import as_first, writes
from kdaudit.models.loading import attention_of, loaded
from kdaudit.signals import store
from kdaudit.signals.agreement import disagreement, first_signals
from kdaudit.signals.engine import ENGINE_VERSION, PROBE_PASSAGES, device_name, measure
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame
from kdaudit.views.view import View

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Signals = NDArray[np.float32]
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
    compared: set[str] | None = None,
) -> None:
    """Run every pass whose signals are not on disk yet.

    Args:
        plan: what to run.
        shards: indices of the texts, the same groups for every model.
        files: where the signals of every pass are to lie.
        on_progress: told about text tokens.
        own: numbers of the shards that this process measures, rising; None: all.
        now: those of them that are measured now, where those behind them come later; None: all of them.
        compared: fingerprints of the models on several devices that were compared before; those of this call are added.

    Raises:
        ModelError: a checkpoint cannot be loaded or scored, or says other things on several devices than on one.
    """
    compared = set() if compared is None else compared
    own = range(len(shards)) if own is None else own
    now = own if now is None else now
    n_chars = [int(plan.passages.sizes[shard].sum()) for shard in shards]
    n_own, n_later = (sum(n_chars[i] for i in own if i > after) for after in (-1, max(now, default=-1)))
    for _, group in groupby(plan.passes, key=lambda one: one.checkpoint.fingerprint):
        lacking: list[tuple[Pass, list[int]]] = []
        for one in group:
            paths = files[one.checkpoint.fingerprint, one.view]
            absent = [i for i in now if store.read(paths[i], n_texts=n_texts(one, shards[i])) is None]
            absent = as_first(plan.spread, absent)
            if absent:
                lacking.append((one, absent))
        if lacking:
            first, probe = lacking[0][0], shards[0][: 2 * PROBE_PASSAGES]  # some may hold nothing to score
            fingerprint = first.checkpoint.fingerprint
            whole = _signals_of_whole(plan, first, probe) if fingerprint not in compared else None
            with loaded(
                first.checkpoint, device=plan.device, dtype=plan.dtype, placement=plan.placements.get(fingerprint),
                spread=plan.spread, attention=plan.attention,
            ) as model:  # fmt: skip
                if whole is not None:
                    _check_same(plan, first, probe, model, whole)
                    compared.add(fingerprint)
                for one, absent in lacking:
                    paths = files[one.checkpoint.fingerprint, one.view]
                    n_lacking = n_later + sum(n_chars[i] for i in absent)
                    waiting = _shards(plan, one, [shards[i] for i in absent])
                    measured = measure(
                        model,
                        waiting,
                        plan.passages.frame(one.view, one.tokenizer),
                        batch_tokens=plan.batch_tokens,
                        probe=plan.passages.read(probe, one.view, one.tokenizer),
                        on_tokens=_counter(plan, one, n_own, n_lacking, on_progress),
                    )
                    with _naming(one):
                        for i, signals in zip(absent, measured, strict=True):
                            if writes(plan.spread):
                                store.write(paths[i], signals)


def _signals_of_whole(plan: Plan, one: Pass, probe: Sequence[int]) -> Signals | None:
    """What a model that lies on several devices says of its first batch on one; None where it is not compared.

    Of the processes that hold it together the first one asks it; the others have nothing to compare.
    """
    device = as_first(plan.spread, plan.compared.get(one.checkpoint.fingerprint))
    if device is None:
        return None
    if not writes(plan.spread):
        return np.zeros(0, dtype=np.float32)
    with loaded(one.checkpoint, device=device, dtype=plan.dtype) as model:
        return _first_signals(plan, one, probe, model)


def _first_signals(plan: Plan, one: Pass, probe: Sequence[int], model: PreTrainedModel) -> Signals:
    shown = plan.passages.read(probe, one.view, one.tokenizer)
    frame = plan.passages.frame(one.view, one.tokenizer)
    with _naming(one):
        return first_signals(model, shown, frame, batch_tokens=plan.batch_tokens)


def _check_same(plan: Plan, one: Pass, probe: Sequence[int], model: PreTrainedModel, whole: Signals) -> None:
    found = _first_signals(plan, one, probe, model)
    why = as_first(plan.spread, disagreement(whole, found, model) if writes(plan.spread) else "")
    if why:
        raise ModelError(
            f"{one.label} ({one.checkpoint.name}) computes otherwise on several devices than on one: {why}",
            hint="leave --device-map out, or give the other one; a release of transformers or accelerate is at fault",
        )


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
        device=_computed_by(plan, one),
        versions=tuple(f"{name} {version(name)}" for name in libraries),
        view=f"{one.view.name} {one.view.version}",
        frame=hashlib.sha256(repr((frame.kind.name, frame.lead, frame.prefix, *further)).encode()).hexdigest(),
        batch_tokens=plan.batch_tokens,
    )


def _computed_by(plan: Plan, one: Pass) -> str:
    """The devices, and the attention where another than that of transformers' choice computes: its bits differ."""
    attention = plan.attention or attention_of(one.checkpoint)
    return _computed_on(plan, one) + (f", {attention}" if attention else "")


def _computed_on(plan: Plan, one: Pass) -> str:
    """The devices that a number depends on: parts of a layer are summed in another order than the whole."""
    name = device_name(plan.device)
    if plan.spread is not None and plan.spread.way == TENSORS:
        return f"{name}, in {plan.spread.n_processes} processes"
    placement = plan.placements.get(one.checkpoint.fingerprint)
    if placement is None or not placement.is_split:
        return name
    gpus = [f"cuda:{share.device}" for share in placement.shares if isinstance(share.device, int)]
    products = sorted({device_name(gpu).partition(" ")[2] for gpu in gpus})
    return f"cuda {' and '.join(products)}" if products else name


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
