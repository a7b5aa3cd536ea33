"""What a mitigation is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from kdaudit.options import Option, problems_of, refuse

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

    from kdaudit.metrics.scores import Floats, Integers

PANEL = "Methods"
"""The panel of the help in which methods and their strengths stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """How strongly the methods are applied, as the user gave it."""

    # fmt: off
    bottleneck: Annotated[float, Option(
        "The width of the bottleneck. A number below 1 is a share of the hidden size.", PANEL)] = 0.25
    goldfish: Annotated[int, Option(
        "For the method goldfish: leave one token in this many out of the targets.",
        PANEL, key="method_goldfish", least=2)] = 4
    lora: Annotated[int, Option("For the method lora: the rank of the adapter.", PANEL, key="method_lora", least=1)] = 8
    label_smoothing: Annotated[float, Option(
        "For the method label-smoothing: the share that is spread over all words.",
        PANEL, key="method_label_smoothing", above=0, below=1)] = 0.1
    # fmt: on

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: lists every problem, each in a line of its own.
        """
        problems = [*problems_of(self)]
        if self.bottleneck <= 0 or (self.bottleneck > 1 and self.bottleneck % 1):
            problems.append(f"--bottleneck: {self.bottleneck:g} is neither a share below 1 nor a whole number")
        refuse(problems, "mitigate")


@dataclass(frozen=True, slots=True)
class Operation:
    """What was done to a model."""

    n_replaced: int
    """Modules; at least 1."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of n members the student is trained on; rising indices, dtype intp."""

    kept: Integers
    control: Integers
    """As many members as are kept, drawn at random from all."""
    n_members: int
    """Of which they are chosen."""
    n_unscored: int = 0
    """Members whose score is NaN; they are kept."""


Operate: TypeAlias = "Callable[[PreTrainedModel, torch.Tensor, Strength], Operation]"
"""(model, ids, strength): changes the student's start in place; ids (B, T) are of training texts, without padding."""

Select: TypeAlias = "Callable[[Floats, Floats, np.random.Generator], Selection]"
"""(scores of members, of non-members, rng): scores are of an attack on the teacher, NaN where not scored."""


def _nothing(_: Strength) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Method:
    """A mitigation: what sets its arm apart from the plain run. Where nothing does, it is the plain run itself."""

    name: str
    summary: str
    """One line for `--help` and reports: what is changed."""
    source: str
    settings: Callable[[Strength], Mapping[str, Any]] = _nothing
    """Fields of the distillation's configuration, with their values."""
    operate: Operate | None = None
    """A surgery on the student's start."""
    select: Select | None = None
    """Members that are left out; the arm has a control then, which leaves out as many at random."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing sets it apart from the plain run."""
        return self.settings is _nothing and self.operate is None and self.select is None


def modules_found(model: PreTrainedModel) -> str:
    """The kinds of modules without parts of their own that a model is made of, with their counts, for a message."""
    kinds = Counter(type(module).__name__ for module in model.modules() if next(module.children(), None) is None)
    return ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
