"""Soft only: the student never sees a record's own words as the ground truth, only what the teacher says of them."""

from kdaudit.mitigate.base import Method

METHOD = Method(
    "soft-only",
    summary="gives the ground truth no weight",
    source="Hinton et al. 2015, arXiv:1503.02531",
    settings=lambda _: {"hard_weight": 0.0},
)
