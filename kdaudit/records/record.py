"""One record."""

from __future__ import annotations

from dataclasses import dataclass

from kdaudit.records.forms import Chat
from kdaudit.records.turns import Spans


@dataclass(frozen=True, slots=True)
class Record:
    """One text of a set."""

    id: str
    """Its own id where the data has one, else a keyed hash of its text."""
    text: str
    line: int
    """Where it stands in its source, counted from 1."""
    n_prompt: int = 0
    """Characters of the text that are its prompt: read by a model, but neither learnt nor scored."""
    file: str = ""
    """The file in which it stands, where its set is in several."""
    form: str = "text"
    """What its source holds: text, prompt and completion, or chat."""
    chat: Chat | None = None
    """What a template made the text of."""
    gaps: Spans = ()
    """Further stretches of characters that are read, but neither learnt nor scored: what stands between answers."""

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.file}:{self.line}" if self.file else str(self.line)
