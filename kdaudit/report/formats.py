"""The formats of a report. Adding one: write its renderer, add its line here and its name to `kdaudit.config`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import kdaudit
from kdaudit.report.content import Renderer, Report
from kdaudit.report.junit import render_junit
from kdaudit.report.render import render_html, render_markdown
from kdaudit.report.sarif import render_sarif
from kdaudit.results import to_json

SCHEMA = "kdaudit.report/1"


@dataclass(frozen=True, slots=True)
class Format:
    """How a report is written."""

    file: str
    """Its name in the output folder."""
    render: Renderer


def render_json(report: Report) -> str:
    """The runs in the layout of their results files, each with its name and its verdict as judged here."""
    layout = {
        "schema": SCHEMA,
        "kdaudit_version": kdaudit.__version__,
        "status": report.status,
        "baseline": report.baseline or None,
        "waivers": [
            {"gate": gate, "reason": waiver.reason, "expires": waiver.expires.isoformat()}
            for gate, waiver in report.waivers.items()
        ],
        "runs": [{"name": run.name, "path": run.path.as_posix(), **to_json(run.result)} for run in report.runs],
    }
    return json.dumps(layout, indent=2, allow_nan=False) + "\n"


FORMATS: Mapping[str, Format] = {
    "html": Format("report.html", render_html),
    "md": Format("report.md", render_markdown),
    "json": Format("report.json", render_json),
    "sarif": Format("report.sarif", render_sarif),
    "junit": Format("report.xml", render_junit),
}
