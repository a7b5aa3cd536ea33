"""The ways in which a text is put in front of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class View:
    """How a record is put in front of a model; an attack's file defines those that it needs.

    Every text of a view costs one forward pass for each record.
    """

    name: str
    """Tells this view from every other one."""

    variants: Callable[[str, np.random.Generator], Sequence[str]] | None = None
    """Gives `n_variants` texts to show in place of a record's scored text; None shows the text itself.

    A pure function of both: the random numbers are drawn by the run's seed, the view's name and the text, so that
    every model of the audit and every continued run is shown the same texts. A prompt stands before each of them.
    """

    n_variants: int = 1

    is_prefixed: bool = False
    """Whether the shots (non-member texts joined by a newline) stand before the text, read but not scored."""

    version: int = 1
    """Raised whenever a change moves a variant; part of the key under which signals are kept."""


PLAIN = View("plain")
"""The text alone."""
