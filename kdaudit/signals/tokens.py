"""What a model says of a text: numbers per token, without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenSignals:
    """Per-token signals of one text; the float arrays have shape (T,), float32, in nats.

    T counts the tokens that the text's target plan scores, in the order of the text. A text with nothing to score
    has T = 0.
    """

    logprob: NDArray[np.float32]
    """log p(x_t | context), where the context is what the target plan shows: the tokens before t, in a causal model."""

    logprob_mean: NDArray[np.float32]
    """Mean of log p(v | context) over the vocabulary under p: minus the entropy at t."""

    logprob_std: NDArray[np.float32]
    """Standard deviation of log p(v | context) under p; 0 where p is one-hot or uniform."""

    logprob_top: NDArray[np.float32]
    """max over v of log p(v | context); equal to `logprob` where the text's token is the top choice."""

    byte_end: NDArray[np.int32]
    """(T,): UTF-8 bytes of the text up to and including token t; tokens that split a character share its end."""

    byte_start: int
    """UTF-8 bytes of the text before the first scored token (0 where a BOS precedes it)."""

    n_skipped: int = 0
    """UTF-8 bytes between the first and the last scored token that no scored token spells."""

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes that the scored tokens spell."""
        return int(self.byte_end[-1]) - self.byte_start - self.n_skipped if self.byte_end.size else 0
