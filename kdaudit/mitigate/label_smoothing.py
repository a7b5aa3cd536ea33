"""Label smoothing: part of the ground truth is spread evenly over all words."""

from kdaudit.mitigate.base import Method

METHOD = Method(
    "label-smoothing",
    summary="spreads part of the ground truth over all words",
    source="Szegedy et al. 2016, arXiv:1512.00567",
    settings=lambda strength: {"label_smoothing": strength.label_smoothing},
)
