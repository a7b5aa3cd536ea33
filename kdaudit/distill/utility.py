"""What the student is worth on records that it never saw, beside its teacher and its start."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdaudit.distill.batches import Inputs
from kdaudit.distill.losses import CHUNK_ELEMENTS, kl
from kdaudit.distill.student import Spoken, speaker
from kdaudit.draws import generator
from kdaudit.errors import ModelError
from kdaudit.metrics.association import ratio_estimate
from kdaudit.metrics.estimate import Estimate
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.lengths import LengthRules, length_rules
from kdaudit.results import Agreement, Utility
from kdaudit.signals.batch import Batch, make_batch
from kdaudit.signals.engine import measure
from kdaudit.signals.likelihoods import Floats, Likelihoods, fill, nothing_scored
from kdaudit.signals.running import first_tokens
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame, Showing, TargetPlan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARD_PASSAGES = 256
OVERFLOW = "the perplexity is larger than any number that a computer writes (above 1e308)"
MOST = math.log(sys.float_info.max)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out records as teacher, start and student read them."""

    passages: tuple[Passage, ...]
    frame: Frame
    vocabulary: int | None
    """Words that teacher and student both score; None for all."""

    def plans(self) -> list[TargetPlan]:
        """How each record is shown."""
        return [self.frame.plan(passage) for passage in self.passages]


def measure_utility(
    models: Mapping[str, Checkpoint],
    held_out: HeldOut,
    *,
    opened: Callable[[Checkpoint], AbstractContextManager[PreTrainedModel]],
    batch_tokens: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Utility:
    """Held-out loss of every model, and how far the student agrees with its teacher, with 95 % intervals.

    Args:
        models: `teacher`, `start` and `student`.
        held_out: records that the student never saw.
        opened: gives a model in memory for the length of a `with` block.
        batch_tokens: tokens of a forward pass at most.
        seed: of the bootstrap.
        on_progress: told (tokens done, tokens in all), over all models.

    Raises:
        ModelError: a model cannot be loaded, or says NaN.
    """
    total = sum(one.passage.ids.size * one.n_passes for one in held_out.plans()) * (len(models) + 1)
    done = 0

    def advance(n_tokens: int) -> None:
        nonlocal done
        done += n_tokens
        on_progress(done, total)

    def figure(name: str, above: Floats, below: Floats) -> Estimate:
        return ratio_estimate(above, below, rng=generator(seed, f"utility {name}"))

    losses: dict[str, Likelihoods] = {}
    with opened(models["teacher"]) as teacher:
        losses["teacher"] = record_losses(teacher, held_out, batch_tokens=batch_tokens, on_tokens=advance)
        with opened(models["student"]) as student:
            losses["student"] = record_losses(student, held_out, batch_tokens=batch_tokens, on_tokens=advance)
            agreed, divergence = record_agreement(
                student, teacher, held_out, batch_tokens=batch_tokens, on_tokens=advance
            )
    with opened(models["start"]) as start:
        losses["start"], start_unknown = _losses_of_start(start, held_out, batch_tokens, advance)
    damaged = {name: int((~np.isfinite(found.nll)).sum()) for name, found in losses.items() if name != "start"}
    if any(damaged.values()):
        raise ModelError(
            "held-out losses are not finite: "
            + ", ".join(f"{n} records under the {name}" for name, n in damaged.items())
        )
    known = [name for name in models if name != "start" or not start_unknown]
    nll = {name: figure("nll", losses[name].nll, losses[name].n_tokens) for name in known}
    bits = {name: figure("nll", losses[name].nll / math.log(2), losses[name].n_bytes) for name in known}
    if start_unknown:  # what was trained is finished, whatever it came from
        nothing = replace(nll["student"], value=None, low=None, high=None, quantiles=None, reason=start_unknown)
        nll["start"] = bits["start"] = nothing
    n_tokens = losses["student"].n_tokens
    return Utility(
        n_records=len(held_out.passages),
        n_tokens=int(n_tokens.sum()),
        nll={name: _told(found) for name, found in nll.items()},
        bits_per_byte={name: _told(found) for name, found in bits.items()},
        perplexity={name: _told(perplexity(found)) for name, found in nll.items()},
        agreement=Agreement(_told(figure("top1", agreed, n_tokens)), _told(figure("forward kl", divergence, n_tokens))),
        plan=held_out.frame.kind.name,
    )


def _losses_of_start(
    start: PreTrainedModel, held_out: HeldOut, batch_tokens: int, on_tokens: Callable[[int], None]
) -> tuple[Likelihoods, str]:
    """What `record_losses` gives for the start, and why it has no figures, or "": the student is not to blame."""
    try:
        found = record_losses(start, held_out, batch_tokens=batch_tokens, on_tokens=on_tokens)
    except ModelError as error:
        return nothing_scored(len(held_out.passages)), f"the start gives no figures: {error}"
    n_damaged = int((~np.isfinite(found.nll)).sum())
    return found, f"the losses of the start on {n_damaged} held-out records are not finite" if n_damaged else ""


def record_losses(
    model: PreTrainedModel,
    held_out: HeldOut,
    *,
    batch_tokens: int,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> Likelihoods:
    """What the audit's own engine gives for each record, summed over its scored tokens."""
    passages = held_out.passages
    shards = [passages[start : start + SHARD_PASSAGES] for start in range(0, len(passages), SHARD_PASSAGES)]
    found, n_done = nothing_scored(len(passages)), 0
    for signals in measure(model, shards, held_out.frame, batch_tokens=batch_tokens, on_tokens=on_tokens):
        fill(found, range(n_done, n_done + len(signals)), signals)
        n_done += len(signals)
    return found


def record_agreement(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    held_out: HeldOut,
    *,
    batch_tokens: int,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> tuple[Floats, Floats]:
    """Per record: tokens whose top word is the teacher's too, and the sum of KL(teacher || student) in nats."""
    n, frame, device = len(held_out.passages), held_out.frame, student.device
    agreed, divergence = np.zeros(n), np.zeros(n)
    shown = [(record, one) for record, plan in enumerate(held_out.plans()) for one in plan.showings]
    with torch.inference_mode():
        probe = frame.plan(first_tokens(held_out.passages[0], frame.kind)).showings[:1]
        asked = _inputs(make_batch(probe, frame.kind, device), probe)
        ask = [speaker(teacher, asked), speaker(student, asked)]
        rules = [length_rules(teacher), length_rules(student)]
        for chosen in _batches([one.size for _, one in shown], batch_tokens, rules):
            records, showings = zip(*(shown[i] for i in chosen), strict=True)
            batch = make_batch(showings, frame.kind, device)
            inputs = _inputs(batch, showings)
            columns = _compare(ask[0](inputs), ask[1](inputs), (batch.rows, batch.columns), held_out.vocabulary)
            owner = np.array(records)[batch.rows.cpu().numpy()]
            for values, into in zip(columns, (agreed, divergence), strict=True):
                into += np.bincount(owner, weights=values, minlength=n)
            on_tokens(sum(int(held_out.passages[record].ids.size) for record in records))
    return agreed, divergence


def _inputs(batch: Batch, showings: Sequence[Showing]) -> Inputs:
    return Inputs(batch.inputs, torch.tensor([one.size for one in showings]))


def _compare(
    taught: Spoken, said: Spoken, where: tuple[torch.Tensor, torch.Tensor], vocabulary: int | None
) -> list[Floats]:
    """Whether the top words agree, and KL(teacher || student), each (n,) over the targets, in chunks of them."""
    states = [one.outputs.states[where] for one in (taught, said)]
    width = _logits(said, states[1][:1]).shape[-1]
    size = max(1, CHUNK_ELEMENTS.get(states[0].device.type, 2**24) // int(width))
    parts = []
    for start in range(0, len(states[0]), size):
        theirs, own = (
            _logits(one, found[start : start + size])[:, :vocabulary].log_softmax(-1)
            for one, found in zip((taught, said), states, strict=True)
        )
        parts.append(torch.stack([(own.argmax(-1) == theirs.argmax(-1)).float(), kl(theirs, own)]))
    return [column.double().cpu().numpy() for column in torch.cat(parts, dim=1)]


def _logits(said: Spoken, states: torch.Tensor) -> torch.Tensor:
    head = said.outputs.head
    logits: torch.Tensor = states if head is None else head(states)
    return logits.float()


def _batches(sizes: Sequence[int], batch_tokens: int, rules: Sequence[LengthRules]) -> list[list[int]]:
    """Sequences that fit together, longest first, and that both models read by the same rules."""
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    batches: list[list[int]] = []
    while order:
        size = max(1, batch_tokens // max(1, sizes[order[0]]))
        size = min(one.n_alike([sizes[i] for i in order[:size]]) for one in rules)
        batches.append(order[:size])
        order = order[size:]
    return batches


def perplexity(found: Estimate) -> Estimate:
    """E to the power of an estimate; None where the result is too large for a number."""
    parts = (found.value, found.low, found.high)
    value, low, high = (None if part is None or part > MOST else math.exp(part) for part in parts)
    if value is None or high is None:
        reason = found.reason or OVERFLOW
        return replace(found, value=value, low=None, high=None, quantiles=None, reason=reason)
    return replace(found, value=value, low=low, high=high)


def _told(found: Estimate) -> Estimate:
    """What is kept of an estimate: its interval, and no bound at another level."""
    return replace(found, quantiles=None)
