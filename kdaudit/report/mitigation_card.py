"""The first screen of a comparison of mitigations: which student to take, what it gives away and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from kdaudit.metrics import METRICS
from kdaudit.report.blocks import Picture, Status, Step, Tile, VerdictCard
from kdaudit.report.card import in_100, short_name, size
from kdaudit.report.mitigation_tables import off_frontier
from kdaudit.report.text import counted, day, difference
from kdaudit.results.mitigation import Arm, Mitigation, Student
from kdaudit.verdict.sentences import comparable, distinct

QUESTION = "Which student leaks less and is as useful?"
SETS_DIFFER = "members and held-out records differ in more than membership, so no finding means anything"
RELAXING = ("helps",)
"""Findings of an arm that nobody needs to be warned of; a plain run is none and needs no warning either."""


def about(table: Mitigation) -> str:
    """Models, records, arms, day and version in one line."""
    parts = [
        " → ".join(
            f"{words} {short_name(table.models[name].name)} ({size(table.models[name].n_parameters)})"
            for name, words in (("teacher", "Teacher"), ("start", "students from"))
            if name in table.models
        ),
        f"{table.data.members:,} training records (“members”), {table.data.nonmembers:,} held out (“non-members”)",
        f"{counted(len(table.arms), 'arm')}, {counted(len({student.seed for student in table.plain}), 'seed')}",
        *([f"measured {day(table.measured)}"] if table.measured else []),
        f"kdaudit {table.kdaudit_version}",
    ]
    return " · ".join(part for part in parts if part)


def verdict_card(table: Mitigation, sentence: str, picture: Picture | None) -> VerdictCard:
    """The decision; `sentence` says it in the terms of the table."""
    status = _status(table)
    return VerdictCard(
        status,
        _title(table),
        sentence,
        "inconclusive" if status == "pass" and _doubts(table) else status,
        plain=list(_plain(table)),
        cautions=_doubts(table),
        steps=list(_steps(table)),
        picture=picture,
    )


def _status(table: Mitigation) -> Status:
    if table.validity.status == "failed":
        return "inconclusive"
    if table.recommended is not None:
        return "pass"
    return "fail" if table.is_failed else "not_gated"


def _title(table: Mitigation) -> str:
    if table.validity.status == "failed":
        return "No verdict: the two sets differ in more than membership"
    if table.recommended is not None:
        return f"Take {table.recommended}: it keeps every limit"
    if table.is_failed:
        return "Fail: no arm keeps every limit"
    helping = [name for name, arm in off_frontier(table).items() if arm.finding == "helps"]
    return f"No limit was set: {len(helping)} of {counted(len(off_frontier(table)), 'arm')} found to help"


def _doubts(table: Mitigation) -> list[str]:
    """Why the arm that is recommended is nothing to relax about."""
    if table.recommended is None or table.validity.status == "failed":
        return []
    arm, found = table.arms[table.recommended], []
    if not arm.is_plain and arm.finding not in RELAXING:
        found.append(f"{table.recommended} is not found to leak less than stopping the plain run earlier would.")
    kept = arm.kept_change.get(table.attack)
    if kept is not None and kept.low is not None and kept.low > 0:
        found.append(
            f"The members that stay in its training are exposed more than by the plain run: {difference(kept)}."
        )
    return found


def chosen(table: Mitigation) -> str | None:
    """The arm that the first screen speaks of: the one to take, else the most useful of those that help."""
    if table.recommended is not None:
        return table.recommended
    helping = {
        name: _mean(arm.students, table, "nll") for name, arm in off_frontier(table).items() if arm.finding == "helps"
    }
    known = {name: nll for name, nll in helping.items() if nll is not None}
    return min(known, key=lambda name: known[name], default=None)


def finished_plain(table: Mitigation) -> list[Student]:
    """The plain students at their end, one for each seed."""
    last = max((student.epoch or 0 for student in table.plain), default=0)
    return [student for student in table.plain if (student.epoch or 0) == last]


def _mean(students: Sequence[Student], table: Mitigation, of: str) -> float | None:
    """The mean over seeds of the held-out loss (`nll`) or of the leak; None where a seed has none."""
    found = [
        student.nll if of == "nll" else student.leaks[table.attack].figures.get(table.metric) for student in students
    ]
    values = [one.value for one in found if one is not None and one.value is not None]
    return fmean(values) if values and len(values) == len(students) else None


def _plain(table: Mitigation) -> Iterator[str]:
    if table.validity.status == "failed":
        yield f"{SETS_DIFFER[0].upper()}{SETS_DIFFER[1:]}."
        return
    plain = _mean(finished_plain(table), table, "leak")
    name = chosen(table)
    if table.metric != "auc" or plain is None:
        return
    told = "Shown one record that a student was trained on and one that it was not, an attacker picks the right one"
    leak = None if name is None else _mean(table.arms[name].students, table, "leak")
    if name is None or leak is None:
        yield f"{told} {in_100(plain)} times in 100 with the plain student (by {table.attack}; chance is 50)."
        return
    yield (
        f"{told} {in_100(leak, plain)} times in 100 with {name}, and {in_100(plain, leak)} times with the plain "
        f"student (by {table.attack}, means over seeds; chance is 50)."
    )


def _steps(table: Mitigation) -> Iterator[Step]:
    if table.validity.status == "failed":
        yield Step(comparable(table.validity))
        return
    if table.recommended is not None:
        checkpoint = table.arms[table.recommended].students[0].checkpoint
        yield Step(f"Take the student in {checkpoint}; `recommended` beside the table links to it.")
        yield Step("Audit it with every attack (kdaudit attack --attack all) before it is published.")
        return
    if table.is_failed:
        yield Step("Publish none of these students under these limits.")
        yield Step("Try stronger settings of the methods, fewer epochs or a lower weight on the hard label.")
        return
    yield Step("Set a limit to get a recommendation, for example --gate 'student.auc <= 0.6'.")


def tiles(table: Mitigation) -> list[Tile]:
    """What the arm changes in leak and in usefulness, whether to trust it, and how many arms help."""
    found = []
    name, plain = chosen(table), finished_plain(table)
    if name is not None and table.validity.status != "failed":
        arm = table.arms[name]
        found += [
            *_change(f"{METRICS[table.metric].short} of {name} under {table.attack}", arm, plain, table, "leak"),
            *_change(f"nats per token, held-out loss of {name}: lower is more useful", arm, plain, table, "nll"),
        ]
    helping = sum(arm.finding == "helps" for arm in off_frontier(table).values())
    of = counted(len(off_frontier(table)), "arm")
    found.append(Tile(f"{helping} of {of}", "found to leak less than stopping the plain run earlier would"))
    blind = table.validity.blind_auc.value
    if table.validity.status == "failed":
        return [*found, Tile("They differ", SETS_DIFFER, "fail")]
    if blind is None:
        return [*found, Tile("Not known", "whether the two sets differ without any model", "inconclusive")]
    return [*found, Tile("Comparable", f"no difference without a model (AUC {blind:.3f})", "pass")]


def _change(words: str, arm: Arm, plain: Sequence[Student], table: Mitigation, of: str) -> Iterator[Tile]:
    now, then = _mean(arm.students, table, of), _mean(plain, table, of)
    if now is not None and then is not None:
        yield Tile(f"{distinct(now, then)}", f"{words}; the plain student's is {distinct(then, now)}")
