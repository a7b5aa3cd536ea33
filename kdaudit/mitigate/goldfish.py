"""Goldfish: some tokens are never a target, neither of the ground truth nor of the teacher."""

from kdaudit.mitigate.base import Method

METHOD = Method(
    "goldfish",
    summary="drops one token in k from the loss, by a hash of the tokens before it",
    source="Hans et al. 2024, arXiv:2406.10209",
    settings=lambda strength: {"goldfish": strength.goldfish},
)
