"""From a result to a text: no clock, no files but the template, and a template that names a missing field fails."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import kdaudit
from kdaudit.report import wording
from kdaudit.report.content import Report
from kdaudit.results import AuditResult

PACKAGE = Path(kdaudit.__file__).parent
TEMPLATES = (PACKAGE / "templates", PACKAGE.parent / "templates")
"""In the wheel, and in a checkout."""


def render_summary(result: AuditResult) -> str:
    """The result in GitHub-flavoured Markdown, short enough for a pull request."""
    return (
        _environment()
        .get_template("summary.md.j2")
        .render(
            audit=result,
            tables=wording.tables(result),
            missing=list(wording.missing(result)),
            notes=list(wording.validity_notes(result)),
            supervision=list(wording.supervision_notes(result)),
        )
    )


def render_markdown(report: Report) -> str:
    """The report in GitHub-flavoured Markdown, for a pull request or a model card."""
    return "\n".join(render_summary(run.result) for run in report.runs)


def markdown_text(value: object) -> str:
    """A value that a user's files or names decide, with nothing in it that Markdown or HTML would act on."""
    text = " ".join(str(value).split())
    escaped = "".join(f"&#{ord(char)};" if char in "<>&|`*_#~\\" else char for char in text)
    return escaped.replace("](", "]&#40;")  # else the two would make a link


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # Markdown: `finalize` escapes every value instead
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=markdown_text,
    )
