"""What the gates of a report found, in the order of its weight: what SARIF lists and GitHub Actions annotates.

Source: GitHub's documentation, workflow commands for GitHub Actions: at most 1 MiB of summary a step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from kdaudit.report.reading import Declaration, Report, Run
from kdaudit.report.text import MAX_NAME, plain
from kdaudit.results import GateResult
from kdaudit.verdict.gates import DIFFERENCE
from kdaudit.verdict.sentences import not_comparable, sentence
from kdaudit.waivers import Waiver

Rule = Literal["KDA001", "KDA002", "KDA003", "KDA004", "KDA005"]
"""Stable ids; `sarif.RULES` says what each means."""
Level = Literal["error", "warning", "note"]
MAX_SUMMARY = 1024 * 1024
"""Bytes of one step's summary; GitHub drops a larger one whole."""
MAX_ANNOTATIONS = 3

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
_ESCAPES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY_ESCAPES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that a reader must know, and where to look."""

    rule: Rule
    level: Level
    title: str
    message: str
    """Plain text on one line."""
    uri: str
    """The file, relative to the repository; with forward slashes."""
    line: int
    identity: str
    """The same in every revision for the same gate."""
    waiver: Waiver | None = None
    """Accepted by it."""


def notices(report: Report) -> list[Notice]:
    """Everything that did not pass: failures, then what is inconclusive, then what is waived."""
    found = [notice for position, run in enumerate(report.runs) for notice in _of_run(report, run, position)]
    return sorted(found, key=lambda notice: (("error", "warning", "note").index(notice.level), notice.rule == "KDA004"))


def location(report: Report, path: str | os.PathLike[str]) -> str:
    """A file as a path from the repository's root, or its name alone where it lies outside."""
    absolute = os.path.abspath(path)
    inside = os.path.relpath(absolute, report.root)
    outside = inside == os.pardir or inside.startswith(os.pardir + os.sep) or os.path.isabs(inside)
    return os.path.basename(absolute) if outside else inside.replace(os.sep, "/")


def _of_run(report: Report, run: Run, position: int) -> Iterator[Notice]:
    several = len(report.runs) > 1
    who = f"{plain(run.name, limit=MAX_NAME)}: " if several else ""
    identity = f"{position}:" if several else ""
    if run.result.validity.status == "failed":
        words = f"{who}{not_comparable(run.result.validity)}: no attack's figure says anything about membership."
        yield Notice("KDA005", "warning", "kdaudit: sets differ", plain(words), location(report, run.path), 1, identity)
    for gate in run.result.verdict.gates:
        if gate.status == "pass":
            continue
        waiver = report.waivers[gate.gate] if gate.status == "waived" else None
        where = report.declared.get(gate.gate) or Declaration(run.path, 1)
        yield Notice(
            _rule(gate),
            {"fail": "error", "inconclusive": "warning", "waived": "note"}[gate.status],  # type: ignore[arg-type]
            f"kdaudit: {gate.gate} {gate.status}",
            plain(f"{who}{_words(gate, waiver)}"),
            location(report, where.path),
            where.line,
            f"{identity}{gate.gate}",
            waiver,
        )


def _rule(gate: GateResult) -> Rule:
    if gate.status == "inconclusive":
        return "KDA004"
    if gate.metric.endswith("-baseline"):
        return "KDA003"
    return "KDA002" if gate.subject == DIFFERENCE else "KDA001"


def _words(gate: GateResult, waiver: Waiver | None) -> str:
    if waiver:
        failed = sentence("fail", [replace(gate, status="fail")])
        return f"{failed} Waived until {waiver.expires}: {waiver.reason}"
    return f"{sentence(gate.status, [gate])} {gate.next_step}"


def annotate(report: Report) -> list[str]:
    """At most MAX_ANNOTATIONS workflow commands, the weightiest notices first."""
    return [_command(notice) for notice in notices(report)[:MAX_ANNOTATIONS]]


def step_summary(markdown: str, n_bytes: int) -> str:
    """What may be appended to a step summary: the Markdown, a line in its place, or nothing where not even that fits.

    Args:
        markdown: of the report.
        n_bytes: that the summary holds already.
    """
    instead = "The report does not fit into this summary; see its files.\n"
    fitting = (text for text in (markdown, instead) if n_bytes + len(text.encode()) <= MAX_SUMMARY)
    return next(fitting, "")


def _command(notice: Notice) -> str:
    properties = {"file": plain(notice.uri), "line": notice.line, "title": notice.title}
    written = ",".join(f"{key}={str(value).translate(_PROPERTY_ESCAPES)}" for key, value in properties.items())
    return f"::{_COMMANDS[notice.level]} {written}::{notice.message.translate(_ESCAPES)}"
