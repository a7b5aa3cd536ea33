"""The page that every renderer walks, and that a template of a user's own is given: no path that could be opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import kdaudit
from kdaudit.report import card, checks, provenance, tables
from kdaudit.report.annex import annexes
from kdaudit.report.blocks import (
    Block,
    Detail,
    Notes,
    Paragraph,
    Picture,
    Pictures,
    Section,
    Status,
    Table,
    Terms,
    Tiles,
    Verbatim,
    VerdictCard,
    shown,
)
from kdaudit.report.headline import headline, strongest_notes
from kdaudit.report.kinds import reading
from kdaudit.report.reading import Report, Run
from kdaudit.report.text import capital, day
from kdaudit.results import AuditResult

LIMITS = (
    "A gate that passes says that these attacks, on these records, stayed below the limit. It is evidence, not a proof "
    "of privacy, and no claim of compliance with anything.",
    "The strongest attack is named after all were seen, so its figure is a little high. The interval of its AUC and a "
    "failed gate allow for that; its rate at few false alarms, and its difference from a teacher, do not.",
    "Stronger attacks may exist, and records unlike these may leak more.",
    "Non-members must be like the members in everything but membership. The checks look for differences and cannot see "
    "all of them.",
    "The attacks read the model's token probabilities. An attacker who sees text alone is weaker; one who can train "
    "models like it may be stronger.",
)
INTERVALS = "Intervals are 95 %, in square brackets."
ADJUSTED = " p-values are adjusted over {} (Holm)."
MAX_TOLD = 6
"""Runs whose figures one sentence can hold; a table holds those of more."""
NO_COMMAND = "The command is not known: no manifest.json of this run lies beside its results."
LEFT_EDGE = (
    "An attacker who wants to be sure looks at the left edge of these curves: how many members are found while hardly "
    "any non-member is accused."
)
CURVES = (
    "ROC curves: members found against non-members wrongly called members, both axes logarithmic, the strongest attack "
    "first. Bands: 95 % at each threshold."
)
SCORES = (
    "How the scores of members (filled) and of non-members (line) are spread: the further apart, the stronger the "
    "attack. The outermost scores are cut off."
)


@dataclass(frozen=True, slots=True)
class RunPictures:
    """The pictures of one run."""

    levels: Sequence[Picture] = ()
    """Forest plots."""
    curves: Sequence[Picture] = ()
    """ROC curves, the strongest attack first."""
    scores: Sequence[Picture] = ()
    """Histograms, in the same order."""
    supervision: Sequence[Picture] = ()
    verdict: Picture | None = None
    """A bar for each model, for the first screen."""


NO_PICTURES = RunPictures()


@dataclass(frozen=True, slots=True)
class RunPage:
    """One run in words and tables."""

    name: str
    path: str
    about: str
    """Models, records, attacks, day and version in one line."""
    status: Status
    status_words: str
    sentence: str
    next_step: str
    verdict: VerdictCard
    """As it is shown above everything else."""
    tiles: Tiles
    terms: Terms
    headline: Sequence[str]
    gates: Table | None
    figures: Sequence[Table]
    reading: Sequence[str]
    """How models that do not read from left to right were shown the texts; empty for causal ones."""
    settings: Sequence[str]
    """The attacks with parameters of the user's own."""
    intervals: str
    """What stands beside the figures."""
    strongest: Sequence[str]
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
    annexes: Sequence[Section] = ()
    """One for each policy that was asked for."""
    pictures: RunPictures | None = None
    """None where a format shows none."""


@dataclass(frozen=True, slots=True)
class Page:
    """A verdict, a short section and the others: the order of a document.

    A terminal, whose end is what the eye falls on, shows them the other way round.
    """

    title: str
    heading: str
    """The reader's question."""
    verdict: VerdictCard | None
    short: Section
    sections: Sequence[Section]
    written: str
    """By which version, from what."""
    about: str = ""
    """What was looked at, in one line; empty where each part says it."""
    limits: Sequence[str] = LIMITS
    """What the figures do not show."""
    runs: Sequence[RunPage] = ()
    """The parts of every run by name, for a template of a user's own, as are the fields below; none for mitigations."""
    status: str = ""
    status_words: str = ""
    sentence: str = ""
    next_step: str = ""
    comparison: Table | None = None
    """None where there is one run."""
    compared: Sequence[Picture] = ()
    """Pictures of the comparison."""
    kdaudit_version: str = ""
    attacks: Sequence[str] = ()
    """Those of all runs. HTML can show one alone, as one of the models."""
    models: Sequence[str] = ()
    csv: str = ""
    """Every figure as CSV in base64, where a document holds it."""


def report_page(report: Report, *, with_pictures: bool) -> Page:
    """Lay a report out; with pictures, matplotlib is loaded."""
    compared: Sequence[Picture] = ()
    drawn: Sequence[RunPictures | None] = [None] * len(report.runs)
    if with_pictures:
        from kdaudit.report.charts.pictures import pictures_of  # matplotlib takes a second: only where it is shown

        compared, drawn = pictures_of(report)
    runs = [_run_page(report, run, pictures) for run, pictures in zip(report.runs, drawn, strict=True)]
    first, *others = runs
    verdict, about = first.verdict, first.about
    comparison = tables.comparison(report) if others else None
    if comparison is None:
        subject, asked = first.name, card.question(report.runs[0].result)
        short = Section("In short", "run-1", _short_blocks(first), link="In short")
        sections = _sections(first, "run-1")
    else:
        subject, asked, about = f"{len(runs)} runs compared", "Do these models give away their training data?", ""
        verdict = _of_all(report)
        short = Section("Side by side", "comparison", [comparison, Pictures(compared)], link="Side by side")
        sections = [_run_section(run, f"run-{number}") for number, run in enumerate(runs, start=1)]
    return Page(
        title=f"{capital(verdict.title)} – {subject} – kdaudit" if subject else f"{capital(verdict.title)} – kdaudit",
        heading=f"{asked} – {subject}" if subject else asked,
        about=about,
        verdict=verdict,
        short=short,
        sections=sections,
        written=_written(report, [run.path for run in runs]),
        runs=runs,
        status=verdict.status,
        status_words=tables.STATUS_WORDS[verdict.status],
        sentence=verdict.sentence,
        next_step="" if others else first.next_step,
        comparison=comparison,
        compared=compared,
        kdaudit_version=kdaudit.__version__,
        attacks=list(dict.fromkeys(name for run in report.runs for name in run.result.attacks)),
        models=list(dict.fromkeys(name for run in report.runs for name in run.result.models)),
    )


def result_page(result: AuditResult) -> Page:
    """Lay one result out without pictures, as `attack` ends with it."""
    page = report_page(Report((Run("", Path(), result),)), with_pictures=False)
    on_day = f" on {day(result.measured)}" if result.measured else ""
    return replace(page, written=f"Measured with kdaudit {result.kdaudit_version}{on_day}.")


def _written(report: Report, paths: Sequence[str]) -> str:
    on_day = f" on {day(report.written.isoformat())}" if report.written else ""
    return (
        f"Written by kdaudit {kdaudit.__version__}{on_day} from {', '.join(paths)}. It holds figures and names, no "
        "text of any record."
    )


def _run_page(report: Report, run: Run, pictures: RunPictures | None) -> RunPage:
    result = run.result
    verdict = result.verdict
    return RunPage(
        name=run.name,
        path=run.path.as_posix(),
        about=card.about(result),
        status=verdict.status,
        status_words=tables.STATUS_WORDS[verdict.status],
        sentence=verdict.sentence,
        next_step=verdict.next_step,
        verdict=card.verdict_card(run, pictures.verdict if pictures else None),
        tiles=Tiles(card.tiles(result)),
        terms=card.terms(result),
        headline=list(headline(result)),
        gates=tables.gates(result, report.declared, baseline=report.baseline) if verdict.gates else None,
        figures=list(tables.figures(result)),
        reading=reading(result),
        settings=list(tables.settings(result)),
        intervals=INTERVALS + (ADJUSTED.format("attacks and students") if result.compared else ""),
        strongest=list(strongest_notes(result)),
        missing=list(tables.missing(result)),
        detections=list(tables.detections(result)),
        supervision=list(checks.supervision(result)),
        supervision_notes=checks.supervision_notes(result),
        validity=checks.checks(result),
        trust=checks.trust(result.validity),
        notes=[*checks.unscored_notes(result), *result.validity.warnings],
        utility=list(provenance.utility(result)),
        models=provenance.models(result.models),
        data=provenance.data(result.data),
        versions=provenance.versions(result.kdaudit_version, run.versions),
        command=run.command,
        annexes=annexes(run, report.policies, report.release),
        pictures=pictures,
    )


def _run_section(run: RunPage, key: str) -> Section:
    """One of several runs: its verdict, and everything else folded away."""
    everything = Section(f"Everything about {run.name}", f"{key}-all", _sections(run, key), folded_in="html")
    title = f"{run.name}: {run.status_words}"
    what = Paragraph(run.about, "note", detail=Detail.DOCUMENT)
    return Section(title, key, [what, run.verdict, *_short_blocks(run), everything], link=run.name)


def _short_blocks(run: RunPage) -> list[Block]:
    headline = Notes(run.headline, tone="key", detail=Detail.DOCUMENT)
    return [*([run.gates] if run.gates else []), run.tiles, headline, run.terms]


def _sections(run: RunPage, key: str) -> list[Section]:
    """The parts of a run in the order in which questions arise."""
    pictures = run.pictures or NO_PICTURES
    figures: list[Block] = [
        Pictures(pictures.levels),
        *run.figures,
        Paragraph(run.intervals, "note"),
        Notes(run.settings, "Attacks with other parameters (--set)"),
        Notes(run.strongest),
        Notes(run.missing, "Without a figure"),
        Notes(run.reading, "How the texts were read"),
    ]
    curves: list[Block] = []
    if pictures.curves or pictures.scores:
        curves = [
            Paragraph(LEFT_EDGE),
            Pictures(pictures.curves, note=CURVES, is_named=True),
            Pictures(pictures.scores, "Scores", SCORES, is_named=True),
        ]
    pairs: list[Block] = [*run.detections]
    if run.supervision:
        pairs += [Paragraph(checks.SUPERVISION, detail=Detail.DOCUMENT), *run.supervision]
        pairs += [Pictures(pictures.supervision), Notes(run.supervision_notes)]
    validity: list[Block] = [Paragraph(run.trust), run.validity, Notes(run.notes)]
    repeat = [run.models, run.data, run.versions, *command_blocks(run.command, NO_COMMAND)]
    return [
        Section("How strong each attack is", f"{key}-figures", figures, link="Figures"),
        Section("Few false alarms, or many", f"{key}-curves", curves, detail=Detail.WHOLE),
        Section("Teacher and student, record by record", f"{key}-pairs", pairs),
        Section("Can these figures be trusted?", f"{key}-validity", validity, link="Validity"),
        Section("What the student is worth", f"{key}-utility", run.utility, detail=Detail.DOCUMENT),
        Section(
            "What was measured, and how to repeat it", f"{key}-provenance", repeat,
            link="Provenance", folded_in="markdown", detail=Detail.DOCUMENT,
        ),
        *(replace(annex, key=f"{key}-{annex.key}") for annex in run.annexes),
    ]  # fmt: skip


def command_blocks(command: str, unknown: str) -> list[Block]:
    """The command behind a document, or why it is not known."""
    if not command:
        return [Paragraph(unknown, detail=Detail.WHOLE)]
    return [Paragraph("The command that measured this:", detail=Detail.WHOLE), Verbatim([command], detail=Detail.WHOLE)]


def _of_all(report: Report) -> VerdictCard:
    """The decision on several runs: as careful as the most careful of them."""
    cards = [card.verdict_card(run, None) for run in report.runs]
    order: Sequence[Status] = ("fail", "inconclusive", "not_gated", "pass")
    tone = next(status for status in order if any(one.tone == status for one in cards))
    n = sum(run.result.verdict.status == report.status for run in report.runs)
    words = capital(tables.STATUS_WORDS[report.status])
    cautions = [f"{run.name}: {line}" for run, one in zip(report.runs, cards, strict=True) for line in one.cautions]
    told = "; ".join(f"{run.name}: {card.right_guesses(run.result)}" for run in report.runs)
    plain = [f"How often in 100 tries an attacker tells a member from a non-member: {told}. Chance is 50."]
    few = plain if len(report.runs) <= MAX_TOLD else []
    return VerdictCard(report.status, f"{words}: {n} of {len(report.runs)} runs", _counted(report), tone, few, cautions)


def _counted(report: Report) -> str:
    """`Verdicts of 3 runs: fail: a, b; pass: c.`."""
    names: dict[str, list[str]] = {}
    for run in report.runs:
        names.setdefault(tables.STATUS_WORDS[run.result.verdict.status], []).append(run.name)
    found = [f"{words}: {', '.join(names[words])}" for words in tables.STATUS_WORDS.values() if words in names]
    return f"Verdicts of {len(report.runs)} runs: {'; '.join(found)}."


def at_detail(page: Page, most: Detail) -> Page:
    """The page as it is shown at a detail; see `shown`."""
    short = replace(page.short, blocks=shown(page.short.blocks, most))
    return replace(page, short=short, sections=[one for one in shown(page.sections, most) if isinstance(one, Section)])
