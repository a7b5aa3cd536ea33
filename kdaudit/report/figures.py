"""The pictures of a report as files for a paper: each as SVG and as PDF, under a name that says what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kdaudit.report.blocks import Picture
from kdaudit.report.reading import Report
from kdaudit.results.mitigation import Mitigation

MAX_STEM = 80
"""Characters of a file's name before its suffix."""


def render_figures(subject: Report | Mitigation) -> dict[str, bytes]:
    """Every picture by the name of its file; the same subject gives the same bytes.

    Args:
        subject: an audit, several side by side, or a comparison of mitigations.
    """
    from kdaudit.report.charts.canvas import for_print, standing_alone  # matplotlib takes a second

    with for_print():
        drawn = [*_drawn(subject)]
    files: dict[str, bytes] = {}
    for words, picture in drawn:
        stem = _free(stem_of(words), files)
        files[f"{stem}.svg"] = standing_alone(picture.svg).encode()
        files[f"{stem}.pdf"] = picture.pdf
    return files


def stem_of(words: str) -> str:
    """The name of a file for words: small letters, digits and dashes; `min-k++` and `min-k` stay apart."""
    told = re.sub(r"[^a-z0-9.]+", "-", words.lower().replace("+", "-plus-").replace("×", "x")).strip("-.")
    return told[:MAX_STEM].strip("-.") or "picture"


def _free(stem: str, files: dict[str, bytes]) -> str:
    """The stem, with a number where another picture has it."""
    number, free = 1, stem
    while f"{free}.svg" in files:
        number += 1
        free = f"{stem}-{number}"
    return free


def _drawn(subject: Report | Mitigation) -> Iterator[tuple[str, Picture]]:
    """Every picture with what it shows, and of which run where there are several."""
    from kdaudit.report.charts.pictures import frontiers_of, pictures_of

    if isinstance(subject, Mitigation):
        yield from ((picture.title, picture) for picture in frontiers_of(subject))
        return
    compared, each = pictures_of(subject)
    yield from ((picture.title, picture) for picture in compared)
    for run, found in zip(subject.runs, each, strict=True):
        pictures: Sequence[Picture] = [*found.levels, *found.curves, *found.scores, *found.supervision]
        of = f"{run.name} " if len(subject.runs) > 1 else ""
        yield from ((f"{of}{picture.title}", picture) for picture in pictures)
