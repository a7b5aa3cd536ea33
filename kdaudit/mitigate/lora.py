"""LoRA: only a low-rank adapter of the student's start is trained."""

from kdaudit.mitigate.base import Method

METHOD = Method(
    "lora",
    summary="trains a low-rank adapter instead of all weights",
    source="Hu et al. 2021, arXiv:2106.09685",
    settings=lambda strength: {"lora": strength.lora},
)
