"""Zlib: the log-likelihood of a text in relation to how much there is in it to know.

Source: Carlini et al. 2021, arXiv:2012.07805, section 5: the ratio of log-perplexity and zlib size.
"""

from __future__ import annotations

import zlib

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.loss import mean
from kdaudit.attacks.settings import Parameter
from kdaudit.options import Option
from kdaudit.views.view import PLAIN

COMPRESSION_LEVEL = 6  # zlib's default, which the authors' code uses


def score(sample: Sample, *, level: int = COMPRESSION_LEVEL) -> float:
    """Mean log-likelihood in nats per compressed byte of the text as scored; NaN for a text with no scored token."""
    n_compressed = len(zlib.compress(sample.text.encode(), level))  # at least 8: the format's own bytes
    return mean(sample.target[PLAIN].logprob) / n_compressed


ATTACK = Attack(
    "zlib",
    score,
    summary="mean log-likelihood per zlib-compressed byte of the text",
    source="Carlini et al. 2021, arXiv:2012.07805",
    parameters=(Parameter("level", COMPRESSION_LEVEL, Option("the level of the compression", least=1, most=9)),),
    idea="How likely the model finds the text, given how well the text can be compressed.",
)
