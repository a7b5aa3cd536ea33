"""Inside GitHub Actions: the step summary, the annotations, and output that cannot be taken for a command."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kdaudit.cli import output
from kdaudit.errors import OutputError

if TYPE_CHECKING:
    from kdaudit.report.reading import Report
    from kdaudit.results.mitigation import Mitigation


def is_github() -> bool:
    """Whether a step of GitHub Actions runs this."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


@contextmanager
def quoting() -> Iterator[None]:
    """Within it the runner takes no line of output for a workflow command: names in it are the user's."""
    if not is_github():
        yield
        return
    token = secrets.token_hex(16)
    output.command(f"::stop-commands::{token}")
    try:
        yield
    finally:
        output.command(f"::{token}::")


def announce(report: Report) -> None:
    """Append the Markdown to the step summary and annotate the weightiest findings.

    Raises:
        OutputError: the summary cannot be written.
    """
    if not is_github():
        return
    from kdaudit.report.ci.notices import annotate
    from kdaudit.report.render import render_markdown

    for line in annotate(report):
        output.command(line)
    _summarise(render_markdown(report))


def announce_mitigation(table: Mitigation) -> None:
    """Append the Markdown of a comparison to the step summary.

    Raises:
        OutputError: the summary cannot be written.
    """
    if is_github():
        from kdaudit.report.render import render_markdown

        _summarise(render_markdown(table))


def _summarise(markdown: str) -> None:
    from kdaudit.report.ci.notices import step_summary

    if not (name := os.environ.get("GITHUB_STEP_SUMMARY")):
        return
    path = Path(name)
    try:
        text = step_summary(markdown, path.stat().st_size if path.exists() else 0)
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"GITHUB_STEP_SUMMARY: {path} cannot be written: {error.strerror}") from error
