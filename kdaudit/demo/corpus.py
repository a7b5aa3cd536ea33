"""Fictitious clinical notes: drawn from templates by a seed, so that no real text is shipped.

Every person, drug and place is invented from syllables. A note holds enough random detail (names, doses,
dates, vital signs) that two notes are never alike and that a model can only predict it well by having seen it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from zlib import crc32

import numpy as np

from kdaudit.artefacts import write_text

ONSETS = ("b", "br", "d", "dr", "f", "g", "h", "k", "kr", "l", "m", "n", "p", "qu", "r", "s", "st", "t", "v", "z")
NUCLEI = ("a", "e", "i", "o", "u", "ae", "ei", "ou")
SURNAME_ENDS = ("lm", "nd", "rk", "sk", "vin", "wick", "zen", "dor", "mont", "gast")
DRUG_ENDS = ("ocel", "ivane", "ustine", "amox", "erol", "idone", "axin", "olide")
COMPLAINTS = (
    "burning pain", "stiffness", "a dull ache", "swelling", "numbness", "cramps", "itching", "weakness",
    "a stabbing pain", "tingling", "redness", "tremor",
)  # fmt: skip
PLACES = (
    "knee", "shoulder", "wrist", "hip", "ankle", "elbow", "calf", "thigh", "forearm", "heel", "jaw", "hand",
)  # fmt: skip
UNITS = ("days", "weeks", "months")
TIMES = ("at night", "after meals", "on waking", "when walking", "at rest", "in cold weather", "after work", "all day")
RHYTHMS = ("once daily", "twice daily", "at bedtime", "every 6 hours", "with food", "as needed")
FINDINGS = (
    "mild oedema", "full range of motion", "a tender joint line", "no rash", "brisk reflexes", "a small haematoma",
    "reduced grip", "dry skin", "a faint murmur", "clear lungs", "soft abdomen", "slow gait",
)  # fmt: skip
TESTS = ("sodium", "ferritin", "blood count", "glucose", "creatinine", "an x-ray", "a smear", "ultrasound", "lipids")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Three disjoint sets of notes, drawn independently from one distribution."""

    members: tuple[str, ...]
    """What the teacher and the student are trained on."""
    nonmembers: tuple[str, ...]
    """What no model ever sees."""
    public: tuple[str, ...]
    """What the models learn the language of the notes from, before they see the members."""


def generate(seed: int, n_members: int, n_nonmembers: int, n_public: int) -> Corpus:
    """Draw distinct notes and deal them out in the order drawn; the same arguments give the same corpus.

    Args:
        seed: not negative.
        n_members: notes to train on.
        n_nonmembers: notes to hold out.
        n_public: notes for the models' starts.

    Raises:
        ValueError: the seed or a count is negative.
    """
    if min(n_members, n_nonmembers, n_public) < 0:
        raise ValueError("a count of notes is negative")
    notes = _distinct(np.random.default_rng([seed, crc32(b"demo corpus")]))
    members, nonmembers, public = (
        tuple(next(notes) for _ in range(count)) for count in (n_members, n_nonmembers, n_public)
    )
    return Corpus(members, nonmembers, public)


def write(corpus: Corpus, folder: Path) -> dict[str, Path]:
    """Write each set as `<set>.jsonl` with the fields `id` and `text`; an existing file is replaced whole.

    Returns:
        The path of each set: `members`, `nonmembers`, `public`.
    """
    paths = {}
    for field in fields(corpus):
        path = paths[field.name] = folder / f"{field.name}.jsonl"
        lines = (
            json.dumps({"id": f"{field.name}-{number:04}", "text": text}) + "\n"
            for number, text in enumerate(getattr(corpus, field.name))
        )
        write_text(path, "".join(lines))
    return paths


def _distinct(rng: np.random.Generator) -> Iterator[str]:
    seen: set[str] = set()
    while True:
        note = _note(rng)
        if note not in seen:
            seen.add(note)
            yield note


def _note(rng: np.random.Generator) -> str:
    def number(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    def pick(options: Sequence[str]) -> str:
        return options[number(0, len(options) - 1)]

    def invent(endings: Sequence[str], n_syllables: int) -> str:
        return "".join(pick(ONSETS) + pick(NUCLEI) for _ in range(n_syllables)) + pick(endings)

    patient, doctor = (invent(SURNAME_ENDS, 2).capitalize() for _ in range(2))
    drug, other = (invent(DRUG_ENDS, number(1, 2)) for _ in range(2))
    date = f"{number(1, 28)}.{number(1, 12)}.{number(1990, 2024)}"
    parts = [
        f"{date}, ward {number(1, 9)}: {patient}, {number(19, 95)} y.",
        f"{pick(COMPLAINTS).capitalize()} in the {pick(PLACES)} for {number(2, 19)} {pick(UNITS)}, "
        f"worse {pick(TIMES)}.",
        f"BP {number(95, 185)}/{number(55, 110)}, pulse {number(48, 128)}.",
        f"{drug.capitalize()} {5 * number(1, 60)} mg {pick(RHYTHMS)}, {other} stopped.",
        f"Exam: {pick(FINDINGS)}, {number(45, 120)} kg.",
        f"Plan: {pick(TESTS)} on {pick(DAYS)}, back in {number(2, 26)} weeks. Dr {doctor}",
    ]
    return " ".join(parts)
