"""Label smoothing: part of the ground truth is spread evenly over all words."""

from kdaudit.mitigate.base import PANEL, Method, Strength
from kdaudit.options import Option

METHOD = Method(
    "label-smoothing",
    summary="spreads part of the ground truth over all words",
    source="Szegedy et al. 2016, arXiv:1512.00567",
    strength=Strength(
        0.1,
        Option(
            "For the method label-smoothing: the share that is spread over all words.",
            PANEL,
            key="method_label_smoothing",
            above=0,
            below=1,
        ),
    ),
    settings=lambda strength: {"label_smoothing": strength},
)
