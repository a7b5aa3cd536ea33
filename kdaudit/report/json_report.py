"""The report as JSON, for a program."""

from __future__ import annotations

import json

import kdaudit
from kdaudit.report.runs import Report
from kdaudit.results import to_json
from kdaudit.results.mitigation import Mitigation, to_text

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
