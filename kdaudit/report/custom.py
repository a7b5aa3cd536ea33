"""A user's own template, rendered in jinja2's sandbox: it sees words, tables and pictures, and no file."""

from __future__ import annotations

from pathlib import Path
from traceback import extract_tb

from jinja2 import TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kdaudit.errors import ConfigError
from kdaudit.foreign import read_text
from kdaudit.report.blocks import Detail
from kdaudit.report.page import at_detail, report_page
from kdaudit.report.render import as_html, as_markdown, as_text, make_environment
from kdaudit.report.runs import Report

ESCAPES = {".html": as_html, ".htm": as_html, ".svg": as_html, ".xml": as_html, ".md": as_markdown}
"""By the ending of the file that the template makes; any other is plain text."""
ENDINGS = (".j2", ".jinja", ".jinja2")
MAX_TEMPLATE = 2**22  # bytes
RESERVED = ("results.json", "manifest.json", "scores.parquet", "summary.md")
"""What a run folder holds."""
HINT = "templates/report.md.j2 is an example; kdaudit/report/page.py lists what a template is given"


def output_name(template: Path) -> str:
    """What the rendered template is called: its own name without the ending .j2.

    Raises:
        ConfigError: it has no such ending, or the output would replace a file of a run or another report.
    """
    if template.suffix not in ENDINGS or not template.stem:
        raise ConfigError(
            f"--template: {template} does not end in {', '.join(ENDINGS)}", hint="call it mine.html.j2 to get mine.html"
        )
    if template.stem in RESERVED or Path(template.stem).stem == "report":
        raise ConfigError(
            f"--template: {template} would be written as {template.stem}, which is kdaudit's own", hint="rename it"
        )
    return template.stem


def render_custom(template: Path, report: Report) -> str:
    """The report through a user's template.

    Args:
        template: it is given `page`, a `Page`; what is escaped how follows from the name of its output.
        report: what to show.

    Raises:
        ConfigError: it cannot be read, is not a template, or names what is not there or what the sandbox forbids.
    """
    escaped = ESCAPES.get(Path(output_name(template)).suffix, as_text)
    try:
        source = read_text(template, at_most=MAX_TEMPLATE)
    except OSError as error:
        raise ConfigError(f"--template: cannot read {template}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--template: {template} is not UTF-8: {error.reason}") from error
    except ValueError as error:
        raise ConfigError(f"--template: {template}: {error}") from error
    page = at_detail(report_page(report, with_pictures=escaped is as_html), Detail.WHOLE)
    try:
        prepared = make_environment(escaped, kind=ImmutableSandboxedEnvironment).from_string(source)
        return prepared.render(page=page)
    except TemplateSyntaxError as error:
        raise ConfigError(f"--template: {template}, line {error.lineno}: {error.message}", hint=HINT) from error
    except Exception as error:  # whatever an expression of the template can raise is the template's
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == "<template>"]
        where = f", line {lines[-1]}" if lines else ""
        raise ConfigError(f"--template: {template}{where}: {error}", hint=HINT) from error
