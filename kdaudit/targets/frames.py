"""How the texts of a tokenizer are shown to each kind of model."""

from __future__ import annotations

from typing import Any

from kdaudit.errors import CheckpointError
from kdaudit.models.kinds import WORDS
from kdaudit.targets.causal import causal_frame
from kdaudit.targets.masked import Masking, masked_frame
from kdaudit.targets.plan import Frame


def frame_of(kind: str, tokenizer: Any, masking: Masking | None = None) -> Frame:
    """How models of a kind are shown the texts of a tokenizer, without a prefix.

    Args:
        kind: causal, masked or seq2seq.
        tokenizer: a fast Hugging Face tokenizer.
        masking: what a masked model is not shown; None: the default plan.

    Raises:
        CheckpointError: models of this kind cannot be scored yet, or the tokenizer lacks what they need.
    """
    if kind == "causal":
        return causal_frame(tokenizer)
    if kind == "masked":
        return masked_frame(tokenizer, masking or Masking())
    raise CheckpointError(
        f"the checkpoints hold {WORDS[kind]}, which cannot be scored yet",
        hint="audit causal or masked language models",
    )
