"""The formats of a report. Adding one: write its renderer, a pure function to a text, and add its line here.

A renderer is imported when it renders: some load numpy, jinja2 and matplotlib, and the command line lists the names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from kdaudit.errors import ConfigError

if TYPE_CHECKING:
    from kdaudit.report.reading import Report
    from kdaudit.results.mitigation import Mitigation


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """How a report is written."""

    file: str
    """Its name in the output folder."""
    module: str
    """Under kdaudit.report."""
    function: str
    """From a `Report` to a text; the same report gives the same text."""
    is_for_mitigations: bool = False
    """Whether the function takes a `Mitigation` too."""

    def render(self, subject: Report | Mitigation) -> str:
        """The whole text of the file."""
        text: str = getattr(import_module(f"kdaudit.report.{self.module}"), self.function)(subject)
        return text


FORMATS: Mapping[str, ReportFormat] = {
    "html": ReportFormat("report.html", "render", "render_html", is_for_mitigations=True),
    "md": ReportFormat("report.md", "render", "render_markdown", is_for_mitigations=True),
    "json": ReportFormat("report.json", "render", "render_json", is_for_mitigations=True),
    "csv": ReportFormat("report.csv", "cells", "render_csv", is_for_mitigations=True),
    "latex": ReportFormat("report.tex", "latex", "render_latex", is_for_mitigations=True),
    "sarif": ReportFormat("report.sarif", "ci.sarif", "render_sarif"),
    "junit": ReportFormat("report.xml", "ci.junit", "render_junit"),
}


def check_formats(names: Iterable[str]) -> None:
    """Refuse a name that is not in the table.

    Raises:
        ConfigError: lists every one, one a line.
    """
    unknown = [f"--format: '{name}' is none of {', '.join(FORMATS)}" for name in names if name not in FORMATS]
    if unknown:
        raise ConfigError("\n".join(unknown), hint="kdaudit report --help lists the options")
