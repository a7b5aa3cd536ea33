"""Texts with the parts of them that are read but not scored, and where a place in one lies in another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import overload

from kdaudit.records import Record, Spans


@dataclass(frozen=True, slots=True)
class Script:
    """A text as stretches in turn: what is read only, and words that are scored."""

    text: str
    n_prompt: int = 0
    """Leading characters that are read only."""
    gaps: Spans = ()
    """Further stretches that are read only, rising."""

    @property
    def read_only(self) -> Spans:
        """The prompt, which may be empty, and the gaps."""
        return (0, self.n_prompt), *self.gaps

    @property
    def words(self) -> Spans:
        """The stretches that are scored: one behind each of those that are read only."""
        ends = (*(start for start, _ in self.gaps), len(self.text))
        return tuple((end, after) for (_, end), after in zip(self.read_only, ends, strict=True))

    def scored(self, cut: int) -> str:
        """All words within the first `cut` characters."""
        return "".join(self.text[start : min(end, cut)] for start, end in self.words)

    def spoken(self, others: Sequence[str]) -> Script:
        """The same words with others in the place of what is read only, in their order."""
        parts = [
            (other, self.text[start:end]) for other, (start, end) in zip(others, self.words, strict=False)
        ]  # there are more of them where words at the end were cut off
        return script_from(parts)

    def variants(self, cut: int, make: Callable[[str], Sequence[str]]) -> list[Script]:
        """The text up to `cut` with every stretch of words replaced by each of what `make` gives for it."""
        shown = [(read, words) for read, words in zip(self.read_only, self.words, strict=True) if words[0] < cut]
        shown = shown or [(self.read_only[0], self.words[0])]
        made = [make(self.text[start : max(start, min(end, cut))]) for _, (start, end) in shown]
        reads = [self.text[start:end] for (start, end), _ in shown]
        return [script_from(list(zip(reads, of_one, strict=True))) for of_one in zip(*made, strict=True)]

    def place_in(self, other: Script, place: int) -> int:
        """Where a place lies in another script with the same words; all of what is read only lies at its beginning."""
        if other is self:
            return place
        found = min(place, len(self.text))
        both = [pair for pair in zip(self.read_only, other.read_only, strict=True) if pair[0][0] <= found]
        (_, end), (start, after) = both[-1]
        return start if found < end else after + found - end


def script_from(parts: Sequence[tuple[str, str]]) -> Script:
    """What is read only and words, in turn, as a script."""
    ends = list(accumulate(len(read) + len(words) for read, words in parts))
    gaps = tuple((end, end + len(read)) for end, (read, _) in zip(ends, parts[1:], strict=False))
    return Script("".join(read + words for read, words in parts), len(parts[0][0]), gaps)


def script_of(record: Record, leads: Sequence[str]) -> Script:
    """A record without what a tokenizer puts before every text anyway: else it stands there twice.

    Args:
        record: with its text.
        leads: of every tokenizer that reads the text, as `lead_text` gives them.
    """
    text = without_lead(record.text, leads)
    n = len(record.text) - len(text)
    return Script(text, max(0, record.n_prompt - n), tuple((start - n, end - n) for start, end in record.gaps))


@dataclass(frozen=True, slots=True)
class Scripts(Sequence[Script]):
    """The scripts of records, each made when it is looked at."""

    records: Sequence[Record]
    leads: Sequence[str]
    """What each tokenizer that reads the texts puts before them, as `lead_text` gives it."""

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, place: int) -> Script: ...
    @overload
    def __getitem__(self, place: slice) -> list[Script]: ...
    def __getitem__(self, place: int | slice) -> Script | list[Script]:
        if isinstance(place, slice):
            return [script_of(record, self.leads) for record in self.records[place]]
        return script_of(self.records[place], self.leads)


def without_lead(text: str, leads: Sequence[str]) -> str:
    """A text without those of the leads that it begins with."""
    while found := next((lead for lead in leads if lead and text.startswith(lead)), ""):
        text = text[len(found) :]
    return text


TWICE = (
    "{n} texts begin with {lead}, which the tokenizer puts before every text anyway: it was taken off, so that it "
    "stands there once"
)
"""What is said where texts lost their lead."""
