"""What teacher and student say about a batch, and the module that is trained: the student with the loss inside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from kdaudit.distill.batches import Inputs
from kdaudit.distill.losses import IGNORED, CachedOutputs, Outputs, distillation_loss
from kdaudit.models.lengths import LengthRules, forgetting, length_rules
from kdaudit.signals.running import readable_by, split_head, without_cache

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
    was_training, read = model.training, readable_by(model)
    model.eval()
    with torch.no_grad():
        own = model(**read(probe.tensors), **without_cache(model)).logits
        is_causal = "attention_mask" not in probe.tensors
        split = split_head(model, read(probe.tensors), own, with_rest=not is_causal)
    model.train(was_training)
    body, head = (model, None) if split is None else (split.body, split.head)
    rules, forget, quietly = length_rules(model), forgetting(model), without_cache(body)

    def speak(tensors: Mapping[str, torch.Tensor]) -> Spoken:
        forget()
        return _spoken(body(**read(tensors), **quietly, output_hidden_states=with_hidden), head)

    return lambda inputs: _apart(speak, inputs, rules)


def _apart(speak: Callable[[Mapping[str, torch.Tensor]], Spoken], inputs: Inputs, rules: LengthRules) -> Spoken:
    """Sequences that are read by other rules go through the model by themselves: padding would change them."""
    sizes = inputs.sizes.tolist()
    groups: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(rules.rule(size), []).append(row)
    if len(groups) == 1:
        return speak(inputs.tensors)
    is_paired = "decoder_input_ids" in inputs.tensors  # sizes are those of the decoder
    said = [
        speak(
            {
                name: tensor[rows, : max(sizes[row] for row in rows)]
                if name.startswith("decoder_") or not is_paired
                else tensor[rows]
                for name, tensor in inputs.tensors.items()
            }
        )
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
    hidden = getattr(given, "decoder_hidden_states", None) or getattr(given, "hidden_states", None)
    return Spoken(Outputs(states, head), tuple(hidden[1:]) if hidden is not None else ())


Taught = Spoken | CachedOutputs | None
"""What the teacher says of a batch: now, beforehand, or nothing."""


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What is minimised; see `distillation_loss`."""

    objective: str
    beta: float | None
    hard_weight: float
    temperature: float
    label_smoothing: float = 0.0
    hidden_weight: float = 0.0
    is_cosine: bool = False
    """Hidden states are compared in DistilBERT's manner, else in TinyBERT's."""
    vocabulary: int | None = None
    """Words that teacher and student both score; None for all."""


class Distiller(torch.nn.Module):
    """A student whose forward pass is its loss.

    Wrappers for several processes or for lower precision see one module with one forward pass, and the chunked
    loss reads the head's weights inside of it.
    """

    accepts_loss_kwargs = True  # the trainer: the loss is normalised by the targets of the whole step already
    _keys_to_ignore_on_save = None  # the trainer asks for it where a checkpoint holds the trained weights alone

    def __init__(
        self, student: PreTrainedModel, speak: Speaker, terms: LossTerms, projection: torch.nn.Linear | None
    ) -> None:
        super().__init__()
        self.student = student
        self.projection = projection
        self._speak = speak
        self._terms = terms

    def forward(
        self,
        inputs: Inputs,
        targets: torch.Tensor,
        taught: Taught,
        n_targets: torch.Tensor,
        n_read: torch.Tensor,
        is_own: bool,
    ) -> torch.Tensor:
        """The loss of a batch, its share of the whole step's mean; nats per token.

        Args:
            inputs: what the student reads.
            targets: (B, T), the token that each output predicts, IGNORED where it predicts none.
            taught: what the teacher says of the same batch.
            n_targets: of the whole optimiser step.
            n_read: tokens of the whole optimiser step, padding not counted; of the decoder, where there is an encoder.
            is_own: the student wrote the sequences itself; nothing of them is ground truth.
        """
        said = self._speak(inputs)
        terms = self._terms
        loss = distillation_loss(
            said.outputs,
            taught.outputs if isinstance(taught, Spoken) else taught,
            targets,
            objective=terms.objective,
            hard_weight=0.0 if is_own else terms.hard_weight,
            temperature=terms.temperature,
            n_targets=n_targets,
            beta=terms.beta,
            vocabulary=terms.vocabulary,
            label_smoothing=terms.label_smoothing,
        )
        if terms.hidden_weight and isinstance(taught, Spoken):
            if terms.is_cosine:
                hidden = self._last_states_loss(said, taught, inputs) / n_read
            else:
                hidden = self._hidden_loss(said, taught, targets) / n_targets
            loss = loss + terms.hidden_weight * hidden
        return loss

    def _last_states_loss(self, said: Spoken, taught: Spoken, inputs: Inputs) -> torch.Tensor:
        """1 - cosine of the last states and the teacher's, sum over all tokens that are read.

        Source: Sanh et al. 2019 (DistilBERT), arXiv:1910.01108, section 3; states of another width are projected first.
        """
        own, of_teacher = said.hidden[-1], taught.hidden[-1]
        is_read = torch.arange(own.shape[1], device=own.device) < inputs.sizes.to(own.device).unsqueeze(1)
        projected = own[is_read] if self.projection is None else self.projection(own[is_read])
        return (1 - functional.cosine_similarity(projected.float(), of_teacher[is_read].float(), dim=-1)).sum()

    def _hidden_loss(self, said: Spoken, taught: Spoken, targets: torch.Tensor) -> torch.Tensor:
        """Squared distance of projected states to the teacher's, mean over units and layers, sum over targets.

        Layer i of the student's L, counted from 1, is matched with layer i * L_teacher / L of the teacher, rounded up.

        Source: Jiao et al. 2020 (TinyBERT), arXiv:1909.10351, equation 8, on causal models.
        """
        is_read = targets != IGNORED
        layers = matched_layers(len(said.hidden), len(taught.hidden))
        total = said.hidden[0].new_zeros((), dtype=torch.float32)
        for own, of_teacher in zip(said.hidden, layers, strict=True):
            projected = self.projection(own[is_read]).float()  # type: ignore[misc]  # checked by the caller
            gap = projected - taught.hidden[of_teacher][is_read].float()
            total = total + gap.square().mean(dim=-1).sum()
        return total / len(layers)


def matched_layers(n_student: int, n_teacher: int) -> list[int]:
    """For every layer of the student the teacher's layer that it is matched with, both counted from 0."""
    return [math.ceil((i + 1) * n_teacher / n_student) - 1 for i in range(n_student)]
