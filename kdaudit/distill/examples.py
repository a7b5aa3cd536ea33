"""Records as token sequences to learn from, and the order in which they are learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdaudit.distill.batches import n_targets
from kdaudit.errors import RecordsError
from kdaudit.records import Record
from kdaudit.targets.passage import encode, lead_text, without_lead
from kdaudit.targets.plan import Example, Frame

CHUNK = 512  # texts that are tokenised at one time


@dataclass(frozen=True, slots=True)
class Examples:
    """All training sequences, in the order of the records."""

    items: tuple[Example, ...]
    n_cut: int
    """Records that were longer than the window."""
    n_left_out: int
    """Records of which no token could be learnt: a single token without a lead, or a prompt that fills the window."""


def make_examples(records: Sequence[Record], tokenizer: Any, frame: Frame, *, window: int) -> Examples:
    """Tokenise records; a text that fits is closed by the tokenizer's end-of-text token, if it has one.

    Args:
        records: what the student is trained on.
        tokenizer: of teacher and student.
        frame: how the texts are shown.
        window: tokens of a sequence at most.

    Raises:
        RecordsError: no record leaves a token to learn.
    """
    found: list[Example] = []
    n_cut = 0
    for start in range(0, len(records), CHUNK):
        chunk = records[start : start + CHUNK]
        shown = [without_lead(record.text, record.n_prompt, [lead_text(tokenizer)]) for record in chunk]
        texts, prompts = [text for text, _ in shown], [n_prompt for _, n_prompt in shown]
        for passage in encode(tokenizer, texts, prompts):
            n_cut += frame.room(window) < passage.ids.size
            found.append(frame.kind.example(passage, frame, window))
    items = tuple(example for example in found if n_targets(example, frame.kind))
    if not items:
        raise RecordsError(
            f"none of the {len(records)} records leaves a token to learn within {window} tokens",
            hint="raise --max-tokens, or give longer texts",
        )
    return Examples(items, n_cut, len(found) - len(items))


def plan_steps(
    sizes: Sequence[int], *, epochs: int, step_tokens: int, n_parts: int, rng: np.random.Generator
) -> Iterator[list[list[list[int]]]]:
    """For every epoch its optimiser steps; each step is split into `n_parts` batches of examples.

    What a step holds depends on the seed and on `step_tokens` alone, so that splitting it further (gradient
    accumulation, processes) changes no gradient. Within a step the parts hold examples of like length: less padding.

    Args:
        sizes: tokens of each example.
        epochs: passes over the examples, each in an order of its own.
        step_tokens: tokens of a step at most, padding not counted; a longer example is a step by itself.
        n_parts: batches of a step; some are empty where a step has fewer examples.
        rng: orders the examples.
    """
    for _ in range(epochs):
        steps: list[list[int]] = []
        room = 0
        for index in rng.permutation(len(sizes)).tolist():
            if not steps or sizes[index] > room:
                steps.append([])
                room = step_tokens
            steps[-1].append(index)
            room -= sizes[index]
        yield [_split(step, sizes, n_parts) for step in steps]


def _split(step: list[int], sizes: Sequence[int], n_parts: int) -> list[list[int]]:
    if n_parts == 1:
        return [step]
    by_size = sorted(step, key=lambda index: (sizes[index], index))
    return [part.tolist() for part in np.array_split(np.array(by_size, dtype=np.int64), n_parts)]
