"""What the templates are given: words, tables and pictures, and nothing that could touch a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import kdaudit
from kdaudit.report import provenance, tables, wording
from kdaudit.report.content import Report, Run, Status
from kdaudit.report.headline import headline
from kdaudit.report.tables import Table
from kdaudit.results import Validity
from kdaudit.verdict.wording import not_comparable

if TYPE_CHECKING:
    from kdaudit.report.charts import Chart
    from kdaudit.report.pictures import Pictures

LIMITS = (
    "A gate that passes says that these attacks, on these records, stayed below the limit. It is evidence, not a proof "
    "of privacy, and no claim of compliance with anything.",
    "The strongest attack is named after all were seen, so its figure is a little high. The interval of its AUC and a "
    "failed gate allow for that; its rate at few false alarms and its difference from the teacher do not.",
    "Stronger attacks may exist, and records unlike these may leak more.",
    "Non-members must be like the members in everything but membership. The checks look for differences and cannot see "
    "all of them.",
    "The attacks read the model's token probabilities. An attacker who sees text alone is weaker; one who can train "
    "models like it may be stronger.",
)


@dataclass(frozen=True, slots=True)
class RunPage:
    """One run in words and tables."""

    name: str
    path: str
    status: Status
    status_words: str
    sentence: str
    next_step: str
    headline: Sequence[str]
    gates: Table | None
    figures: Sequence[Table]
    missing: Sequence[str]
    detections: Sequence[Table]
    supervision: Sequence[Table]
    supervision_notes: Sequence[str]
    validity: Table
    trust: str
    """What the checks say about the figures, in a sentence."""
    notes: Sequence[str]
    utility: Sequence[Table]
    models: Table
    data: Table
    versions: Table
    command: str
    pictures: Pictures | None = None
    """None where a format shows none."""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    status: Status
    status_words: str
    sentence: str
    next_step: str
    runs: Sequence[RunPage]
    comparison: Table | None
    """None where there is one run."""
    kdaudit_version: str
    limits: Sequence[str] = LIMITS
    compared: Sequence[Chart] = ()
    """Pictures of the comparison."""


def make_page(report: Report, *, with_pictures: bool) -> Page:
    """Lay a report out; with pictures, matplotlib is loaded."""
    compared: list[Chart] = []
    drawn: list[Pictures | None] = [None] * len(report.runs)
    if with_pictures:
        from kdaudit.report.pictures import pictures_of  # matplotlib takes a second: only where it is shown

        compared, each = pictures_of(report)
        drawn = [*each]
    only = report.runs[0].result.verdict if len(report.runs) == 1 else None
    return Page(
        status=report.status,
        status_words=tables.STATUS_WORDS[report.status],
        sentence=only.sentence if only else _counted(report),
        next_step=only.next_step if only else "",
        runs=[_run_page(report, run, pictures) for run, pictures in zip(report.runs, drawn, strict=True)],
        comparison=tables.comparison(report) if len(report.runs) > 1 else None,
        kdaudit_version=kdaudit.__version__,
        compared=compared,
    )


def _run_page(report: Report, run: Run, pictures: Pictures | None) -> RunPage:
    result = run.result
    verdict = result.verdict
    return RunPage(
        name=run.name,
        path=run.path.as_posix(),
        status=verdict.status,
        status_words=tables.STATUS_WORDS[verdict.status],
        sentence=verdict.sentence,
        next_step=verdict.next_step,
        headline=list(headline(result)),
        gates=tables.gates(result, report.declared, baseline=report.baseline) if verdict.gates else None,
        figures=list(tables.figures(result)),
        missing=list(wording.missing(result)),
        detections=list(tables.detections(result)),
        supervision=list(tables.supervision(result)),
        supervision_notes=list(wording.supervision_notes(result)),
        validity=tables.validity(run),
        trust=_trust(result.validity),
        notes=list(wording.unscored_notes(result)) + list(result.validity.warnings),
        utility=list(tables.utility(run)),
        models=provenance.models(run),
        data=provenance.data(run),
        versions=provenance.versions(run),
        command=run.command,
        pictures=pictures,
    )


def _counted(report: Report) -> str:
    """`Of 3 runs: fail: a, b; pass: c.`."""
    names: dict[str, list[str]] = {}
    for run in report.runs:
        names.setdefault(tables.STATUS_WORDS[run.result.verdict.status], []).append(run.name)
    found = [f"{words}: {', '.join(names[words])}" for words in tables.STATUS_WORDS.values() if words in names]
    return f"Of {len(report.runs)} runs: {'; '.join(found)}."


def _trust(validity: Validity) -> str:
    if validity.status == "failed":
        return f"No: {not_comparable(validity)}. Nothing here says what the models remember."
    if validity.blind_auc.value is None:
        return f"Not known: the blind classifier could not be measured ({validity.blind_auc.reason})."
    return "No check speaks against them."
