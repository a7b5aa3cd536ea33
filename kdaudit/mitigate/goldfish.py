"""Goldfish: some tokens are never a target, neither of the ground truth nor of the teacher."""

from kdaudit.mitigate.base import PANEL, Method, Strength
from kdaudit.options import Option

METHOD = Method(
    "goldfish",
    summary="drops one token in k from the loss, by a hash of the tokens before it",
    source="Hans et al. 2024, arXiv:2406.10209",
    strength=Strength(
        4,
        Option(
            "For the method goldfish: leave one token in this many out of the targets.",
            PANEL,
            key="method_goldfish",
            least=2,
        ),
    ),
    settings=lambda strength: {"goldfish": strength},
)
