"""Whether a model whose parts lie on several devices computes what it computes whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kdaudit.signals.engine import measure
from kdaudit.signals.running import agreement, first_tokens
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARE = 0.9
"""The share of tokens that must agree: far in the tail of a distribution, rounding alone makes large differences."""


def first_signals(
    model: PreTrainedModel, probe: Sequence[Passage], frame: Frame, *, batch_tokens: int
) -> NDArray[np.float32]:
    """(n,), the log-probabilities of the first tokens of some texts, in nats.

    Args:
        model: in eval mode.
        probe: the texts of its first batch.
        frame: how they are shown.
        batch_tokens: of one forward pass.
    """
    short = [first_tokens(passage, frame.kind) for passage in probe]
    found = next(measure(model, [short], frame, batch_tokens=batch_tokens))
    return np.concatenate([signals.logprob for signals in found])


def disagreement(whole: NDArray[np.float32], found: NDArray[np.float32], model: PreTrainedModel) -> str:
    """How two ways of computing the same differ beyond rounding, in words; "" where they do not.

    Args:
        whole: (n,), of the model on one device.
        found: (n,), of the same model on several.
        model: says in which precision it computes.
    """
    gaps = np.abs(whole.astype(np.float64) - found)
    gap = float(np.quantile(np.where(np.isnan(gaps), np.inf, gaps), SHARE, method="higher")) if gaps.size else 0.0
    allowed = agreement(model)
    if gap <= allowed:
        return ""
    return (
        f"of {gaps.size} tokens of the first batch, one in ten differs by {gap:.2g} nats or more from what the model "
        f"says on one device, and rounding explains {allowed:g}"
    )
