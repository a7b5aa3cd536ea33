"""How the texts of a tokenizer are shown to each kind of model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kdaudit.errors import CheckpointError, RecordsError
from kdaudit.records import Record
from kdaudit.targets.causal import causal_frame
from kdaudit.targets.hiding import Hiding
from kdaudit.targets.masked import Masking, masked_frame
from kdaudit.targets.plan import Frame
from kdaudit.targets.seq2seq import pair_frame
from kdaudit.targets.spans import span_frame


def hides_words(kind: str, *, has_prompts: bool) -> bool:
    """Whether words are hidden from a kind of model: from masked ones, and from encoders that read no prompts."""
    return kind == "masked" or (kind == "seq2seq" and not has_prompts)


def check_answers(kind: str, records: Iterable[Record]) -> None:
    """Refuse several answers in one chat for an encoder-decoder, whose decoder writes one.

    Raises:
        RecordsError: a chat holds more than one.
    """
    if kind == "seq2seq" and any(record.gaps for record in records):
        raise RecordsError(
            "in some chats the assistant answers more than once, and an encoder-decoder writes one answer",
            hint="give --score last: the encoder reads all that stands before the last answer",
        )


def frame_of(
    kind: str,
    tokenizer: Any,
    masking: Masking | None = None,
    *,
    hiding: Hiding | None = None,
    decoder_start: int | None = None,
    model_type: str = "",
    has_prompts: bool = False,
) -> Frame:
    """How models of a kind are shown the texts of a tokenizer, without a prefix.

    Args:
        kind: causal, masked or seq2seq.
        tokenizer: a fast Hugging Face tokenizer.
        masking: what a masked model is not shown, and which spans of a text without a prompt an encoder; None: the
            default plan.
        hiding: what is hidden in every epoch where such texts are learnt; None: texts are only scored.
        decoder_start: the token that the configuration of an encoder-decoder starts its decoder with, or None.
        model_type: of an encoder-decoder, as transformers names it.
        has_prompts: whether the records are prompts with completions.

    Raises:
        CheckpointError: nothing says what a decoder starts with, or the tokenizer lacks what the models need.
        RecordsError: texts without prompts for an encoder-decoder that cannot read them.
    """
    if kind == "causal":
        return causal_frame(tokenizer)
    if kind == "masked":
        return masked_frame(tokenizer, masking or Masking(), hiding)
    try:
        pairs = pair_frame(tokenizer, decoder_start, model_type)
    except ValueError as error:
        raise CheckpointError(
            f"an encoder-decoder of type {model_type} cannot be scored: {error}",
            hint="add decoder_start_token_id to its config.json, as it was trained",
        ) from error
    if has_prompts:
        return pairs
    spans = span_frame(tokenizer, pairs, masking or Masking(), hiding)
    if spans is None:
        raise RecordsError(
            f"an encoder-decoder of type {model_type} reads a prompt and writes a completion, and the records are "
            "texts without prompts; its tokenizer has no sentinels (<extra_id_0>), by which T5 marks gaps in a text",
            hint="give records with the fields prompt and completion",
        )
    return spans
