"""What teacher and student say about a batch, with as few logits in memory as the model allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from kdaudit.distill.batches import PADDING
from kdaudit.distill.losses import Outputs
from kdaudit.models.lengths import LengthRules, forgetting, length_rules
from kdaudit.signals.route import split_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Spoken:
    """A model's outputs for a batch, and its hidden states where they were asked for."""

    outputs: Outputs
    hidden: tuple[torch.Tensor, ...] = ()
    """(B, T, H) after every layer."""


Speaker = Callable[[torch.Tensor], Spoken]
"""Token ids (B, T), padded on the right with PADDING -> what the model says."""


def speaker(model: PreTrainedModel, probe: torch.Tensor, *, with_hidden: bool = False) -> Speaker:
    """How to ask `model`: by its body and its head where these give its own logits, else by its logits.

    Args:
        model: a causal LM; its mode and whether gradients are taken are the caller's.
        probe: (1, T), token ids to settle it on.
        with_hidden: also give the hidden states after every layer.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        own = model(input_ids=probe, use_cache=False).logits
        split = split_head(model, probe, own)
    model.train(was_training)
    body, head = (model, None) if split is None else (split.body, split.head)
    rules, forget = length_rules(model), forgetting(model)

    def speak(ids: torch.Tensor) -> Spoken:
        forget()
        return _spoken(body(input_ids=ids, use_cache=False, output_hidden_states=with_hidden), head)

    return lambda ids: _apart(speak, ids, rules)


def _apart(speak: Speaker, ids: torch.Tensor, rules: LengthRules) -> Spoken:
    """Sequences that are read by other rules go through the model by themselves: padding would change them."""
    sizes = (ids != PADDING).sum(-1).tolist()
    known = ids.clamp(min=0)
    groups: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(rules.rule(size), []).append(row)
    if len(groups) == 1:
        return speak(known)
    said = [speak(known[rows, : max(sizes[row] for row in rows)]) for rows in groups.values()]
    place = torch.tensor([row for rows in groups.values() for row in rows], device=ids.device).argsort()

    def together(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([functional.pad(part, (0, 0, 0, ids.shape[1] - part.shape[1])) for part in parts])[place]

    hidden = tuple(together(list(layer)) for layer in zip(*(one.hidden for one in said), strict=True))
    return Spoken(Outputs(together([one.outputs.states for one in said]), said[0].outputs.head), hidden)


def _spoken(given: Any, head: torch.nn.Module | None) -> Spoken:
    states = given.logits if head is None else given.last_hidden_state
    hidden = given.hidden_states
    return Spoken(Outputs(states, head), tuple(hidden[1:]) if hidden is not None else ())
