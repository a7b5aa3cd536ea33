"""A report on a comparison of mitigations, from its mitigation.json alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import kdaudit
from kdaudit.config import ReportConfig
from kdaudit.errors import ConfigError
from kdaudit.report import arms
from kdaudit.report.page import LIMITS
from kdaudit.report.ranges import check_comparison
from kdaudit.report.render import MAX_MARKDOWN, as_html, as_markdown, cut, make_environment
from kdaudit.report.sketch import sketch
from kdaudit.report.tables import Table
from kdaudit.results.mitigation import HINT, Mitigation, load, to_text
from kdaudit.verdict import parse_gate
from kdaudit.verdict.arms import judge_arms, problems_of_gates

if TYPE_CHECKING:
    from kdaudit.report.charts import Chart

FILE_NAME, RESULTS = "mitigation.json", "results.json"
LIMIT = (
    "Held-out loss is one measure of utility, on these records; another task may see another order of the arms.",
    "The frontier is a staircase of plain checkpoints: what lies between two of them was not tried. --frontier-points "
    "and --plain-epochs make it finer.",
    "The groups of members are those that one attack tells apart in the teacher; other groups may show another shift.",
)


@dataclass(frozen=True, slots=True)
class MitigationPage:
    """What the templates are given."""

    sentences: Sequence[str]
    arms: Table
    sketch: Sequence[str]
    """The picture in characters, line by line; spaces count."""
    gates: Table | None
    notes: Sequence[str]
    details: Sequence[Table]
    charts: Sequence[Chart]
    kdaudit_version: str
    limits: Sequence[str] = (*LIMIT, *LIMITS)


def mitigation_file(run: Path) -> Path | None:
    """The table that a RUN names: its folder, which holds no run of `attack` by itself, or the file."""
    if run.is_dir():
        found = run / FILE_NAME
        return found if found.is_file() and not (run / RESULTS).exists() else None
    return run if run.name == FILE_NAME else None


def read_mitigation(config: ReportConfig) -> tuple[Path, Mitigation] | None:
    """The comparison that the runs name, judged by the gates that are given, else as measured; None for audits.

    Raises:
        ConfigError: it is named beside other runs or with an option that is for audits, cannot be read, or cannot
            be judged by a gate.
    """
    found = [path for run in config.runs if (path := mitigation_file(run)) is not None]
    if not found:
        return None
    if len(config.runs) > 1:
        raise ConfigError(f"RUN: {found[0]} is a comparison of mitigations", hint="report on it by itself")
    options = {"baseline": config.baseline, "template": config.template, "model-card": config.model_card}
    given = [name for name, value in options.items() if value and name.replace("-", "_") not in config.from_file]
    if given:
        raise ConfigError(
            f"--{given[0]}: {found[0]} is a comparison of mitigations, which has none",
            hint="leave it out, or name the run of one audit",
        )
    formats_of(config)
    gates = tuple(parse_gate(text) for text in config.gates)
    table = load(found[0])
    try:
        check_comparison(table)
    except ValueError as error:
        raise ConfigError(f"{found[0]}: {error}", hint=HINT) from error
    attacks = next(iter(table.arms.values())).attacks
    if problems := [*problems_of_gates(gates, list(attacks))]:
        raise ConfigError("\n".join(problems), hint="--gate takes the place of those in a configuration file")
    return found[0], judge_arms(table, gates) if gates else table


def formats_of(config: ReportConfig) -> tuple[str, ...]:
    """The formats to write: those asked for; of a configuration file's those that a comparison has, else html and md.

    Raises:
        ConfigError: the command asks for another one.
    """
    strangers = [name for name in config.formats if name not in FORMATS]
    if strangers and "formats" not in config.from_file:
        raise ConfigError(
            f"--format {strangers[0]}: not for a comparison of mitigations", hint=f"choose from {', '.join(FORMATS)}"
        )
    return tuple(name for name in config.formats if name in FORMATS) or ("html", "md")


def make_page(table: Mitigation, *, with_pictures: bool) -> MitigationPage:
    """Lay a comparison out; with pictures, matplotlib is loaded."""
    charts: list[Chart] = []
    if with_pictures:
        from kdaudit.report.frontier import draw_frontier  # matplotlib takes a second: only where it is shown

        drawn = [draw_frontier(table, attack, metric) for attack, of in table.frontier.items() for metric in of]
        charts = [chart for chart in drawn if chart is not None]
    subsets = arms.subsets_table(table)
    return MitigationPage(
        sentences=list(arms.sentences(table)),
        arms=arms.arms_table(table),
        sketch=sketch(table),
        gates=arms.gates_table(table),
        notes=arms.notes(table),
        details=[
            *(arms.frontier_table(table, attack, metric) for attack, of in table.frontier.items() for metric in of),
            *(arms.students_table(table, attack) for attack in table.frontier),
            *([] if subsets is None else [subsets]),
        ],
        charts=charts,
        kdaudit_version=kdaudit.__version__,
    )


def render_html(table: Mitigation) -> str:
    """One self-contained page: no script, nothing fetched."""
    page = make_page(table, with_pictures=True)
    return make_environment(as_html).get_template("mitigation.html.j2").render(page=page)


def render_markdown(table: Mitigation) -> str:
    """The comparison in GitHub-flavoured Markdown of at most MAX_MARKDOWN bytes; where all is too long, no details."""
    page = make_page(table, with_pictures=False)
    template = make_environment(as_markdown).get_template("mitigation.md.j2")
    text = template.render(page=page, is_brief=False)
    return text if len(text.encode()) <= MAX_MARKDOWN else cut(template.render(page=page, is_brief=True))


FORMATS: Mapping[str, tuple[str, Callable[[Mitigation], str]]] = {
    "html": ("report.html", render_html),
    "md": ("report.md", render_markdown),
    "json": ("report.json", to_text),
}
"""File and renderer by name."""
