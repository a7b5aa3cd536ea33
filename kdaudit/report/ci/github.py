"""What GitHub Actions is told beside the files: a step summary and a few annotations.

Source: GitHub's documentation, workflow commands for GitHub Actions: at most 1 MiB of summary a step.
"""

from __future__ import annotations

from kdaudit.report.ci.notices import Notice, notices
from kdaudit.report.runs import Report
from kdaudit.report.text import plain

MAX_SUMMARY = 1024 * 1024
"""Bytes of one step's summary; GitHub drops a larger one whole."""
MAX_ANNOTATIONS = 3

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
_ESCAPES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY_ESCAPES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


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
