"""Early stop: the plain run after each of its epochs, the frontier that every other method must beat."""

from kdaudit.mitigate.base import Method

METHOD = Method(
    "early-stop",
    summary="stops the plain run after an earlier epoch: the frontier that the others must beat",
    source="Yeom et al. 2018, arXiv:1709.01604",
)
