"""What teacher and student say about a batch, with as few logits in memory as the model allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from kdaudit.distill.batches import Inputs
from kdaudit.distill.losses import Outputs
from kdaudit.models.lengths import LengthRules, forgetting, length_rules
from kdaudit.signals.running import split_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Spoken:
    """A model's outputs for a batch, and its hidden states where they were asked for."""

    outputs: Outputs
    hidden: tuple[torch.Tensor, ...] = ()
    """(B, T, H) after every layer."""


Speaker = Callable[[Inputs], Spoken]
"""A batch -> what the model says of it."""


def speaker(model: PreTrainedModel, probe: Inputs, *, with_hidden: bool = False) -> Speaker:
    """How to ask `model`: by its body and its head where these give its own logits, else by its logits.

    Args:
        model: a language model; its mode and whether gradients are taken are the caller's.
        probe: a batch of one sequence to settle it on.
        with_hidden: also give the hidden states after every layer.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        own = model(**probe.tensors, use_cache=False).logits
        split = split_head(model, probe.tensors, own)
    model.train(was_training)
    body, head = (model, None) if split is None else (split.body, split.head)
    rules, forget = length_rules(model), forgetting(model)

    def speak(tensors: Mapping[str, torch.Tensor]) -> Spoken:
        forget()
        return _spoken(body(**tensors, use_cache=False, output_hidden_states=with_hidden), head)

    return lambda inputs: _apart(speak, inputs, rules)


def _apart(speak: Callable[[Mapping[str, torch.Tensor]], Spoken], inputs: Inputs, rules: LengthRules) -> Spoken:
    """Sequences that are read by other rules go through the model by themselves: padding would change them."""
    sizes = inputs.sizes.tolist()
    groups: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(rules.rule(size), []).append(row)
    if len(groups) == 1:
        return speak(inputs.tensors)
    said = [
        speak({name: tensor[rows, : max(sizes[row] for row in rows)] for name, tensor in inputs.tensors.items()})
        for rows in groups.values()
    ]
    order = torch.tensor([row for rows in groups.values() for row in rows])
    place = order.argsort().to(said[0].outputs.states.device)

    def together(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([functional.pad(part, (0, 0, 0, max(sizes) - part.shape[1])) for part in parts])[place]

    hidden = tuple(together(list(layer)) for layer in zip(*(one.hidden for one in said), strict=True))
    return Spoken(Outputs(together([one.outputs.states for one in said]), said[0].outputs.head), hidden)


def _spoken(given: Any, head: torch.nn.Module | None) -> Spoken:
    states = given.logits if head is None else given.last_hidden_state
    hidden = given.hidden_states
    return Spoken(Outputs(states, head), tuple(hidden[1:]) if hidden is not None else ())
