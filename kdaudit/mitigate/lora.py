"""LoRA: only a low-rank adapter of the student's start is trained."""

from kdaudit.mitigate.base import PANEL, Method, Strength
from kdaudit.options import Option

METHOD = Method(
    "lora",
    summary="trains a low-rank adapter instead of all weights",
    source="Hu et al. 2021, arXiv:2106.09685",
    strength=Strength(8, Option("For the method lora: the rank of the adapter.", PANEL, key="method_lora", least=1)),
    settings=lambda strength: {"lora": strength},
)
