"""Records: the texts whose membership is asked about, read from files and data sets."""

from kdaudit.records.reading import IN_MEMORY, Read, Render, collect, read
from kdaudit.records.sets import Record, RecordSet, check_alike, check_disjoint, draw_shots, sample

__all__ = [
    "IN_MEMORY",
    "Read",
    "Record",
    "RecordSet",
    "Render",
    "check_alike",
    "check_disjoint",
    "collect",
    "draw_shots",
    "read",
    "sample",
]
