"""Records: the texts whose membership is asked about, read from files and data sets."""

from kdaudit.records.files import is_there
from kdaudit.records.forms import Chat
from kdaudit.records.reading import IN_MEMORY, Read, collect, read, read_both
from kdaudit.records.sets import Record, RecordSet, check_alike, check_disjoint, draw_shots, notes_on, sample
from kdaudit.records.turns import Render, Spans

__all__ = [
    "IN_MEMORY",
    "Chat",
    "Read",
    "Record",
    "RecordSet",
    "Render",
    "Spans",
    "check_alike",
    "check_disjoint",
    "collect",
    "draw_shots",
    "is_there",
    "notes_on",
    "read",
    "read_both",
    "sample",
]
