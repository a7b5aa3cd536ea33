"""Reverse KL: the student is drawn to where its teacher is sure and need not cover the rest."""

from kdaudit.mitigate.base import Method

METHOD = Method(
    "reverse-kl",
    summary="takes KL(student || teacher) as the objective",
    source="Gu et al. 2024, arXiv:2306.08543",
    settings=lambda _: {"objective": "reverse-kl", "beta": None},
)
