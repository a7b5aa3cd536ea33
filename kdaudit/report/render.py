"""From a report to a text: no clock, no files but the template, and a template that names a missing field fails."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import kdaudit
from kdaudit.report import wording
from kdaudit.report.content import Report
from kdaudit.report.page import make_page
from kdaudit.report.text import plain, visible
from kdaudit.results import AuditResult

PACKAGE = Path(kdaudit.__file__).parent
TEMPLATES = (PACKAGE / "templates", PACKAGE.parent / "templates")
"""In the wheel, and in a checkout."""
MAX_MARKDOWN = 64_000
"""Bytes: GitHub takes comments of 65 536 characters."""
CUT = "This text is cut to what a comment can hold. The HTML and JSON reports hold all of it."


def render_html(report: Report) -> str:
    """One self-contained page: no script, nothing fetched."""
    page = make_page(report, with_pictures=True)
    return make_environment(as_html).get_template("report.html.j2").render(page=page)


def render_markdown(report: Report) -> str:
    """The report in GitHub-flavoured Markdown of at most MAX_MARKDOWN bytes, for a pull request or a model card.

    Where all of it is too long, the details are left out, then the runs from the last, then rows from the last; the
    text says so.
    """
    page, template = make_page(report, with_pictures=False), make_environment(as_markdown).get_template("report.md.j2")

    def brief(n_shown: int) -> str:
        return template.render(page=page, n_shown=n_shown, is_brief=True)

    text = template.render(page=page, n_shown=len(page.runs), is_brief=False)
    if len(text.encode()) <= MAX_MARKDOWN:
        return text
    too_many = bisect_right(range(len(page.runs) + 1), MAX_MARKDOWN, key=lambda n: len(brief(n).encode()))
    return cut(brief(max(too_many - 1, 0)))


def cut(text: str) -> str:
    """The lines that fit into MAX_MARKDOWN bytes, and where that is not all of them a note that says so."""
    note = f"\n{CUT}\n"
    kept = text.encode()[: MAX_MARKDOWN - len(note.encode())].decode(errors="ignore")
    return kept[: kept.rfind("\n") + 1] + note if len(text.encode()) > MAX_MARKDOWN else text


def render_summary(result: AuditResult) -> str:
    """One result in GitHub-flavoured Markdown, short enough for a pull request."""
    return (
        make_environment(as_markdown)
        .get_template("summary.md.j2")
        .render(
            audit=result,
            tables=wording.tables(result),
            strongest=list(wording.strongest_notes(result)),
            missing=list(wording.missing(result)),
            notes=list(wording.validity_notes(result)),
            supervision=wording.supervision_tables(result),
            supervision_notes=list(wording.supervision_notes(result)),
        )
    )


def markdown_text(value: object) -> str:
    """A value that a user's files or names decide, with nothing in it that Markdown or HTML would act on."""
    return as_markdown(plain(value))


def as_html(text: str) -> Markup:
    """Text with nothing in it that HTML would act on; a per-cent sign stays on the line of its number."""
    return escape(text.replace(" %", "\N{NO-BREAK SPACE}%"))


def as_markdown(text: str) -> Markup:
    """Text with nothing in it that Markdown or HTML would act on."""
    escaped = "".join(f"&#{ord(char)};" if char in "<>&|`*_#~\\" else char for char in text)
    return Markup(escaped.replace("](", "]&#40;"))  # else the two would make a link


def as_text(text: str) -> Markup:
    """Text as it is, for a format that acts on none."""
    return Markup(text)


def make_environment(escaped: Callable[[str], Markup], *, kind: type[Environment] = Environment) -> Environment:
    """An environment in which every value is one line, every character of it shows, and `escaped` escapes it."""
    environment = kind(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # with `finalize`, which escapes every value once: what is Markup then is left alone
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else escaped(plain(value)),
    )
    environment.filters["drawing"] = Markup  # pictures are made here, with every label escaped
    environment.filters["whole"] = lambda value: escaped(visible(value))
    return environment
