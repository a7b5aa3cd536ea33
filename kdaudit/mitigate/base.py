"""What a mitigation is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Operation:
    """What was done to a model."""

    n_replaced: int
    """Modules; at least 1."""
    warnings: tuple[str, ...] = ()


def modules_found(model: PreTrainedModel) -> str:
    """The kinds of modules without parts of their own that a model is made of, with their counts, for a message."""
    kinds = Counter(type(module).__name__ for module in model.modules() if next(module.children(), None) is None)
    return ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
