"""Passages in, per-token signals out: batches by token budget, and what happens when memory runs out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

from kdaudit.errors import ModelError
from kdaudit.models.devices import input_device, is_held_together
from kdaudit.signals.batch import Columns, in_text_order
from kdaudit.signals.running import Runner, explaining_unread_tokens, is_out_of_memory, settle
from kdaudit.signals.tokens import TokenSignals
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame, Showing, TargetPlan
from kdaudit.targets.tokenizers import check_known

if TYPE_CHECKING:
    from transformers import PreTrainedModel

P = ParamSpec("P")
T = TypeVar("T")

ENGINE_VERSION = 4  # the key of a signal holds the target plan
"""Raised whenever a change in this package can move a signal; part of every cache key."""

PROBE_PASSAGES = 2  # a cached prefix and a packed row may serve one text and no more
OWN_LOGITS_ELEMENTS = 2**27  # tokens x vocabulary of one batch where a model's own logits have to be used


def device_name(device: str) -> str:
    """What computes: the kind of device, and the product where it is an accelerator."""
    return f"cuda {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else device


def measure(
    model: PreTrainedModel,
    shards: Iterable[Sequence[Passage]],
    frame: Frame,
    *,
    batch_tokens: int,
    probe: Sequence[Passage] = (),
    on_tokens: Callable[[int], None] = lambda _: None,
) -> Iterator[list[TokenSignals]]:
    """Run `model` over every shard as the target plans say, and yield its signals, in the shard's order.

    A passage's signals do not depend on its batch mates, the batch size or the padding side, beyond
    floating-point rounding (8-bit models pick outlier features by batch: about 0.1 nats there). Where memory
    runs out, the batch halves and stays halved.

    Args:
        model: in eval mode; its device and dtype are left as they are.
        shards: what to score, each shard batched by itself; every text must fit into the context within the frame.
        frame: how the texts are shown.
        batch_tokens: tokens of one forward pass, padding included; a matter of memory and speed only.
        probe: what to settle on how the model is run, else the first batch: a continued run gives what the
            uninterrupted one settled on, whatever is left to do.
        on_tokens: called with the number of text tokens finished, once for every showing of a text.

    Raises:
        ModelError: the logits hold NaN on the first batch or depend on later tokens, a token lies outside the
            model's vocabulary, or one text alone does not fit into memory.
    """
    runner: Runner | None = None
    budget, device = batch_tokens, input_device(model)

    def smaller(batch: Sequence[TargetPlan], width: int) -> int:
        if is_held_together(model):  # the other processes wait within this batch
            raise ModelError(f"memory runs out on a batch of {width * len(batch)} tokens", hint="lower --batch-tokens")
        return _halved(budget, batch, width, frame)

    for shard in shards:
        plans = [frame.plan(passage) for passage in shard]
        _check_vocabulary(model, plans)
        found: list[list[Columns | None]] = [[None] * len(plan.showings) for plan in plans]
        waiting = [(i, k) for i, plan in enumerate(plans) for k in range(len(plan.showings))]
        waiting.sort(key=lambda place: -plans[place[0]].showings[place[1]].size)
        on_tokens(sum(int(plan.passage.ids.size) for plan in plans if not plan.showings))
        while waiting:
            shown_next = [plans[i].showings[k] for i, k in waiting]
            way = runner.at(shown_next[0].size) if runner is not None else None
            batch = waiting[: _batch_size(shown_next, budget, way)]
            if way is None:
                batch = batch[:PROBE_PASSAGES]
                shown = [passage for passage in probe if frame.plan(passage).showings][: len(batch)]
                settled_on = shown or [shard[i] for i in dict.fromkeys(i for i, _ in batch)]
                runner = _unless_memory_ends(device, settle, model, settled_on, frame)
                if runner is None:
                    budget = smaller([plans[i] for i, _ in batch], _width(shown_next[: len(batch)]))
                elif runner.head is None:
                    budget = min(budget, max(1, OWN_LOGITS_ELEMENTS // _vocab_size(model)))
                continue
            showings = [plans[i].showings[k] for i, k in batch]
            measured = _unless_memory_ends(device, way.run, showings, frame.kind, device)
            if measured is None:
                budget = smaller([plans[i] for i, _ in batch], _width(shown_next[: len(batch)]))
                continue
            for (i, k), columns in zip(batch, measured, strict=True):
                found[i][k] = columns
            waiting = waiting[len(batch) :]
            on_tokens(sum(int(shard[i].ids.size) for i, _ in batch))
        yield [
            in_text_order(plan, [columns for columns in parts if columns is not None])
            for plan, parts in zip(plans, found, strict=True)
        ]


def _check_vocabulary(model: PreTrainedModel, plans: Sequence[TargetPlan]) -> None:
    """On an accelerator, a token that the model does not know ends the process."""
    embeddings: Any = model.get_input_embeddings()
    known = int(embeddings.weight.shape[0])
    read = [ids for plan in plans for one in plan.showings for ids in (one.ids, one.source) if ids.size]
    largest = max((int(ids.max()) for ids in read), default=0)
    check_known(largest, known, "the model", error=ModelError)


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


def _batch_size(showings: Sequence[Showing], budget: int, runner: Runner | None) -> int:
    """How many of the showings (longest first) fit and may go together; a cached prefix takes memory, so it counts."""
    if runner is not None and runner.n_cached:
        budget *= 2  # what is cached is stored, not computed
    if runner is not None and runner.is_packed:
        ends = itertools.accumulate(one.size for one in showings)
        return runner.rules.n_alike([one.size for one in showings[: max(1, sum(end <= budget for end in ends))]])
    n_fitting = max(1, min(len(showings), budget // showings[0].size))
    while n_fitting > 1 and n_fitting * _width(showings[:n_fitting]) > budget:
        n_fitting -= 1
    return n_fitting if runner is None else runner.rules.n_alike([one.size for one in showings[:n_fitting]])


def _width(showings: Sequence[Showing]) -> int:
    """Tokens of each row where these are padded into one batch."""
    return max(one.ids.size for one in showings) + max(one.source.size for one in showings)


def _halved(budget: int, batch: Sequence[TargetPlan], width: int, frame: Frame) -> int:
    """What is tried next after memory ran out on a batch, whose longest showing has `width` tokens."""
    if len(batch) == 1:
        raise ModelError(
            f"memory runs out on a single text of {batch[0].passage.ids.size} tokens "
            f"(with {len(frame.prefix)} tokens before it)",
            hint="lower --max-tokens, or load the model with --teacher-load/--student-load 4bit",
        )
    return max(1, min(budget, width * len(batch)) // 2)


def _vocab_size(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().vocab_size)
