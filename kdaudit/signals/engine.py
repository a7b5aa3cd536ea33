"""Passages in, per-token signals out: batches by token budget, and what happens when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import torch

from kdaudit.errors import ModelError
from kdaudit.signals.batch import Front, Route, run_batch
from kdaudit.signals.route import explaining_unread_tokens, is_out_of_memory, settle
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.passage import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

P = ParamSpec("P")
T = TypeVar("T")

ENGINE_VERSION = 3  # texts that a model reads by other rules, such as those of LongRoPE, share no batch
"""Raised whenever a change in this package can move a signal; part of every cache key."""

PROBE_PASSAGES = 4
OWN_LOGITS_ELEMENTS = 2**27  # tokens x vocabulary of one batch where a model's own logits have to be used


def device_name(device: str) -> str:
    """What computes: the kind of device, and the product where it is an accelerator."""
    return f"{device} {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else device


def measure(
    model: PreTrainedModel,
    shards: Iterable[Sequence[Passage]],
    front: Front,
    *,
    batch_tokens: int,
    probe: Sequence[Passage] = (),
    on_tokens: Callable[[int], None] = lambda _: None,
) -> Iterator[list[TokenSignals]]:
    """Run `model` once over every shard and yield its signals, in the shard's order.

    A passage's signals do not depend on its batch mates, the batch size or the padding side, beyond
    floating-point rounding (8-bit models pick outlier features by batch: about 0.1 nats there). Where memory
    runs out, the batch halves and stays halved.

    Args:
        model: a causal LM in eval mode; its device and dtype are left as they are.
        shards: what to score, each shard batched by itself; every text must fit into the context with the front.
        front: read but not scored.
        batch_tokens: tokens of one forward pass, padding included; a matter of memory and speed only.
        probe: what to settle on how the model is run, else the first batch: a continued run gives what the
            uninterrupted one settled on, whatever is left to do.
        on_tokens: called with the number of text tokens finished.

    Raises:
        ModelError: the logits hold NaN on the first batch or depend on later tokens, a token lies outside the
            model's vocabulary, or one text alone does not fit into memory.
    """
    route: Route | None = None
    budget = batch_tokens
    n_before = len(front.lead) + len(front.prefix)
    for shard in shards:
        _check_vocabulary(model, shard, front)
        signals: list[TokenSignals | None] = [
            _nothing(passage, front) if passage.ids.size <= front.n_unscored(passage) else None for passage in shard
        ]
        waiting = sorted((i for i, found in enumerate(signals) if found is None), key=lambda i: -int(shard[i].ids.size))
        on_tokens(sum(int(passage.ids.size) for passage in shard) - sum(int(shard[i].ids.size) for i in waiting))
        while waiting:
            sizes = [n_before + int(shard[i].ids.size) for i in waiting]
            way = route.at(sizes[0], n_before - 1) if route is not None else None
            batch = waiting[: _batch_size(sizes, budget, way)]
            if way is None:
                batch = batch[:PROBE_PASSAGES]
                shown = [passage for passage in probe if passage.ids.size > front.n_unscored(passage)][: len(batch)]
                settled_on = shown or [shard[i] for i in batch]
                route = _unless_memory_ends(model.device, settle, model, settled_on, front)
                if route is None:
                    budget = _halved(budget, batch, shard, front)
                elif route.head is None:
                    budget = min(budget, max(1, OWN_LOGITS_ELEMENTS // _vocab_size(model)))
                continue
            passages = [shard[i] for i in batch]
            measured = _unless_memory_ends(model.device, run_batch, way, passages, front, model.device)
            if measured is None:
                budget = _halved(budget, batch, shard, front)
                continue
            for i, found in zip(batch, measured, strict=True):
                signals[i] = found
            waiting = waiting[len(batch) :]
            on_tokens(sum(int(passage.ids.size) for passage in passages))
        yield [found for found in signals if found is not None]


def _check_vocabulary(model: PreTrainedModel, shard: Sequence[Passage], front: Front) -> None:
    """On an accelerator, a token that the model does not know ends the process."""
    embeddings: Any = model.get_input_embeddings()
    known = int(embeddings.weight.shape[0])
    largest = max([*front.lead, *front.prefix, *(int(passage.ids.max(initial=0)) for passage in shard)], default=0)
    if largest >= known:
        raise ModelError(
            f"the tokenizer gives token {largest}, but the model knows {known} tokens",
            hint="the tokenizer in the checkpoint's folder is not the one that the model was trained with",
        )


def _unless_memory_ends(device: torch.device, compute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What `compute` gives, or None where memory ran out."""
    try:
        with torch.inference_mode(), explaining_unread_tokens("the model"):
            return compute(*args, **kwargs)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # outside this block the failed tensors are free
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _batch_size(sizes: Sequence[int], budget: int, route: Route | None) -> int:
    """How many of the texts (longest first) fit and may go together; a cached prefix takes memory, so it counts."""
    if route is not None and route.is_prefix_cached:
        budget *= 2  # what is cached is stored, not computed
    n_fitting = max(1, min(len(sizes), budget // sizes[0]))
    return n_fitting if route is None else route.rules.n_alike(sizes[:n_fitting])


def _halved(budget: int, batch: Sequence[int], shard: Sequence[Passage], front: Front) -> int:
    if len(batch) == 1:
        size = int(shard[batch[0]].ids.size)
        raise ModelError(
            f"memory runs out on a single text of {size} tokens (with {len(front.prefix)} tokens before it)",
            hint="lower --max-tokens, or load the model with --teacher-load/--student-load 4bit",
        )
    width = len(front.lead) + len(front.prefix) + int(shard[batch[0]].ids.size)
    return max(1, min(budget, width * len(batch)) // 2)


def _nothing(passage: Passage, front: Front) -> TokenSignals:
    empty = np.zeros(0, dtype=np.float32)
    skip = min(front.n_unscored(passage), int(passage.ids.size))
    start = int(passage.byte_end[skip - 1]) if skip else 0
    return TokenSignals(empty, empty, empty, empty, np.zeros(0, dtype=np.int32), start)


def _vocab_size(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().vocab_size)
