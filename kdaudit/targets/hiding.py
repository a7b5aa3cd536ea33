"""What is hidden of a text to learn from: other words in every epoch, drawn by the seed, the epoch and the text.

Source: Liu et al. 2019 (RoBERTa), arXiv:1907.11692, section 4.1, for masks that change; Devlin et al. 2019 (BERT),
arXiv:1810.04805, section 3.1, for the share; whole words as in BERT's later checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdaudit.draws import generator
from kdaudit.targets.plan import Example

SHARE = 0.15
"""The share of a text that one mask hides."""


@dataclass(frozen=True, slots=True)
class Hiding:
    """How the places that are hidden in an epoch are drawn."""

    seed: int = 0
    whole_words: bool = False
    """Words are drawn, and all tokens of a drawn word are hidden; else single tokens are drawn."""


def hidden_places(example: Example, hiding: Hiding, epoch: int) -> tuple[NDArray[np.intp], np.random.Generator]:
    """The places of an example that are hidden in an epoch, rising, and the draws of the same text that follow.

    The share is exact up to rounding, and at least one token or word is hidden: every text teaches in every epoch.

    Args:
        example: to learn from; what belongs to no word is never hidden.
        hiding: what is drawn, by which seed.
        epoch: counted from 0.
    """
    rng = generator(hiding.seed, f"hidden {epoch} {example.key}")
    words = np.full(example.ids.size, -1) if example.words is None else example.words
    places = np.flatnonzero(words >= 0)
    units = words[places] if hiding.whole_words else np.arange(places.size)
    n_units = int(units.max(initial=-1)) + 1
    n_hidden = min(n_units, max(1, round(SHARE * n_units)))
    drawn = rng.choice(n_units, size=n_hidden, replace=False) if n_units else np.zeros(0, dtype=np.intp)
    return places[np.isin(units, drawn)], rng
