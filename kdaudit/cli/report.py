"""`kdaudit report`: what each reader of an audit needs, from its results alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdaudit.cli import github, output
from kdaudit.cli.settings import ConfigFile, gates_from, note_on_gates, notes_on_arms, source_of
from kdaudit.config import TOLERANCE, ReportConfig
from kdaudit.errors import ConfigError, ExitCode
from kdaudit.lock import locked

if TYPE_CHECKING:
    from kdaudit.results.mitigation import Mitigation


def report(
    context: typer.Context,
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…",
            help="Run folders of `kdaudit attack`, or their results.json. Several runs are compared. Or one "
            "folder of `kdaudit mitigate`.",
        ),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="A format: html, md, json, sarif or junit. Repeatable, or joined by commas. Default: html,md.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder for the reports. Default: the folder of the first run.")
    ] = None,
    gates: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            envvar="KDAUDIT_GATES",
            help="A limit to judge by, such as 'student.auc <= 0.60'. Repeatable. Default: the gates of each run.",
        ),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            help="A jinja2 template of your own, rendered in a sandbox. `kdaudit docs report` says what it is given."
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="An earlier run. The report fails where an AUC rose above the earlier one by more than the tolerance."
        ),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help=f"How far an AUC may rise above the baseline's. Default: {TOLERANCE}.")
    ] = None,
    today: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The date by which waivers expire. Default: today in UTC."
        ),
    ] = None,
    model_card: Annotated[
        Path | None,
        typer.Option(help="An existing README.md. The section between kdaudit:begin and kdaudit:end is written anew."),
    ] = None,
    model_index: Annotated[
        bool, typer.Option("--model-index", help="Write the AUCs into the metadata of --model-card too.")
    ] = False,
    each: Annotated[
        bool, typer.Option("--each", help="Report on every run by itself, beside its own results. Nothing is compared.")
    ] = False,
    exit_zero: Annotated[
        bool,
        typer.Option("--exit-zero", envvar="KDAUDIT_EXIT_ZERO", help="Exit with 0 where the code would be 1 or 3."),
    ] = False,
    config_file: ConfigFile = None,
) -> None:
    """Report on finished audits: judge their gates again and write HTML, Markdown and more. Needs no model.

    Exit codes: 0 passed or nothing gated, 1 a gate failed, 2 usage or input wrong, 3 inconclusive, 4 anything else.
    """
    settings = context.default_map or {}
    config = ReportConfig(
        runs=tuple(runs),
        formats=_split(formats) or (() if template else ("html", "md")),
        out=out,
        gates=gates_from(context, gates),
        gates_file=config_file if source_of(context, "gates") == "DEFAULT_MAP" else None,
        template=template,
        baseline=baseline,
        tolerance=tolerance,
        waivers=settings.get("waivers", ()),
        file_gates=tuple(settings.get("gates", ())),
        model_card=model_card,
        model_index=model_index,
        from_file=frozenset(name for name in settings if source_of(context, name) == "DEFAULT_MAP"),
        today=(today or datetime.now(UTC)).date(),
    )
    if each and out is not None:
        raise ConfigError("--out: --each writes every report beside its own results", hint="leave one of them out")
    parts = [replace(config, runs=(run,)) for run in config.runs] if each else [config]
    code = max((_report(part, context, config_file, exit_zero=exit_zero) for part in parts), key=_SEVERITY.index)
    if code is not ExitCode.PASSED:
        raise typer.Exit(int(code))


def _report(config: ReportConfig, context: typer.Context, config_file: Path | None, *, exit_zero: bool) -> ExitCode:
    """Write and show one report, on one run or several."""
    from kdaudit.artefacts import write_text
    from kdaudit.report.custom import output_name, render_custom
    from kdaudit.report.formats import FORMATS  # numpy and jinja2: not at the top, so --help stays light
    from kdaudit.report.mitigation import read_mitigation
    from kdaudit.report.reading import read_report
    from kdaudit.verdict import exit_code

    comparison = read_mitigation(config)
    if comparison is not None:
        notes = notes_on_arms(context, config_file, is_gated=any(arm.gates for arm in comparison[1].arms.values()))
        return _report_mitigation(config, *comparison, notes=notes, exit_zero=exit_zero)
    found = read_report(config)
    folder = config.out or found.runs[0].path.parent
    texts = {folder / FORMATS[name].file: FORMATS[name].render(found) for name in config.formats}
    if config.template:
        texts[folder / output_name(config.template)] = render_custom(config.template, found)
    with locked(folder):
        for path, text in texts.items():
            write_text(path, text)
    written = list(texts)
    if config.model_card:
        from kdaudit.report.hub.model_card import update_model_card

        update_model_card(config.model_card, found, with_index=config.model_index)
        written.append(config.model_card)
    with github.quoting():
        output.print_verdicts(found, written, gates_note=note_on_gates(context, config_file))
    github.announce(found)
    return max((exit_code(run.result.verdict, exit_zero=exit_zero) for run in found.runs), key=_SEVERITY.index)


def _report_mitigation(
    config: ReportConfig, path: Path, table: Mitigation, *, notes: Sequence[str], exit_zero: bool
) -> ExitCode:
    from kdaudit.artefacts import write_text
    from kdaudit.report.formats import FORMATS
    from kdaudit.report.mitigation import formats_of

    folder = config.out or path.parent
    files = {folder / FORMATS[name].file: FORMATS[name].render(table) for name in formats_of(config)}
    with locked(folder):
        for written, text in files.items():
            write_text(written, text)
    with github.quoting():
        output.print_mitigation(table, [*files], notes=notes)
    github.announce_mitigation(table)
    return ExitCode.GATE_FAILED if table.is_failed and not exit_zero else ExitCode.PASSED


_SEVERITY = (ExitCode.PASSED, ExitCode.INCONCLUSIVE, ExitCode.GATE_FAILED)


def _split(formats: list[str] | None) -> tuple[str, ...]:
    """The formats, each once: `--format html,md --format json` is three."""
    return tuple(dict.fromkeys(name.strip() for given in formats or () for name in given.split(",")))
