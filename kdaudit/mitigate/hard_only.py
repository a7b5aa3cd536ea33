"""Hard only: the student never sees what its teacher says, only each record's own words.

Not a mitigation by itself but the other end of the mixture: what the plain run exposes more than this one, teacher and
ground truth expose together.
"""

from kdaudit.mitigate.base import Method

METHOD = Method(
    "hard-only",
    summary="gives the ground truth all the weight",
    source="Hinton et al. 2015, arXiv:1503.02531",
    settings=lambda _: {"hard_weight": 1.0},
)
