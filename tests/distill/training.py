"""Small models, sequences and one call that trains, for the tests of the loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdaudit.distill.batches import Inputs, collate, inputs_of
from kdaudit.distill.data import Curriculum, make_examples, plan_steps
from kdaudit.distill.student import Distiller, LossTerms, speaker
from kdaudit.distill.trainer import Settings, Watch, train
from kdaudit.records import Record
from kdaudit.targets.causal import CAUSAL, causal_frame
from kdaudit.targets.plan import Example, Kind
from tests import tiny

SETTINGS = Settings(
    lr=5e-3, schedule="one-cycle", warmup=0.1, weight_decay=0.01, gradient_accumulation=1, mixed_precision="no",
    seed=0, use_cpu=True, report_to="none",
)  # fmt: skip
TERMS = LossTerms(objective="forward-kl", beta=None, hard_weight=0.5, temperature=2.0)
QUIET = Watch()


def read(ids: torch.Tensor) -> Inputs:
    """Token ids (B, T) without padding, as a causal model is given them."""
    return Inputs({"input_ids": ids}, torch.full((len(ids),), ids.shape[1]))


PROBE = read(torch.arange(1, 9).unsqueeze(0))


def some_examples(n: int = 24, *, seed: int = 0) -> tuple[Example, ...]:
    records = [Record(str(i), text, i) for i, text in enumerate(tiny.texts(n, seed=seed))]
    return make_examples(records, tiny.tokenizer(), causal_frame(tiny.tokenizer()), window=tiny.CONTEXT).items


def plan_of(examples: Sequence[Example], *, epochs: int = 2, step_tokens: int = 128, n_parts: int = 1) -> Curriculum:
    sizes = tuple(int(example.ids.size) for example in examples)
    rng = np.random.default_rng(0)
    return Curriculum(
        tuple(plan_steps(sizes, epochs=epochs, step_tokens=step_tokens, n_parts=n_parts, rng=rng)), sizes
    )  # fmt: skip


def run(
    student: Any,
    work: Path,
    *,
    teacher: Any = None,
    terms: LossTerms = TERMS,
    settings: Settings = SETTINGS,
    examples: Sequence[Example] | None = None,
    plan: Curriculum | None = None,
    watch: Watch = QUIET,
    projection: torch.nn.Linear | None = None,
    kind: Kind = CAUSAL,
    **options: Any,
) -> list[float]:
    """Train `student` in place."""
    shown = some_examples() if examples is None else examples
    with_hidden = terms.hidden_weight > 0
    probe = PROBE if kind is CAUSAL else inputs_of(collate([(0, 0, shown[0])], kind), torch.device("cpu"))
    ask_teacher = None if teacher is None else speaker(teacher, probe, with_hidden=with_hidden)

    def ask(inputs: Inputs, rows: list[int], epoch: int) -> Any:
        if ask_teacher is None:
            return None
        with torch.no_grad():
            return ask_teacher(inputs)

    student.requires_grad_(True)
    distiller = Distiller(student, speaker(student, probe, with_hidden=with_hidden), terms, projection)
    steps = plan or plan_of(shown, n_parts=settings.gradient_accumulation)
    return train(distiller, shown, kind, steps, ask, settings, work, watch=watch, **options)


def largest_gap(one: Any, other: Any) -> float:
    """Between the weights of two models of one architecture."""
    return max(
        float((a - b).abs().max()) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
