"""The module that is trained: the student with the loss in its forward pass, so that every wrapper sees all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kdaudit.distill.batches import Inputs
from kdaudit.distill.losses import IGNORED, CachedOutputs, distillation_loss
from kdaudit.distill.outputs import Speaker, Spoken

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
        self, inputs: Inputs, targets: torch.Tensor, taught: Taught, n_targets: torch.Tensor, is_own: bool
    ) -> torch.Tensor:
        """The loss of a batch, its share of the whole step's mean; nats per token.

        Args:
            inputs: what the student reads.
            targets: (B, T), the token that each output predicts, IGNORED where it predicts none.
            taught: what the teacher says of the same batch.
            n_targets: of the whole optimiser step.
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
        if self.projection is not None and isinstance(taught, Spoken):
            loss = loss + terms.hidden_weight * self._hidden_loss(said, taught, targets) / n_targets
        return loss

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
