"""Sequence-level distillation: the student learns from what its teacher writes after the records' prompts.

Source: Kim and Rush 2016, arXiv:1606.07947, with samples in the place of the teacher's best guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kdaudit.artefacts import replacing
from kdaudit.distill.generation import write_all
from kdaudit.foreign import check_regular
from kdaudit.targets.plan import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def teacher_sequences(
    teacher: PreTrainedModel,
    examples: Sequence[Example],
    path: Path,
    *,
    n_lead: int,
    end: int | None,
    seed: int,
    batch_tokens: int,
    vocabulary: int | None = None,
    on_done: Callable[[int], None],
) -> tuple[Example, ...]:
    """One sequence of the teacher's for every example; kept in `path`, so that a continued run learns from the same.

    Args:
        teacher: writes.
        examples: give the prompts and the lengths.
        path: token ids of an earlier, unfinished run, or where they are to lie; no text stands in it.
        n_lead: tokens that the tokenizer puts before every text.
        end: the end-of-text token.
        seed: of the draws.
        batch_tokens: tokens of a batch at most.
        vocabulary: words that both models know, where they know different numbers.
        on_done: told how many sequences are finished.
    """
    found = _read(path, len(examples))
    if found is None:
        found = write_all(
            teacher, examples, n_lead=n_lead, end=end, seed=seed, batch_tokens=batch_tokens, vocabulary=vocabulary,
            on_done=on_done,
        )  # fmt: skip
        with replacing(path) as waiting:
            save_file(
                {
                    "ids": np.concatenate([one.ids for one in found]),
                    "size": np.array([one.ids.size for one in found], dtype=np.int32),
                    "n_given": np.array([one.n_given for one in found], dtype=np.int32),
                },
                waiting,
            )
    return tuple(found)


def _read(path: Path, n: int) -> list[Example] | None:
    try:
        check_regular(path)
        arrays = load_file(path)
        ids, size, n_given = (arrays[name] for name in ("ids", "size", "n_given"))
    except (OSError, SafetensorError, KeyError):
        return None
    is_whole = size.shape == n_given.shape == (n,) and size.min() >= 0 and ids.shape == (size.sum(),)
    if not (is_whole and size.dtype == n_given.dtype == ids.dtype == np.int32 and ids.min(initial=0) >= 0):
        return None
    ends = np.cumsum(size)
    return [
        Example(ids[end - length : end], int(given)) for end, length, given in zip(ends, size, n_given, strict=True)
    ]
