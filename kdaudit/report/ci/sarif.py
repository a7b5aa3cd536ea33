"""SARIF 2.1.0, for code scanning: what did not pass, anchored to the file that declares the limit.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0 with errata 01.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import kdaudit
from kdaudit.report.ci.notices import Level, Notice, Rule, location, notices
from kdaudit.report.reading import Report
from kdaudit.report.text import plain

MAX_RESULTS = 30
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


INFORMATION = "https://arxiv.org/abs/2505.11837"
"""The paper whose question kdaudit answers."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a rule means."""

    name: str
    short: str
    why: str
    """What was found out, and on what grounds."""
    steps: Sequence[str]
    """What to do, the first thing first."""
    level: Level

    @property
    def help(self) -> str:
        """All of it as plain text."""
        return " ".join([self.why, *self.steps])

    @property
    def markdown(self) -> str:
        """The same for a page that shows one alert."""
        return "\n".join(
            [f"**{self.short}**", "", self.why, "", "What to do:", "", *(f"- {one}" for one in self.steps)]
        )


RULES: Mapping[Rule, Description] = {
    "KDA001": Description(
        "LimitExceeded",
        "A model leaks more about its training data than the limit allows.",
        "A membership-inference attack tells records of the training data from others better than the limit allows, "
        "and the interval leaves no doubt.",
        (
            "Train or distill for fewer epochs, or lower the weight on the hard label.",
            "Let `kdaudit mitigate --from STUDENT` look for a student that leaks less and is as useful.",
            "Audit again on the same records.",
        ),
        "error",
    ),
    "KDA002": Description(
        "StudentLeaksMore",
        "A student leaks more than its teacher, by more than the limit allows.",
        "The same attack on the same records succeeds better on the student than on the teacher that it was distilled "
        "from.",
        (
            "Distill again with fewer epochs or a lower weight on the hard label.",
            "Audit again on the same records.",
        ),
        "error",
    ),
    "KDA003": Description(
        "RoseSinceBaseline",
        "A model leaks more than in the baseline, by more than the tolerance.",
        "The AUC of an attack rose since the run that `--baseline` names, on the same records.",
        (
            "Find what changed in training.",
            "Or accept the rise and make this run the new baseline.",
        ),
        "error",
    ),
    "KDA004": Description(
        "Inconclusive",
        "A gate can be called neither kept nor broken.",
        "Too few records, a figure that could not be measured, or an interval that reaches to both sides of the limit.",
        ("The message says which, and what to do.",),
        "warning",
    ),
    "KDA005": Description(
        "SetsDiffer",
        "Members and non-members can be told apart by what no model remembers.",
        "A classifier that never sees a model, or a reference that saw neither set, tells the two sets apart, so no "
        "attack's success says anything about membership.",
        ("Draw both sets from one source and audit again.",),
        "warning",
    ),
}
SEVERITIES: Mapping[Level, str] = {"error": "error", "warning": "warning", "note": "recommendation"}
"""What code scanning calls the levels of rules that are about no vulnerability."""


def render_sarif(report: Report) -> str:
    """What did not pass, as a SARIF log; at most MAX_RESULTS, the weightiest.

    It names no automationDetails.id: that would override the category of the upload, by which code scanning keeps
    the alerts of two audits apart.
    """
    found = notices(report)
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "kdaudit",
                "semanticVersion": kdaudit.__version__,
                "informationUri": INFORMATION,
                "rules": [_rule(rule, description) for rule, description in RULES.items()],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(report, notice) for notice in found[:MAX_RESULTS]],
    }
    if len(found) > MAX_RESULTS:
        words = f"{len(found) - MAX_RESULTS} further results are left out; the other formats of the report list all."
        run["invocations"] = [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [{"level": "warning", "message": {"text": words}}],
            }
        ]
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(rule: Rule, description: Description) -> dict[str, Any]:
    return {
        "id": rule,
        "name": description.name,
        "shortDescription": {"text": description.short},
        "fullDescription": {"text": description.help},
        "help": {"text": description.help, "markdown": description.markdown},
        "defaultConfiguration": {"level": description.level},
        "properties": {
            "tags": ["privacy", "membership-inference"],
            "problem.severity": SEVERITIES[description.level],
            "precision": "high",  # a gate fails where an interval leaves no doubt
        },
    }


def _result(report: Report, notice: Notice) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": notice.rule,
        "ruleIndex": list(RULES).index(notice.rule),
        "level": notice.level,
        "message": {"text": _message(notice.message)},
        "locations": [_place(notice.uri, notice.line)],
        "partialFingerprints": {"kdauditGate/v1": _digest(f"{notice.rule}\n{notice.identity}")},
    }
    if notice.waiver:
        result["suppressions"] = [
            {
                "kind": "external",
                "status": "accepted",
                "justification": plain(f"until {notice.waiver.expires}: {notice.waiver.reason}"),
                "location": _place(location(report, notice.waiver.path), notice.waiver.line),
            }
        ]
    return result


def _place(uri: str, line: int) -> dict[str, Any]:
    artifact = {"uri": quote(uri, errors="surrogateescape"), "uriBaseId": "%SRCROOT%"}
    return {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": line}}}


def _message(text: str) -> str:
    """Without what SARIF would read as an embedded link."""
    return text.replace("](", "] (")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
