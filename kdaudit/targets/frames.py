"""How the texts of a tokenizer are shown to each kind of model."""

from __future__ import annotations

from typing import Any

from kdaudit.errors import CheckpointError, RecordsError
from kdaudit.models.kinds import WORDS
from kdaudit.targets.causal import causal_frame
from kdaudit.targets.plan import Frame
from kdaudit.targets.seq2seq import pair_frame


def frame_of(
    kind: str, tokenizer: Any, *, decoder_start: int | None = None, model_type: str = "", has_prompts: bool = False
) -> Frame:
    """How models of a kind are shown the texts of a tokenizer, without a prefix.

    Args:
        kind: causal, masked or seq2seq.
        tokenizer: a fast Hugging Face tokenizer.
        decoder_start: the token that the configuration of an encoder-decoder starts its decoder with, or None.
        model_type: of an encoder-decoder, as transformers names it.
        has_prompts: whether the records are prompts with completions.

    Raises:
        CheckpointError: models of this kind cannot be scored yet, or nothing says what a decoder starts with.
        RecordsError: plain texts for an encoder-decoder that cannot read them.
    """
    if kind == "causal":
        return causal_frame(tokenizer)
    if kind == "seq2seq":
        try:
            pairs = pair_frame(tokenizer, decoder_start, model_type)
        except ValueError as error:
            raise CheckpointError(
                f"an encoder-decoder of type {model_type} cannot be scored: {error}",
                hint="add decoder_start_token_id to its config.json, as it was trained",
            ) from error
        if not has_prompts:
            raise RecordsError(
                f"an encoder-decoder of type {model_type} reads a prompt and writes a completion, and the records are "
                "texts without prompts",
                hint="give records with the fields prompt and completion",
            )
        return pairs
    raise CheckpointError(
        f"the checkpoints hold {WORDS[kind]}, which cannot be scored yet",
        hint="audit causal language models; --as causal reads an encoder with a causal head as one",
    )
