"""The audit's section in a model card: one fenced part of an existing README.md, everything else byte for byte."""

from __future__ import annotations

import codecs
import re
import shutil
from pathlib import Path

from kdaudit.artefacts import replacing
from kdaudit.errors import ConfigError
from kdaudit.foreign import read_bytes
from kdaudit.metrics import METRICS
from kdaudit.report import checks, tables
from kdaudit.report.blocks import Block, Detail, Notes, Paragraph, Section, shown
from kdaudit.report.headline import strongest_notes
from kdaudit.report.render import section_to_markdown
from kdaudit.report.runs import Report

BEGIN, END = "<!-- kdaudit:begin -->", "<!-- kdaudit:end -->"
"""Each on a line of its own; what stands between is rewritten."""

QUESTION = "How well can an attacker tell which records this model was trained on? 0.5 is guessing, 1 is certainty."
MAX_CARD = 2**24  # bytes

_MARKER = re.compile(rb"^(?:\xef\xbb\xbf)?[ \t]*<!-- kdaudit:(begin|end) -->[ \t]*(?=\r?$)", re.MULTILINE)


def update_model_card(path: Path, report: Report, *, with_index: bool) -> None:
    """Rewrite the section of the card at `path`, which describes the first student of the only run.

    Args:
        path: an existing file.
        report: of one run.
        with_index: whether the metadata at its top gets the figures too.

    Raises:
        ConfigError: the file cannot be read, its markers do not pair up, or its metadata cannot be extended.
        OutputError: it cannot be written.
        DiskFullError: no space is left; the card is as it was.
    """
    try:
        card = read_bytes(path, at_most=MAX_CARD)
    except ValueError as error:
        raise ConfigError(f"--model-card: {path}: {error}") from error
    except OSError as error:
        hint = "--model-card rewrites a section of an existing file"
        raise ConfigError(f"--model-card: {path} cannot be read: {error.strerror}", hint=hint) from error
    changed = rewrite_section(card, render_section(report), name=str(path))
    if with_index:
        from kdaudit.report.hub.model_index import rewrite_index  # loads huggingface_hub

        changed = rewrite_index(changed, report.runs[0].result, name=str(path))
    if changed != card:
        target = path.resolve()  # a card of a cache is a link
        with replacing(target) as waiting:
            waiting.write_bytes(changed)
            shutil.copymode(target, waiting)


def render_section(report: Report) -> str:
    """The section in Markdown, without its markers."""
    (run,) = report.runs
    result = run.result
    data, validity = result.data, checks.checks(result)
    waived = [f"{gate.gate}: {gate.reason}" for gate in result.verdict.gates if gate.status == "waived"]
    notes = [*checks.unscored_notes(result), *result.validity.warnings]
    blocks: list[Block] = [
        Paragraph(QUESTION),
        Paragraph(result.verdict.sentence, "strong"),
        Notes(waived),
        tables.metric_table(result, METRICS["auc"]),
        Notes(list(strongest_notes(result))),
        validity,
        Notes(notes),
        Paragraph(
            f"{data.members} members, {data.nonmembers} non-members, kdaudit {result.kdaudit_version}. These attacks "
            "on these records: it does not prove that nothing else leaks."
        ),
    ]
    return section_to_markdown(Section("Membership-inference audit", "", shown(blocks, Detail.TERMINAL)))


def rewrite_section(card: bytes, section: str, *, name: str) -> bytes:
    """The card with `section` between its markers; with both at its end where it has none.

    Args:
        card: in an encoding that holds ASCII, with any line ends.
        section: lines that end in a newline; it gets the line ends of the card.
        name: of the card, for messages.

    Raises:
        ConfigError: the card is UTF-16, one marker is missing, they are in the wrong order, or there is more than
            one pair.
    """
    if card.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"--model-card: {name} is UTF-16 or UTF-32", hint="save it as UTF-8")
    line_end = b"\r\n" if b"\r\n" in card else b"\n"
    lines = section.encode().replace(b"\n", line_end)
    markers = list(_MARKER.finditer(card))
    if not markers:
        gap = b"" if not card else line_end if card.endswith(b"\n") else 2 * line_end
        return b"".join([card, gap, BEGIN.encode(), line_end, lines, END.encode(), line_end])
    if [marker[1] for marker in markers] != [b"begin", b"end"]:
        lines_of = [card[: marker.start()].count(b"\n") + 1 for marker in markers]
        found = ", ".join(
            f"{marker[1].decode()} in line {line}" for marker, line in zip(markers, lines_of, strict=True)
        )
        raise ConfigError(
            f"--model-card: {name} must hold {BEGIN} and then {END}, each once; it holds: {found}",
            hint="put both around the section that kdaudit may rewrite, or remove both: they are added at the end",
        )
    begin, end = markers
    after = card.index(b"\n", begin.end()) + 1
    return card[:after] + lines + card[end.start() :]
