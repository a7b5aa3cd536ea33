"""The page that every renderer walks, and that a template of a user's own is given: no path that could be opened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import kdaudit
from kdaudit.report import checks, provenance, tables
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
    Verbatim,
    VerdictCard,
    shown,
)
from kdaudit.report.headline import headline, strongest_notes
from kdaudit.report.kinds import reading
from kdaudit.report.reading import Report, Run
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


NO_PICTURES = RunPictures()


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

    @property
    def verdict(self) -> VerdictCard:
        """As it is shown above everything else."""
        return VerdictCard(self.status, self.status_words, self.sentence, self.next_step)


@dataclass(frozen=True, slots=True)
class Page:
    """A verdict, a short section and the others: the order of a document.

    A terminal, whose end is what the eye falls on, shows them the other way round.
    """

    title: str
    heading: str
    verdict: VerdictCard | None
    short: Section
    sections: Sequence[Section]
    written: str
    """By which version, from what."""
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


def report_page(report: Report, *, with_pictures: bool) -> Page:
    """Lay a report out; with pictures, matplotlib is loaded."""
    compared: Sequence[Picture] = ()
    drawn: Sequence[RunPictures | None] = [None] * len(report.runs)
    if with_pictures:
        from kdaudit.report.charts.pictures import pictures_of  # matplotlib takes a second: only where it is shown

        compared, drawn = pictures_of(report)
    runs = [_run_page(report, run, pictures) for run, pictures in zip(report.runs, drawn, strict=True)]
    first, *others = runs
    verdict = first.verdict
    comparison = tables.comparison(report) if others else None
    if comparison is None:
        subject = first.name
        short = Section("In short", "run-1", _short_blocks(first), link="In short")
        sections = _sections(first, "run-1")
    else:
        subject = f"{len(runs)} runs compared"
        verdict = VerdictCard(report.status, tables.STATUS_WORDS[report.status], _counted(report))
        short = Section("Side by side", "comparison", [comparison, Pictures(compared)], link="Side by side")
        sections = [_run_section(run, f"run-{number}") for number, run in enumerate(runs, start=1)]
    return Page(
        title=f"kdaudit: {verdict.words}",
        heading=f"Membership inference: {subject}",
        verdict=verdict,
        short=short,
        sections=sections,
        written=_written(run.path for run in runs),
        runs=runs,
        status=verdict.status,
        status_words=verdict.words,
        sentence=verdict.sentence,
        next_step=verdict.next_step,
        comparison=comparison,
        compared=compared,
        kdaudit_version=kdaudit.__version__,
    )


def result_page(result: AuditResult) -> Page:
    """Lay one result out without pictures, as `attack` ends with it."""
    page = report_page(Report((Run("", Path(), result),)), with_pictures=False)
    return replace(page, written=f"Measured with kdaudit {result.kdaudit_version}.")


def _written(paths: Iterable[str]) -> str:
    return (
        f"Written by kdaudit {kdaudit.__version__} from {', '.join(paths)}. It holds figures and names, no text of any "
        "record."
    )


def _run_page(report: Report, run: Run, pictures: RunPictures | None) -> RunPage:
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
        models=provenance.models(result),
        data=provenance.data(result),
        versions=provenance.versions(result, run.versions),
        command=run.command,
        annexes=annexes(run, report.policies, report.release),
        pictures=pictures,
    )


def _run_section(run: RunPage, key: str) -> Section:
    """One of several runs: its verdict, and everything else folded away."""
    everything = Section(f"Everything about {run.name}", f"{key}-all", _sections(run, key), folded_in="html")
    title = f"{run.name}: {run.status_words}"
    return Section(title, key, [run.verdict, *_short_blocks(run), everything], link=run.name)


def _short_blocks(run: RunPage) -> list[Block]:
    headline = Notes(run.headline, tone="key", detail=Detail.DOCUMENT)
    return [headline, *([run.gates] if run.gates else [])]


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
    repeat: list[Block] = [run.models, run.data, run.versions]
    if run.command:
        repeat += [
            Paragraph("The command that measured this run:", detail=Detail.WHOLE),
            Verbatim([run.command], detail=Detail.WHOLE),
        ]
    else:
        unknown = "The command is not known: no manifest.json of this run lies beside its results."
        repeat.append(Paragraph(unknown, detail=Detail.WHOLE))
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
