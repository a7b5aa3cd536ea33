"""The only forward pass and the only target mask: passages in, per-token signals out."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import torch

from kdaudit.errors import ModelError
from kdaudit.signals.tokens import TokenSignals
from kdaudit.signals.vocabulary import Head, reduce_vocabulary
from kdaudit.views.passage import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

P = ParamSpec("P")
T = TypeVar("T")

ENGINE_VERSION = 1
"""Raised whenever a change here can move a signal; part of every cache key."""

PROBE_PASSAGES = 4
PROBE_TOKENS = 64  # of each, where a model's own logits are needed: they exist for all tokens at once
OWN_LOGITS_ELEMENTS = 2**27  # tokens x vocabulary of one batch where a model's own logits have to be used
AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}  # nats, largest difference of one token
HEAD_AGREEMENT = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}  # of the largest logit


def device_name(device: str) -> str:
    """What computes: the kind of device, and the product where it is an accelerator."""
    return f"{device} {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else device


@dataclass(frozen=True, slots=True)
class Front:
    """What stands before every text of a pass: the tokenizer's own lead (a BOS) and a prefix."""

    lead: tuple[int, ...]
    prefix: tuple[int, ...] = ()

    @property
    def n_unscored(self) -> int:
        """Tokens of a text that are not scored: the first one where no BOS stands before the text."""
        return 0 if self.lead else 1


@dataclass(frozen=True, slots=True)
class Route:
    """How one model's states are computed, settled on its first batch."""

    states: Callable[[torch.Tensor], torch.Tensor]
    """(B, S) token ids -> (B, S, H) hidden states, or (B, S, V) logits where `head` is None."""
    head: Head | None
    front: tuple[int, ...]
    """What is put before each text's tokens in the batch; the rest of the front lies in the cache."""
    is_prefix_cached: bool


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
    for shard in shards:
        _check_vocabulary(model, shard, front)
        signals: list[TokenSignals | None] = [
            _nothing(passage, front) if passage.ids.size <= front.n_unscored else None for passage in shard
        ]
        waiting = sorted((i for i, found in enumerate(signals) if found is None), key=lambda i: -int(shard[i].ids.size))
        on_tokens(sum(int(passage.ids.size) for passage in shard) - sum(int(shard[i].ids.size) for i in waiting))
        while waiting:
            batch = waiting[: _batch_size([int(shard[i].ids.size) for i in waiting], budget, front, route)]
            if route is None:
                batch = batch[:PROBE_PASSAGES]
                shown = [passage for passage in probe if passage.ids.size > front.n_unscored][: len(batch)]
                settled_on = shown or [shard[i] for i in batch]
                route = _unless_memory_ends(model.device, settle, model, settled_on, front)
                if route is None:
                    budget = _halved(budget, batch, shard, front)
                elif route.head is None:
                    budget = min(budget, max(1, OWN_LOGITS_ELEMENTS // _vocab_size(model)))
                continue
            passages = [shard[i] for i in batch]
            measured = _unless_memory_ends(model.device, _run_batch, route, passages, front, model.device)
            if measured is None:
                budget = _halved(budget, batch, shard, front)
                continue
            for i, found in zip(batch, measured, strict=True):
                signals[i] = found
            waiting = waiting[len(batch) :]
            on_tokens(sum(int(passage.ids.size) for passage in passages))
        yield [found for found in signals if found is not None]


def settle(model: PreTrainedModel, probe: Sequence[Passage], front: Front) -> Route:
    """Decide on a few passages how this model can be run, checking every shortcut against its own logits.

    The head is applied in chunks of tokens only where that gives the model's own logits (soft-capped or
    scaled logits do not), and a prefix is computed once only where its cache gives what one full pass gives.

    Raises:
        ModelError: the logits hold NaN, or depend on later tokens.
    """
    with torch.inference_mode():
        ids = _pad([_first_tokens(passage) for passage in probe], front.lead, model.device)
        own = model(input_ids=ids, use_cache=False).logits
        longest = own[0, : len(front.lead) + probe[0].ids.size]
        if bool(torch.isnan(longest).any()):
            raise ModelError(
                "the model's logits hold NaN", hint="its weights are damaged, or they overflow in this dtype (--dtype)"
            )
        _check_causal(model, ids, longest)
        body, head = _body_and_head(model)
        if body is not None and head is not None:
            logits = head(body(ids))
            scale = max(1.0, float(own.abs().max()))
            is_same = logits.shape == own.shape and _gap(logits, own) <= HEAD_AGREEMENT[_dtype(model)] * scale
            body, head = (body, head) if is_same else (None, None)
        whole = front.lead + front.prefix
        plain = Route(body or _own_logits(model), head if body else None, whole, is_prefix_cached=False)
        if not front.prefix:
            return plain
        pair = probe if len(probe) > 1 else [_first_tokens(probe[0])] * 2  # a cache may serve one text and no more
        try:
            expected = _run_batch(plain, pair, front, model.device)
            cached = _cached_route(model, plain, whole)
            if cached is None:
                return plain
            found = _run_batch(cached, pair, front, model.device)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, MemoryError) as error:
            if _is_out_of_memory(error) and pair is probe:
                raise
            return plain
    gap = max(float(np.abs(a.logprob - b.logprob).max(initial=0)) for a, b in zip(expected, found, strict=True))
    return cached if gap <= _agreement(model) else plain


def _check_causal(model: PreTrainedModel, ids: torch.Tensor, logits: torch.Tensor) -> None:
    """Other tokens in the second half of the first text must leave the logits of its first half as they are."""
    half = max(1, logits.shape[0] // 2)
    changed = ids.clone()
    changed[0, half:] = torch.where(ids[0, half:] > 0, ids[0, half:] - 1, 1)
    scores = logits[:half].float().log_softmax(-1)
    # the same shapes, so that rounding is the same too; experts and outlier features still see other neighbours
    again = model(input_ids=changed, use_cache=False).logits[0, :half].float().log_softmax(-1)
    is_likely = scores > -20  # far in the tail, rounding alone makes large differences
    gaps = torch.where(is_likely, (again - scores).abs(), 0).amax(dim=-1)
    if float(gaps.median()) > _agreement(model):
        raise ModelError(
            "the model's predictions depend on later tokens, so it is no causal language model",
            hint="encoder checkpoints (BERT and the like) cannot be audited as causal models",
        )


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


def _body_and_head(model: PreTrainedModel) -> tuple[Callable[[torch.Tensor], torch.Tensor] | None, Head | None]:
    body = getattr(model, model.base_model_prefix, None)
    head = model.get_output_embeddings()
    if body is None or body is model or head is None:
        return None, None

    def states(ids: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = body(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    return states, head


def _own_logits(model: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    def states(ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
        return logits

    return states


def _cached_route(model: PreTrainedModel, plain: Route, whole: tuple[int, ...]) -> Route | None:
    """All of the front but its last token in a key/value cache; None where the model has no such cache."""
    runner: Any = getattr(model, model.base_model_prefix) if plain.head is not None else model
    kept = torch.tensor([whole[:-1]], device=model.device)
    if kept.shape[1] == 0:
        return None
    prefix_cache: Any = getattr(runner(input_ids=kept, use_cache=True), "past_key_values", None)
    layers = getattr(prefix_cache, "layers", [])
    if not layers or not all(hasattr(layer, "batch_repeat_interleave") for layer in layers):
        return None

    def states(ids: torch.Tensor) -> torch.Tensor:
        cache = copy.deepcopy(prefix_cache)
        cache.batch_repeat_interleave(ids.shape[0])
        output = runner(input_ids=ids, past_key_values=cache, use_cache=True)
        found: torch.Tensor = output.logits if plain.head is None else output.last_hidden_state
        return found

    return Route(states, plain.head, whole[-1:], is_prefix_cached=True)


def _unless_memory_ends(device: torch.device, compute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What `compute` gives, or None where memory ran out."""
    try:
        with torch.inference_mode():
            return compute(*args, **kwargs)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    # outside this block the failed tensors are free
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _is_out_of_memory(error: Exception) -> bool:
    is_said = "allocate memory" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and is_said)


def _run_batch(route: Route, passages: Sequence[Passage], front: Front, device: torch.device) -> list[TokenSignals]:
    ids = _pad(passages, route.front, device)
    states = route.states(ids)
    # the one target mask: text token j is predicted at the position before it, and nothing predicts an unscored one
    before, skip = len(route.front) - 1, front.n_unscored
    sizes = [int(passage.ids.size) for passage in passages]
    rows = np.repeat(np.arange(len(sizes)), [size - skip for size in sizes])
    columns = np.concatenate([np.arange(before + skip, before + size) for size in sizes])
    row_index, column_index = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
    logprob, mean, std, top = reduce_vocabulary(
        states[row_index, column_index], ids[row_index, column_index + 1], route.head
    )
    starts = itertools.accumulate((size - skip for size in sizes), initial=0)
    spans = [slice(start, start + size - skip) for start, size in zip(starts, sizes, strict=False)]
    return [
        TokenSignals(
            logprob=logprob[span],
            logprob_mean=mean[span],
            logprob_std=std[span],
            logprob_top=top[span],
            byte_end=passage.byte_end[skip:],
            byte_start=int(passage.byte_end[skip - 1]) if skip else 0,
        )
        for passage, span in zip(passages, spans, strict=True)
    ]


def _pad(passages: Sequence[Passage], front: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Token ids (B, S), padded on the right: under a causal mask nothing real can see the padding."""
    width = len(front) + max(int(passage.ids.size) for passage in passages)
    ids = np.zeros((len(passages), width), dtype=np.int64)
    for row, passage in zip(ids, passages, strict=True):
        row[: len(front)] = front
        row[len(front) : len(front) + passage.ids.size] = passage.ids
    return torch.from_numpy(ids).to(device)


def _first_tokens(passage: Passage) -> Passage:
    return Passage(passage.ids[:PROBE_TOKENS], passage.char_end[:PROBE_TOKENS], passage.byte_end[:PROBE_TOKENS])


def _batch_size(sizes: Sequence[int], budget: int, front: Front, route: Route | None) -> int:
    """How many of the texts (longest first) fit; a cached prefix takes memory for every text, so it counts."""
    width = len(front.lead) + len(front.prefix) + sizes[0]
    if route is not None and route.is_prefix_cached:
        budget *= 2  # what is cached is stored, not computed
    return max(1, min(len(sizes), budget // width))


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
    start = int(passage.byte_end[front.n_unscored - 1]) if front.n_unscored and passage.ids.size else 0
    return TokenSignals(empty, empty, empty, empty, np.zeros(0, dtype=np.int32), start)


def _vocab_size(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().vocab_size)


def _dtype(model: PreTrainedModel) -> torch.dtype:
    return model.dtype if model.dtype in AGREEMENT else torch.float32


def _agreement(model: PreTrainedModel) -> float:
    """Nats by which one token may differ between two ways of computing it."""
    is_quantised = getattr(model, "is_quantized", False)
    return AGREEMENT[torch.bfloat16 if is_quantised else _dtype(model)]


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).abs().max())
