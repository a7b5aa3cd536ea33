"""What a mitigation is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from kdaudit.options import Declared, Option

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

    from kdaudit.metrics.scores import Floats, Integers

PANEL = "Methods"
"""The panel of the help in which methods and their strengths stand."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How strongly a method is applied: one number, which an option of the command line sets."""

    default: float
    """A whole number where the option takes only those."""
    option: Option
    problem: Callable[[float], str | None] = lambda _: None
    """What is wrong with a number that the option allows, if anything."""


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
    """All members, of which these are chosen."""
    n_unscored: int = 0
    """Members whose score is NaN; they are kept."""


Operate: TypeAlias = "Callable[[PreTrainedModel, Mapping[str, torch.Tensor], Any], Operation]"
"""(model, inputs, strength): changes the student's start in place. The inputs are what it is called with for training
texts, (B, S) by the name of the argument; where no mask is among them there is no padding. The strength is None where
the method has none."""

Select: TypeAlias = "Callable[[Floats, Floats, np.random.Generator], Selection]"
"""(scores of members, of non-members, rng): scores are of an attack on the teacher, NaN where not scored."""


def _nothing(_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Method:
    """A mitigation: what sets its arm apart from the plain run. Where nothing does, it is the plain run itself."""

    name: str
    summary: str
    """One line for `--help` and reports: what is changed."""
    source: str
    strength: Strength | None = None
    settings: Callable[[Any], Mapping[str, Any]] = _nothing
    """By the strength: fields of the distillation's configuration, with their values."""
    operate: Operate | None = None
    """A surgery on the student's start."""
    select: Select | None = None
    """Members that are left out; the arm has a control then, which leaves out as many at random."""

    @property
    def field(self) -> str:
        """The name as Python writes it."""
        return self.name.replace("-", "_")

    @property
    def declared(self) -> tuple[Declared, ...]:
        """The option that sets the strength, if there is one."""
        if self.strength is None:
            return ()
        default, option = self.strength.default, self.strength.option
        return (Declared(self.field, type(default), False, False, default, option),)

    def problems(self, strength: float) -> Iterator[str]:
        """What is wrong with a strength, each in a line of its own."""
        for declared in self.declared:
            found = declared.problem(strength) or (self.strength.problem(strength) if self.strength else None)
            if found:
                yield f"{declared.flag}: {found}"

    @property
    def is_plain(self) -> bool:
        """Whether nothing sets it apart from the plain run."""
        return self.settings is _nothing and self.operate is None and self.select is None


def modules_found(model: PreTrainedModel) -> str:
    """The kinds of modules without parts of their own that a model is made of, with their counts, for a message."""
    kinds = Counter(type(module).__name__ for module in model.modules() if next(module.children(), None) is None)
    return ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
