"""A comparison of mitigations: its file read back, what is said of it, and its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kdaudit
from kdaudit.config import ReportConfig
from kdaudit.errors import ConfigError
from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import Difference
from kdaudit.metrics.frontier import ALPHA, BEYOND
from kdaudit.options import options_of
from kdaudit.report import mitigation_card, provenance
from kdaudit.report.blocks import Block, Detail, Notes, Paragraph, Pictures, Section, Terms, Tiles, Verbatim
from kdaudit.report.charts.sketch import sketch
from kdaudit.report.formats import FORMATS, check_formats
from kdaudit.report.mitigation_tables import (
    arms_table,
    checks_table,
    frontier_table,
    gates_table,
    off_frontier,
    students_table,
    subsets_table,
)
from kdaudit.report.page import ADJUSTED, INTERVALS, LIMITS, Page, command_blocks
from kdaudit.report.ranges import check_comparison
from kdaudit.report.text import capital, counted, day, difference, interval
from kdaudit.results.mitigation import HINT, Mitigation, load
from kdaudit.verdict import parse_gate
from kdaudit.verdict.mitigation import judge_arms, problems_of_gates

FILE_NAME, RESULTS = "mitigation.json", "results.json"
OWN_LIMITS = (
    "Held-out loss is one measure of utility, on these records; another task may see another order of the arms.",
    "The frontier is a staircase of plain checkpoints: what lies between two of them was not tried. --frontier-points "
    "and --plain-epochs make it finer.",
    "The groups of members are those that one attack tells apart in the teacher; other groups may show another shift.",
)
FINDINGS = {
    "helps": "a smaller leak than that of a plain checkpoint that is no more useful, for every group of members",
    "undertrained": "no smaller leak than that of a plain checkpoint that is no more useful",
}
NO_COMMAND = "The command is not known: an earlier version made this table."
WORDS = {
    "arm": "One way to distil, with a student for each seed.",
    "member": "A record that the students were trained on. The others are like it and were held out.",
    "plain run": "The student without any mitigation, kept at many moments: one that learnt less leaks less.",
    "helps": "Leaks surely less than the last plain checkpoint that is no more useful, for every group of members.",
    "undertrained": "Leaks no less than stopping the plain run earlier would.",
    "moves the risk": "Surely less for one group of members, surely more for another.",
}
STAIRS = (
    "A student that learns less leaks less. The stairs are the plain run stopped at many moments, shorter plain runs, "
    "and the untrained start: only an arm below them leaks less than stopping earlier would."
)


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
    check_formats(config.formats)
    found = [path for run in config.runs if (path := mitigation_file(run)) is not None]
    if not found:
        return None
    if len(config.runs) > 1:
        raise ConfigError(f"RUN: {found[0]} is a comparison of mitigations", hint="report on it by itself")
    options: dict[str, object] = {
        "baseline": config.baseline, "template": config.template, "model_card": config.model_card,
        "policies": config.policies, "release": config.release,
    }  # fmt: skip
    flags = {one.field: one.flag for one in options_of(ReportConfig)}
    given = [flags[name] for name, value in options.items() if value and name not in config.from_file]
    if given:
        raise ConfigError(
            f"{given[0]}: {found[0]} is a comparison of mitigations, which has none",
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
        raise ConfigError("\n".join(problems), hint="a gate given by --gate replaces those in the configuration file")
    return found[0], judge_arms(table, gates) if gates else table


def formats_of(config: ReportConfig) -> tuple[str, ...]:
    """The formats to write: those asked for; of a configuration file's those that a comparison has, else html and md.

    Raises:
        ConfigError: the command asks for another one.
    """
    known = [name for name, form in FORMATS.items() if form.is_for_mitigations]
    strangers = [name for name in config.formats if name not in known]
    if strangers and "formats" not in config.from_file:
        raise ConfigError(
            f"--format {strangers[0]}: not for a comparison of mitigations", hint=f"choose from {', '.join(known)}"
        )
    return tuple(name for name in config.formats if name in known) or ("html", "md")


def mitigation_page(table: Mitigation, *, with_pictures: bool) -> Page:
    """Lay a comparison out; with pictures, matplotlib is loaded."""
    pictures: Block = Verbatim(sketch(table), is_drawing=True)
    above_all = None
    if with_pictures:
        # matplotlib takes a second: only where it is shown
        from kdaudit.report.charts.pictures import frontier_title, frontiers_of

        drawn, title = frontiers_of(table), frontier_title(table.attack, table.metric)
        above_all = next((picture for picture in drawn if picture.title == title), None)
        note = f"The picture of {table.attack} stands above." if above_all else ""
        pictures = Pictures([picture for picture in drawn if picture is not above_all], note=note)
    gates, subsets = gates_table(table), subsets_table(table)
    arms: list[Block] = [arms_table(table)]
    details: list[Block] = [
        *(
            frontier_table(table, attack, metric)
            for attack, of in table.frontier.items()
            for metric, points in of.items()
            if points
        ),
        Notes(list(not_measured(table)), "Not measured", detail=Detail.WHOLE),
        *(students_table(table, attack) for attack in table.frontier),
        *([subsets] if subsets else []),
        Paragraph(INTERVALS + ADJUSTED.format("the arms"), "note"),
    ]
    checks: list[Block] = [checks_table(table), Notes(notes(table))]
    stairs: list[Block] = [Paragraph(STAIRS, detail=Detail.DOCUMENT), pictures]
    found = list(sentences(table))
    verdict = mitigation_card.verdict_card(table, found[0] if found else "", above_all)
    short: list[Block] = [
        *([gates] if gates else []), Tiles(mitigation_card.tiles(table)), Notes(found, tone="key"),
        Terms("What the words and the methods mean", _terms(table)),
    ]  # fmt: skip
    repeat: list[Block] = [
        provenance.models(table.models), provenance.compared_data(table.data),
        provenance.versions(table.kdaudit_version, table.versions), *command_blocks(table.command, NO_COMMAND),
    ]  # fmt: skip
    on_day = f", measured on {day(table.measured)}" if table.measured else ""
    return Page(
        title=f"{verdict.title} – kdaudit",
        heading=mitigation_card.QUESTION,
        about=mitigation_card.about(table),
        verdict=verdict,
        short=Section("In short", "short", short, link="In short"),
        sections=[
            Section("The arms side by side", "arms", arms, link="Arms"),
            Section("Utility against leak", "frontier", stairs, link="Utility against leak"),
            Section("Can these figures be trusted?", "checks", checks, link="Validity"),
            Section("Every frontier and every student", "details", details, link="Details", detail=Detail.WHOLE),
            Section(
                "What was measured, and how to repeat it", "provenance", repeat, link="Provenance",
                folded_in="markdown", detail=Detail.DOCUMENT,
            ),
        ],
        written=f"Written by kdaudit {kdaudit.__version__}{on_day}. It holds figures and names, no text of any record.",
        limits=(*OWN_LIMITS, *LIMITS),
    )  # fmt: skip


def _terms(table: Mitigation) -> dict[str, str]:
    """The words of the page, and what each arm does."""
    return {**WORDS, **{name: f"{capital(arm.summary)}." for name, arm in off_frontier(table).items()}}


def not_measured(table: Mitigation) -> Iterator[str]:
    """Metrics under which there is no frontier, and why."""
    for attack, of in table.frontier.items():
        for metric, points in of.items():
            if not points:
                placed = (arm.placed[attack][metric].reason for arm in off_frontier(table).values())
                reason = next((found for found in placed if found), "no plain checkpoint has it")
                yield f"{METRICS[metric].short} of {attack}: {reason}"


def sentences(table: Mitigation) -> Iterator[str]:
    """What was found, for a reader with a minute."""
    if table.validity.status == "failed":
        yield (
            "Members and held-out records can be told apart by what no model remembers, so no finding below means "
            "anything."
        )
    yield from _recommendation(table)
    compared = off_frontier(table)
    for finding, words in FINDINGS.items():
        names = [name for name, arm in compared.items() if arm.finding == finding]
        if names:
            yield f"{', '.join(names)}: {words} ({finding})."
    alone = {name: arm.placed[table.attack][table.metric].p_value for name, arm in compared.items()}
    for name, p in alone.items():
        if compared[name].finding == "helps" and p is not None and p > ALPHA:
            yield f"{name}: by its own 95 % bound; its p-value among {len(compared)} arms (Holm) is {p:.3f}."
    for name, arm in compared.items():
        if arm.finding == "moves the risk":
            yield f"{name} moves the risk: {arm.reason}."
    reasons = dict.fromkeys(arm.reason for arm in compared.values() if arm.finding == "no evidence")
    for reason in reasons:
        names = [name for name, arm in compared.items() if arm.finding == "no evidence" and arm.reason == reason]
        yield f"{', '.join(names)}: no evidence, {reason}."
    if any(arm.reason == BEYOND for arm in compared.values()):
        yield f"A longer plain run would tell: the same command with --plain-epochs {_longer(table)}."
    if table.validity.status != "failed":
        yield from _other_measures(table)
        yield from _against_control(table)
        yield from _of_those_kept(table)
        yield from _of_mixed_supervision(table)


def _longer(table: Mitigation) -> str:
    """The further plain runs and one that is twice as long as the longest."""
    further = [int(epochs) for epochs in table.config.get("plain_epochs", [])]
    longest = max([int(table.config.get("epochs", 1)), *further])
    return ",".join(map(str, [*further, 2 * longest]))


def _other_measures(table: Mitigation) -> Iterator[str]:
    """Where an arm that helps by the attack of the verdict does not by another one."""
    found: dict[str, list[str]] = {}
    for name, arm in table.arms.items():
        others = {attack: by_metric[table.metric].finding for attack, by_metric in arm.placed.items()}
        unlike = [f"by {attack}: {finding}" for attack, finding in others.items() if finding != "helps"]
        if arm.finding == "helps" and unlike:
            found.setdefault("; ".join(unlike), []).append(name)
    for measures, names in found.items():
        yield f"{', '.join(names)}: found to help by {table.attack}, but {measures}."


def _against_control(table: Mitigation) -> Iterator[str]:
    """Whether choosing does better than chance."""
    for control, found in table.arms.items():
        name = found.control_of
        apart = None if name is None else table.arms[name].placed[table.attack][table.metric].vs_control
        if apart is None:
            continue
        if apart.reason or apart.value is None:
            yield f"{name} cannot be held against {control}, which {found.summary}: {apart.reason}."
            continue
        words = _compared(apart, "leaks less than", "leaks more than", "is not told apart from")
        yield f"{name} {words} {control}, which {found.summary}: {difference(apart)} at equal held-out loss."


def _of_those_kept(table: Mitigation) -> Iterator[str]:
    """What the level over all members hides where some were left out."""
    for name, arm in table.arms.items():
        kept, plain = (arm.subsets.get(subset, {}).get(table.attack) for subset in ("kept", "kept_plain"))
        change = arm.kept_change.get(table.attack)
        if kept is None or plain is None or change is None or change.value is None:
            continue
        words = _compared(change, "They are exposed less", "They are exposed more", "They are not told apart")
        yield (
            f"{name}: over the members that stay in training alone its AUC is {interval(kept)}, the plain run's "
            f"{interval(plain)} (first seed). {words}: {difference(change)}."
        )


def _of_mixed_supervision(table: Mitigation) -> Iterator[str]:
    """What the teacher's word adds to the ground truth's, on the members that it gives away."""
    found = table.mixed_supervision
    if found is None:
        return
    if found.effect.value is None:
        yield f"Mixed supervision could not be measured: {found.effect.reason}."
        return
    words = _compared(
        found.effect,
        "the teacher's word exposes them less than the ground truth alone",
        "the teacher's word exposes them more than the ground truth alone",
        "no such effect of the teacher's word is found",
    )
    yield (
        "Mixed supervision: the members that the teacher gives away exceed the other members, at equal difficulty, by "
        f"{difference(found.mixed)} nats per token in the plain run and by {difference(found.hard)} in hard-only. "
        f"The difference is {difference(found.effect)}: {words}."
    )


def _compared(found: Difference, below: str, above: str, open_words: str) -> str:
    if found.high is not None and found.high < 0:
        return below
    return above if found.low is not None and found.low > 0 else open_words


def _recommendation(table: Mitigation) -> Iterator[str]:
    if table.recommended is not None:
        arm = table.arms[table.recommended]
        checkpoint = arm.students[0].checkpoint
        yield f"Recommended: {table.recommended}, of the arms that pass every gate the most useful ({checkpoint})."
        if (kept := arm.subsets.get("kept", {}).get(table.attack)) is not None:
            yield (
                "Its gates are on all members, also those left out of its training; over the members that stayed its "
                f"AUC is {interval(kept)}."
            )
    elif any(arm.gates for arm in table.arms.values()):
        yield "No arm passes every gate."


def notes(table: Mitigation) -> list[str]:
    """What a reader must know: of the records, of the arms."""
    found = [*table.warnings, *table.validity.warnings]
    found += [
        f"{name}: {warning.removeprefix(f'{arm.method}: ')}"
        for name, arm in table.arms.items()
        for warning in arm.warnings
    ]
    for name, arm in table.arms.items():
        n_replaced = arm.students[0].n_replaced
        if n_replaced is not None:
            found.append(f"{name}: {counted(n_replaced, 'module')} {'was' if n_replaced == 1 else 'were'} replaced")
    return found
