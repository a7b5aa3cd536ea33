"""Who is a member, which sequences are learnt of each, and in which order: settled by the seed before any training."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kdaudit.distill.batches import n_targets
from kdaudit.distill.settings import DistillConfig
from kdaudit.draws import generator
from kdaudit.errors import RecordsError
from kdaudit.manifest import record_id
from kdaudit.records import Record, RecordSet, check_alike, check_disjoint, chosen, column, sample, texts_of
from kdaudit.targets.passage import lead_text
from kdaudit.targets.plan import Example, Frame
from kdaudit.targets.script import script_of


@dataclass(frozen=True, slots=True)
class Assignment:
    """The records that the student is trained on and those that it never sees."""

    members: Sequence[Record]
    held_out: Sequence[Record]
    left_out: Sequence[Record] = ()
    """Members of which the student is to learn nothing."""

    @property
    def trained(self) -> Sequence[Record]:
        """The members that the student is trained on."""
        left_out = {*column(self.left_out, "id")}
        kept = [place for place, own_id in enumerate(column(self.members, "id")) if own_id not in left_out]
        return chosen(self.members, kept)


def assign(config: DistillConfig, train: RecordSet, nonmembers: RecordSet | None) -> Assignment:
    """Split the training file by the rule of `config`, or take the non-members from their own file.

    Args:
        config: the rule and the seed.
        train: the training file.
        nonmembers: the file of records that neither model saw, if there is one.

    Raises:
        RecordsError: a side would be empty, the count is larger than the file, or the files share a text.
    """
    records = _limited(train.records, config, "limit train")
    if nonmembers is not None:
        check_disjoint((train, nonmembers))
        check_alike(train, nonmembers)
        return Assignment(records, _limited(nonmembers.records, config, "limit non-members"))
    is_held = _held_out(config, len(records), f"--train {train.source}")
    n_held = int(is_held.sum())
    if n_held in {0, len(records)}:
        side = "no record is held out" if n_held == 0 else f"all {n_held} records are held out"
        consequence = "nothing could be audited" if n_held == 0 else "nothing is left to train on"
        raise RecordsError(
            f"--train {train.source}: {side} under {_rule_words(config)}: {consequence}",
            hint="give another --holdout, a larger file, or non-members of their own by --nonmembers FILE",
        )
    return Assignment(
        chosen(records, np.flatnonzero(~is_held)),
        chosen(records, np.flatnonzero(is_held)),
    )


def leave_out(assignment: Assignment, left_out: Container[str], key: bytes) -> Assignment:
    """The same records, of which the student is not to learn those members whose keyed ids are in `left_out`.

    Raises:
        RecordsError: no member is left to train on.
    """
    texts = texts_of(assignment.members)
    found = chosen(assignment.members, [i for i, text in enumerate(texts) if record_id(key, text) in left_out])
    if len(found) == len(assignment.members):
        raise RecordsError(f"all {len(found)} members are left out: nothing is left to train on")
    return replace(assignment, left_out=found)


def parse_holdout(text: str) -> float | int:
    """A share (any number with a point or exponent: 0.2, 1.0) or a count (500).

    Raises:
        RecordsError: it is neither.
    """
    try:
        found = int(text) if text.strip().lstrip("+-").isdigit() else float(text)
    except ValueError:
        found = -1
    if (isinstance(found, float) and not 0 <= found <= 1) or found < 0:
        raise RecordsError(
            f"--holdout: '{text}' is neither a share nor a count", hint="--holdout 0.2 for a fifth, --holdout 500"
        )
    return found


def _held_out(config: DistillConfig, n: int, label: str) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(n,), True for records that are held out."""
    if config.coins:
        return generator(config.records_seed, "coins").random(n) < 0.5
    wanted = parse_holdout(config.holdout_rule or "")
    count = round(wanted * n) if isinstance(wanted, float) else wanted
    if count > n:
        raise RecordsError(f"{label}: --holdout {count} is more than its {n} records", hint="give a smaller --holdout")
    is_held = np.zeros(n, dtype=bool)
    is_held[generator(config.records_seed, "holdout").choice(n, size=count, replace=False)] = True
    return is_held


def _limited(records: Sequence[Record], config: DistillConfig, name: str) -> Sequence[Record]:
    return records if config.limit is None else sample(records, config.limit, rng=generator(config.records_seed, name))


def _rule_words(config: DistillConfig) -> str:
    return "--coins" if config.coins else f"--holdout {config.holdout_rule}"


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
        scripts = [script_of(record, [lead_text(tokenizer)]) for record in chunk]
        for passage in frame.encode(tokenizer, scripts):
            n_cut += frame.room(window, passage) < passage.ids.size
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


@dataclass(frozen=True, slots=True)
class Curriculum:
    """The optimiser steps of a training run."""

    epochs: tuple[list[list[list[int]]], ...]
    """Per epoch its steps, each in parts: one batch for every process and accumulation."""
    sizes: tuple[int, ...]
    """Tokens of every example."""

    @property
    def steps(self) -> list[list[list[int]]]:
        """All steps, one epoch after the other."""
        return [step for epoch in self.epochs for step in epoch]

    @property
    def epoch_ends(self) -> list[int]:
        """The number of steps that are finished at the end of each epoch."""
        ends, total = [], 0
        for epoch in self.epochs:
            total += len(epoch)
            ends.append(total)
        return ends

    def copies(self, per_epoch: int) -> dict[int, float]:
        """After which steps a copy of the student is kept, and how many epochs are done by then.

        `per_epoch` of them are evenly spaced in every epoch, the last one at its end; fewer where an epoch has fewer
        steps.
        """
        start, found = 0, {}
        for number, end in enumerate(self.epoch_ends):
            for k in range(1, per_epoch + 1):
                found[max(start + round((end - start) * k / per_epoch), start + 1)] = number + k / per_epoch
            start = end
        return found

    @property
    def n_tokens(self) -> int:
        """Tokens that go through the student in all."""
        return len(self.epochs) * sum(self.sizes)
