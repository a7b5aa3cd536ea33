"""Sequences that a model writes itself: the student's own (on-policy) and the teacher's (sequence-level)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kdaudit.artefacts import replacing
from kdaudit.foreign import check_regular
from kdaudit.targets.plan import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROMPT_SHARE = 0.25  # of a plain text, which has no prompt of its own


def prompt_of(example: Example, n_lead: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """What a model is given to go on from: the record's own prompt, else the first quarter of its text.

    An encoder reads the prompt by itself: its decoder goes on from what stands before every completion.
    """
    if example.source.size:
        return example.ids[:n_lead]
    has_own = example.n_given > n_lead
    n_text = int(example.ids.size) - n_lead
    n_kept = example.n_given if has_own else n_lead + max(1, int(n_text * PROMPT_SHARE))
    return example.ids[:n_kept]


def continue_all(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    n_lead: int,
    end: int | None,
    seed: int,
    vocabulary: int | None = None,
) -> list[Example]:
    """New examples: the prompt of each, and what the model writes after it, at most as long as the record was.

    Sampled at temperature 1 from all words that teacher and student know. The same seed gives the same words, whatever
    was drawn before; the global random state is left alone.

    Args:
        model: a causal LM, or an encoder-decoder.
        examples: one batch.
        n_lead: tokens that stand before every text, or before all that a decoder writes.
        end: the end-of-text token, kept as the last one; None where there is none.
        seed: of the draws.
        vocabulary: words that both models know, where they know different numbers: the other one could not read more.
    """
    prompts = [prompt_of(example, n_lead) for example in examples]
    room = [int(example.ids.size) - prompt.size for example, prompt in zip(examples, prompts, strict=True)]
    width = max(prompt.size for prompt in prompts)
    n_new = max(1, *room)
    found = _sample(model, _given(examples, prompts), n_new=n_new, end=end, seed=seed, vocabulary=vocabulary)
    written = found[:, width:].cpu().numpy()
    return [
        Example(
            np.concatenate([prompt, _until_end(new[:most], end)]).astype(np.int32),
            example.n_given if example.source.size else int(prompt.size),
            example.source,
        )
        for example, prompt, new, most in zip(examples, prompts, written, room, strict=True)
    ]


def write_all(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    n_lead: int,
    end: int | None,
    seed: int,
    batch_tokens: int,
    vocabulary: int | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Example]:
    """`continue_all` for any number of examples, in batches of like length, in their order.

    Args:
        model: a causal LM, or an encoder-decoder.
        examples: all of them.
        n_lead: as for `continue_all`.
        end: the end-of-text token.
        seed: of the draws; each batch has its own.
        batch_tokens: tokens of a batch at most.
        vocabulary: words that both models know, where they know different numbers.
        on_done: told how many examples are finished.
    """
    order = sorted(range(len(examples)), key=lambda i: (-examples[i].size, i))
    found: dict[int, Example] = {}
    while len(found) < len(order):
        start = len(found)
        size = max(1, batch_tokens // examples[order[start]].size)
        chosen = order[start : start + size]
        written = continue_all(
            model, [examples[i] for i in chosen], n_lead=n_lead, end=end, seed=seed + start, vocabulary=vocabulary
        )
        found.update(zip(chosen, written, strict=True))
        on_done(len(found))
    return [found[i] for i in range(len(examples))]


def _given(
    examples: Sequence[Example], prompts: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.int32]]]
) -> dict[str, torch.Tensor]:
    """What a model goes on from, padded on the left, where the end of a prompt meets what is written.

    An encoder reads its texts as in training, padded on the right; its decoders start alike.
    """
    if not examples[0].source.size:
        ids, mask = _padded(prompts, on_left=True)
        return {"input_ids": ids, "attention_mask": mask}
    ids, mask = _padded([example.source for example in examples], on_left=False)
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": _padded(prompts, on_left=True)[0]}


def _padded(
    rows: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.int32]]], *, on_left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of B sequences as (B, S), with a mask of the same shape that is 0 on the padding."""
    width = max(row.size for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for line, row in enumerate(rows):
        place = slice(width - row.size, width) if on_left else slice(0, row.size)
        ids[line, place] = torch.from_numpy(row.astype(np.int64))
        mask[line, place] = 1
    return ids, mask


def _sample(
    model: PreTrainedModel,
    given: dict[str, torch.Tensor],
    *,
    n_new: int,
    end: int | None,
    seed: int,
    vocabulary: int | None,
) -> torch.Tensor:
    from transformers import GenerationConfig

    started = given.get("decoder_input_ids")
    settings = GenerationConfig(
        decoder_start_token_id=None if started is None else int(started[0, 0]), do_sample=True, temperature=1.0,
        top_k=0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=n_new, eos_token_id=end,
        pad_token_id=end if end is not None else 0, use_cache=True, suppress_tokens=_beyond(model, vocabulary) or None,
    )  # fmt: skip
    was_training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    generator: Any = model  # its stubs give `generate` the type of a weight
    own, generator.generation_config = generator.generation_config, GenerationConfig()  # else it fills in what is unset
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        written: torch.Tensor = generator.generate(
            **{name: table.to(model.device) for name, table in given.items()}, generation_config=settings
        )
    generator.generation_config = own
    model.train(was_training)
    return written


def _beyond(model: PreTrainedModel, vocabulary: int | None) -> list[int]:
    return [] if vocabulary is None else list(range(vocabulary, int(model.config.get_text_config().vocab_size)))


def _until_end(
    new: np.ndarray[tuple[int, ...], np.dtype[np.int64]], end: int | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """What was written up to and including the first end-of-text token; after it there is only padding."""
    ends = np.flatnonzero(new == end) if end is not None else np.zeros(0, dtype=np.int64)
    return new[: int(ends[0]) + 1] if ends.size else new


def teacher_sequences(
    load: Callable[[], AbstractContextManager[PreTrainedModel]],
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
    """One sequence of the teacher's for every example: the student learns from what it writes after the prompts.

    The sequences are kept in `path`, so that a continued run learns from the same.

    Source: Kim and Rush 2016, arXiv:1606.07947, with samples in the place of the teacher's best guess.

    Args:
        load: gives the teacher, which writes; called only where there is no file yet.
        examples: give the prompts and the lengths.
        path: token ids of an earlier, unfinished run, or where they are to lie; no text stands in it.
        n_lead: as for `continue_all`.
        end: the end-of-text token.
        seed: of the draws.
        batch_tokens: tokens of a batch at most.
        vocabulary: words that both models know, where they know different numbers.
        on_done: told how many sequences are finished.
    """
    found = _read(path, examples)
    if found is None:
        with load() as teacher:
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


def _read(path: Path, examples: Sequence[Example]) -> list[Example] | None:
    try:
        check_regular(path)
        arrays = load_file(path)
        ids, size, n_given = (arrays[name] for name in ("ids", "size", "n_given"))
    except (OSError, SafetensorError, KeyError):
        return None
    is_whole = size.shape == n_given.shape == (len(examples),) and size.min() >= 0 and ids.shape == (size.sum(),)
    if not (is_whole and size.dtype == n_given.dtype == ids.dtype == np.int32 and ids.min(initial=0) >= 0):
        return None
    ends = np.cumsum(size)
    return [
        Example(ids[end - length : end], int(given), example.source)
        for end, length, given, example in zip(ends, size, n_given, examples, strict=True)
    ]
