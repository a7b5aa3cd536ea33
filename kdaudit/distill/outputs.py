"""What teacher and student say about a batch, with as few logits in memory as the model allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdaudit.distill.losses import Outputs
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
"""Token ids (B, T), padded on the right -> what the model says."""


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
    if split is None:
        return lambda ids: _spoken(model(input_ids=ids, use_cache=False, output_hidden_states=with_hidden), None)
    body, head = split.body, split.head
    return lambda ids: _spoken(body(input_ids=ids, use_cache=False, output_hidden_states=with_hidden), head)


def _spoken(given: Any, head: torch.nn.Module | None) -> Spoken:
    states = given.logits if head is None else given.last_hidden_state
    hidden = given.hidden_states
    return Spoken(Outputs(states, head), tuple(hidden[1:]) if hidden is not None else ())
