"""`kdaudit report`: what each reader of an audit needs, from its results alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdaudit.cli import github, output
from kdaudit.cli.command import Command, ConfigFile, Given
from kdaudit.config import ReportConfig
from kdaudit.config_file import WAIVERS
from kdaudit.dates import today
from kdaudit.errors import ConfigError, ExitCode
from kdaudit.lock import locked
from kdaudit.options import Option, options_of, split_gates
from kdaudit.report.blocks import Notes

if TYPE_CHECKING:
    from kdaudit.report.reading import Report
    from kdaudit.results.mitigation import Mitigation


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSwitches:
    """How the runs are taken, and how the command ends."""

    each: Annotated[
        bool,
        Option("Report on every run by itself, beside its own results. Nothing is compared.", in_file=False),
    ] = False
    verify: Annotated[
        bool,
        Option(
            "Check that manifest, results and scores of every run are as `kdaudit attack` wrote them, and end; 2 where "
            "one was changed.",
            in_file=False,
        ),
    ] = False
    exit_zero: Annotated[bool, Option("Exit with 0 where the code would be 1 or 3.", variable="KDAUDIT_EXIT_ZERO")] = (
        False
    )
    config_file: ConfigFile = None


def report(given: Given) -> None:
    """Report on finished audits: judge their gates again and write HTML, Markdown and more. Needs no model.

    Exit codes: 0 passed or nothing gated, 1 a gate failed, 2 usage or input wrong, 3 inconclusive, 4 anything else.
    """
    shown = given.build(ReportSwitches)
    if shown.verify:
        verify(given)
        return
    values = {"today": today(), **given.to(options_of(ReportConfig))}
    if "template" in values:
        values.setdefault("formats", ())
    from_file = frozenset(name for name in given.in_file if given.sources.get(name) == "DEFAULT_MAP")
    config = ReportConfig(
        **values,
        gates_file=given.config_file if "gates" in from_file else None,
        waivers=given.in_file.get(WAIVERS, ()),
        file_gates=split_gates(given.in_file.get("gates", ())),
        from_file=from_file,
    )
    if shown.each and config.out is not None:
        raise ConfigError("--out: --each writes every report beside its own results", hint="leave one of them out")
    if shown.each and config.figures is not None:
        raise ConfigError("--figures: --each writes every report beside its own results", hint="leave one of them out")
    parts = [replace(config, runs=(run,)) for run in config.runs] if shown.each else [config]
    code = max((_report(part, given, exit_zero=shown.exit_zero) for part in parts), key=_SEVERITY.index)
    if code is not ExitCode.PASSED:
        raise typer.Exit(int(code))


def verify(given: Given) -> None:
    """Print what was checked of every run, the hash of its manifest first.

    Raises:
        ConfigError: a file was changed, a run holds no hashes, or an option is given that is about reports.
    """
    typed = (one for one in COMMAND.options if given.sources[one.name] == "COMMANDLINE")
    if strangers := [one.flag for one in typed if not one.option.is_argument and one.name != "verify"]:
        raise ConfigError(
            f"--verify: it writes no report, so {strangers[0]} means nothing", hint="leave one of them out"
        )
    from kdaudit.results.seal import check_seal  # numpy: not at the top, so --help stays light

    for run in given.values["runs"]:
        found = check_seal(run if run.is_dir() else run.parent)
        lines = [f"SHA-256 of the manifest: {found.manifest}", f"unchanged: {', '.join(found.checked)}"]
        lines += [f"not here, so not checked: {', '.join(found.absent)}"] if found.absent else []
        output.show([Notes(lines, str(run))])


def _report(config: ReportConfig, given: Given, *, exit_zero: bool) -> ExitCode:
    """Write and show one report, on one run or several."""
    from kdaudit.artefacts import write_text
    from kdaudit.report.formats import FORMATS
    from kdaudit.report.mitigation import read_mitigation  # numpy: not at the top, so --help stays light
    from kdaudit.report.reading import read_report
    from kdaudit.verdict import exit_code

    comparison = read_mitigation(config)
    if comparison is not None:
        notes = given.notes_on_arms(is_gated=any(arm.gates for arm in comparison[1].arms.values()))
        return _report_mitigation(config, *comparison, notes=notes, exit_zero=exit_zero)
    found = read_report(config)
    folder = config.out or found.runs[0].path.parent
    texts = {folder / FORMATS[name].file: FORMATS[name].render(found) for name in config.formats}
    if config.template:
        from kdaudit.report.render import output_name, render_custom  # jinja2: usage errors come before it

        texts[folder / output_name(config.template)] = render_custom(config.template, found)
    with locked(folder):
        for path, text in texts.items():
            write_text(path, text)
    written = [*texts, *_write_figures(config, found)]
    if config.model_card:
        from kdaudit.report.hub.model_card import update_model_card

        update_model_card(config.model_card, found, with_index=config.model_index)
        written.append(config.model_card)
    with github.quoting():
        output.print_verdicts(found, written, gates_note=given.note_on_gates())
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
    shown = [*files, *_write_figures(config, table)]
    with github.quoting():
        output.print_mitigation(table, shown, notes=notes)
    github.announce_mitigation(table)
    return ExitCode.GATE_FAILED if table.is_failed and not exit_zero else ExitCode.PASSED


def _write_figures(config: ReportConfig, subject: Report | Mitigation) -> list[Path]:
    """Write every picture into the folder for them; gives the folder, where one was named."""
    if config.figures is None:
        return []
    from kdaudit.artefacts import write_bytes
    from kdaudit.report.figures import render_figures

    for name, content in render_figures(subject).items():
        write_bytes(config.figures / name, content, option="--figures")
    return [config.figures]


_SEVERITY = (ExitCode.PASSED, ExitCode.INCONCLUSIVE, ExitCode.GATE_FAILED)


COMMAND = Command(
    "report",
    report,
    (*options_of(ReportConfig), *options_of(ReportSwitches)),
    variables="KDAUDIT_REPORT",
    example="kdaudit report kdaudit-run --format html --gate 'student.auc <= 0.60'",
)
