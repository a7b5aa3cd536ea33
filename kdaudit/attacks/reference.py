"""Reference: how much likelier the target finds a text than a model that never saw it.

Source: Carlini et al. 2021, arXiv:2012.07805 (ratio to another model); Fu et al. 2023, arXiv:2311.06062 (difference to
a reference). Differs from both across tokenizers: bits per byte are compared, over the bytes that both models scored.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.loss import mean
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN


def token_gains(sample: Sample) -> NDArray[np.float64]:
    """D_t, the target's minus the reference's log-likelihood of each token: (T,), nats.

    Raises:
        ValueError: there is no reference, or its tokens are not the target's: the audit asked where it must not.
    """
    target, reference = sample.target[PLAIN], _reference(sample)
    if not sample.is_same_tokenizer or target.logprob.shape != reference.logprob.shape:
        raise ValueError("token-wise comparison of different tokens")
    # Widened first: sums of float32 numbers are then exact, so that opposite gains cancel to 0.
    return target.logprob.astype(np.float64) - reference.logprob


def score(sample: Sample) -> float:
    """Mean gain over the reference in nats per token, or in bits per byte where the tokenizers differ.

    NaN where no token is scored, or where the two tokenizers have no stretch of bytes in common.
    """
    if sample.is_same_tokenizer:
        return mean(token_gains(sample))
    target, reference = sample.target[PLAIN], _reference(sample)
    span = _common_span(target, reference)
    if span is None:
        return math.nan
    return _bits_per_byte(reference, *span) - _bits_per_byte(target, *span)


def _reference(sample: Sample) -> TokenSignals:
    if sample.reference is None:
        raise ValueError("no reference signals")
    return sample.reference


def _boundaries(tokens: TokenSignals) -> NDArray[np.int32]:
    """Byte offsets at which a scored token starts or ends: (T + 1,), non-decreasing."""
    return np.concatenate(([tokens.byte_start], tokens.byte_end), dtype=np.int32)


def _common_span(target: TokenSignals, reference: TokenSignals) -> tuple[int, int] | None:
    """First and last byte offset that is a token boundary of both models; None where they enclose no byte."""
    own, other = _boundaries(target), _boundaries(reference)
    common = own[other.take(np.searchsorted(other, own), mode="clip") == own]
    if common.size == 0 or common[0] == common[-1]:
        return None
    return int(common[0]), int(common[-1])


def _bits_per_byte(tokens: TokenSignals, start: int, end: int) -> float:
    """Code length of the bytes from `start` to `end`, both token boundaries; NaN where a likelihood is not finite."""
    # The tokens of a split character share its end: a boundary lies after the last of them.
    first, stop = np.searchsorted(tokens.byte_end, (start, end), side="right")
    nats = -float(tokens.logprob[first:stop].sum(dtype=np.float64))
    return nats / (math.log(2) * (end - start)) if math.isfinite(nats) else math.nan


ATTACK = Attack(
    "reference",
    score,
    summary="mean log-likelihood minus the reference model's",
    source="Carlini et al. 2021, arXiv:2012.07805; Fu et al. 2023, arXiv:2311.06062",
    idea="How much likelier the model finds the text than a reference does that never saw it.",
    needs_reference=True,
)
