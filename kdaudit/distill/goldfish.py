"""Goldfish loss: some tokens are never learnt, so that no text can be recited whole.

Which ones depends on the tokens before alone: where the same passage comes again, the same token is left out.

Source: Hans et al. 2024, arXiv:2406.10209, section 3, with another hash.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

CONTEXT = 13
"""Tokens that are hashed, as in the paper."""


def is_dropped(ids: NDArray[np.int32], k: int, *, context: int = CONTEXT) -> NDArray[np.bool_]:
    """Which tokens are not learnt: those before which the hash of the last tokens is a multiple of k.

    Args:
        ids: (T,), token ids, at least 0.
        k: about one token in k is dropped; at least 2.
        context: tokens that are hashed, at least 1; a token with fewer before it is kept.

    Returns:
        (T,), the same for equal contexts, on every machine.

    Raises:
        ValueError: k or context is too small.
    """
    if k < 2 or context < 1:
        raise ValueError(f"k is {k} and context {context}, at least 2 and 1 are needed")
    dropped = np.zeros(ids.size, dtype=np.bool_)
    if ids.size > context:
        hashed = np.zeros(ids.size - context, dtype=np.uint64)
        for column in sliding_window_view(ids[:-1].astype(np.uint64), context).T:
            hashed = _mixed(hashed ^ column)
        dropped[context:] = hashed % np.uint64(k) == 0
    return dropped


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of SplitMix64. Source: Steele et al. 2014, doi:10.1145/2660193.2660195."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
