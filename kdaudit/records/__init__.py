"""Records: the texts whose membership is asked about, read from files and data sets."""

from kdaudit.records.files import is_there
from kdaudit.records.forms import Chat
from kdaudit.records.reading import IN_MEMORY, Read, collect, read, read_both
from kdaudit.records.record import Record
from kdaudit.records.sets import RecordSet, check_alike, check_disjoint, draw_shots, notes_on, sample
from kdaudit.records.store import Records, chosen, column, held, texts_of
from kdaudit.records.turns import Render, Spans

__all__ = [
    "IN_MEMORY",
    "Chat",
    "Read",
    "Record",
    "RecordSet",
    "Records",
    "Render",
    "Spans",
    "check_alike",
    "check_disjoint",
    "chosen",
    "collect",
    "column",
    "draw_shots",
    "held",
    "is_there",
    "notes_on",
    "read",
    "read_both",
    "sample",
    "texts_of",
]
