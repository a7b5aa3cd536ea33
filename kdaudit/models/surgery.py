"""Parts that take the place of a model's own: all that is needed to rebuild a changed model.

The source of this module goes into every changed checkpoint as its modelling file, so that plain transformers can load
it: it imports nothing of kdaudit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


class Bottleneck(nn.Module):
    """Linear(inputs -> width), GELU, Linear(width -> outputs), both with a bias, over the last dimension."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, width)
        self.up = nn.Linear(width, outputs)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., inputs) -> (..., outputs)."""
        changed: torch.Tensor = self.up(nn.functional.gelu(self.down(states)))
        return changed


class NoNorm(nn.Module):
    """weight * states + bias, feature by feature, in place of a normalisation; no bias in place of an RMSNorm.

    Source: Sun et al. 2020 (MobileBERT), arXiv:2004.02984, section 3.1.
    """

    def __init__(self, size: int, has_bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if has_bias else None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., size)."""
        scaled = self.weight * states
        return scaled if self.bias is None else scaled + self.bias


PARTS: dict[str, Callable[..., nn.Module]] = {"bottleneck": Bottleneck, "no-norm": NoNorm}


def operate(model: nn.Module, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Put new parts, not yet trained, in the place of submodules; each takes over device, dtype and mode.

    Args:
        model: changed in place.
        parts: by the path of the submodule: `kind`, a name of PARTS, and the arguments of that class.

    Raises:
        AttributeError: the model has no such submodule.
    """
    for path, spec in parts.items():
        replaced = model.get_submodule(path)
        part = PARTS[spec["kind"]](**{name: value for name, value in spec.items() if name != "kind"})
        for weight in replaced.parameters():
            part.to(device=weight.device, dtype=weight.dtype)
            break
        model.set_submodule(path, part.train(replaced.training), strict=True)
