"""Pages as HTML, Markdown, a template of the user's own, and JSON: a renderer walks the blocks of a page.

A user's template is rendered in jinja2's sandbox: it sees words, tables and pictures, and no file.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from traceback import extract_tb

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

import kdaudit
from kdaudit.errors import ConfigError
from kdaudit.foreign import read_text
from kdaudit.report.blocks import Detail, Section
from kdaudit.report.cells import render_levels
from kdaudit.report.mitigation import mitigation_page
from kdaudit.report.page import Page, at_detail, report_page, result_page
from kdaudit.report.reading import Report
from kdaudit.report.text import MAX_NAME, counted, plain, visible
from kdaudit.results import AuditResult, to_json
from kdaudit.results.mitigation import Mitigation, to_text

PACKAGE = Path(kdaudit.__file__).parent
TEMPLATES = (PACKAGE / "templates", PACKAGE.parent / "templates")
"""In the wheel, and in a checkout."""
MAX_MARKDOWN = 64_000
"""Bytes: GitHub takes comments of 65 536 characters."""
CUT = "This text is cut to what a comment can hold. The HTML and JSON reports hold all of it."


def render_html(subject: Report | Mitigation) -> str:
    """One self-contained page: no script, nothing fetched."""
    page = _with_figures(_page_of(subject, with_pictures=True), subject)
    return make_environment(as_html).get_template("report.html.j2").render(page=page)


def _with_figures(page: Page, subject: Report | Mitigation) -> Page:
    """The page with its figures to take along, as HTML can offer them without fetching anything."""
    return replace(page, csv=b64encode(render_levels(subject).encode()).decode())


def render_markdown(subject: Report | Mitigation) -> str:
    """The report in GitHub-flavoured Markdown of at most MAX_MARKDOWN bytes, for a pull request or a model card.

    Where all of it is too long, the details are left out, then the runs from the last, then rows from the last;
    the text says so.
    """
    page = _page_of(subject, with_pictures=False)
    text = _markdown(page)
    if len(text.encode()) <= MAX_MARKDOWN:
        return text
    brief = at_detail(page, Detail.DOCUMENT)
    n_runs = len(page.runs) if len(page.runs) > 1 else 0  # of several, each is a section
    n_sections = len(brief.sections)

    def without(n: int) -> str:
        left_out = f": {counted(n, 'run is', 'runs are')} left out." if n else "."
        written = f"{CUT.replace('.', left_out, 1)} {page.written}"
        return _markdown(replace(brief, sections=brief.sections[: n_sections - n], written=written))

    fewest = bisect_left(range(n_runs), True, key=lambda n: len(without(n).encode()) <= MAX_MARKDOWN)
    return cut(without(fewest))


def cut(text: str) -> str:
    """The lines that fit into MAX_MARKDOWN bytes, and where that is not all of them a note that says so."""
    note = f"\n{CUT}\n"
    kept = text.encode()[: MAX_MARKDOWN - len(note.encode())].decode(errors="ignore")
    return kept[: kept.rfind("\n") + 1] + note if len(text.encode()) > MAX_MARKDOWN else text


def render_summary(result: AuditResult) -> str:
    """One result in GitHub-flavoured Markdown, short enough for a pull request."""
    return _markdown(at_detail(result_page(result), Detail.DOCUMENT))


def section_to_markdown(section: Section) -> str:
    """A section of a page as GitHub-flavoured Markdown, to stand in a text of the user's."""
    walk = '{% from "markdown/blocks.md.j2" import section %}{% filter tidy %}{{ section(found, 2) }}{% endfilter %}'
    return make_environment(as_markdown).from_string(walk).render(found=section)


def _markdown(page: Page) -> str:
    return make_environment(as_markdown).get_template("report.md.j2").render(page=page)


def _page_of(subject: Report | Mitigation, *, with_pictures: bool) -> Page:
    if isinstance(subject, Mitigation):
        page = mitigation_page(subject, with_pictures=with_pictures)
    else:
        page = report_page(subject, with_pictures=with_pictures)
    return at_detail(page, Detail.WHOLE)


def as_html(text: str) -> Markup:
    """Text with nothing in it that HTML would act on; a per-cent sign and the ends of an interval stay on one line."""
    text = re.sub(r"(\[[^\[\]\s]+,) (?=[^\[\]\s]+\])", "\\1\N{NO-BREAK SPACE}", text)
    return escape(text.replace(" %", "\N{NO-BREAK SPACE}%"))


def as_markdown(text: str) -> Markup:
    """Text with nothing in it that Markdown or HTML would act on."""
    escaped = "".join(f"&#{ord(char)};" if char in "<>&|`*_#~\\" else char for char in text)
    return Markup(escaped.replace("](", "]&#40;"))  # else the two would make a link


def as_css(text: str) -> Markup:
    """Text as the inside of a string in a style sheet: nothing in it ends the string, the rule or the element."""
    safe = (char if char.isascii() and char.isalnum() else f"\\{ord(char):x} " for char in plain(text, limit=MAX_NAME))
    return Markup("".join(safe))


def owners(head: Sequence[str], models: Sequence[str]) -> list[int | None]:
    """By column of a table of figures, the place of the model that it is about: a student's differences are its own."""
    found: list[int | None] = []
    for words in head:
        name = words.partition(" − ")[0]
        if name in models:
            found.append([*models].index(name))
        else:
            found.append(found[-1] if found and words.startswith("p (") else None)
    return found


def as_text(text: str) -> Markup:
    """Text as it is, for a format that acts on none."""
    return Markup(text)


def _tidy(text: str) -> Markup:
    """Markdown with one empty line where a template leaves several."""
    return Markup(re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n")


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
    environment.filters["tidy"] = _tidy
    environment.filters["css"] = as_css
    environment.filters["owners"] = owners
    environment.filters["whole"] = lambda value: escaped(visible(value))
    return environment


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
    if escaped is as_html:
        page = _with_figures(page, report)
    try:
        prepared = make_environment(escaped, kind=ImmutableSandboxedEnvironment).from_string(source)
        return prepared.render(page=page)
    except TemplateSyntaxError as error:
        raise ConfigError(f"--template: {template}, line {error.lineno}: {error.message}", hint=HINT) from error
    except Exception as error:  # whatever an expression of the template can raise is the template's
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == "<template>"]
        where = f", line {lines[-1]}" if lines else ""
        raise ConfigError(f"--template: {template}{where}: {error}", hint=HINT) from error


SCHEMA = "kdaudit.report/1"


def render_json(subject: Report | Mitigation) -> str:
    """The runs in the layout of their results files, each with its name and its verdict as judged here.

    A comparison of mitigations is laid out as in its own file.
    """
    if isinstance(subject, Mitigation):
        return to_text(subject)
    layout = {
        "schema": SCHEMA,
        "kdaudit_version": kdaudit.__version__,
        "status": subject.status,
        "baseline": subject.baseline or None,
        "waivers": [
            {"gate": gate, "reason": waiver.reason, "expires": waiver.expires.isoformat()}
            for gate, waiver in subject.waivers.items()
        ],
        "runs": [{"name": run.name, "path": run.path.as_posix(), **to_json(run.result)} for run in subject.runs],
    }
    return json.dumps(layout, indent=2, allow_nan=False) + "\n"
