"""A comparison of mitigations in words and tables, the same on the console, in HTML and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from statistics import fmean

from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import Difference
from kdaudit.metrics.frontier import ALL, ALPHA, BEYOND, Placed
from kdaudit.metrics.replicates import PLACED_BY
from kdaudit.report import wording
from kdaudit.report.tables import Table
from kdaudit.report.wording import ABSENT, difference, interval, p_value
from kdaudit.results import GateResult
from kdaudit.results.mitigation import Arm, Mitigation, Student

ON_FRONTIER = "on the frontier"
SEED = re.compile(r"^student-[0-9]+\.")
"""Of a gate's subject: student-2 is the second seed's student."""
WORST_FIRST = ("fail", "inconclusive", "waived", "pass")
SUBSETS = {
    "kept": "AUC, kept",
    "kept_plain": "plain run, the same",
    "dropped": "AUC, dropped",
    "dropped_plain": "plain run, the same",
}
SUBSET_NOTE = (
    "Secondary. Members are dropped because the teacher gives them away, so kept and dropped ones differ by selection "
    "alone: read each beside the plain run on the same members, and beside the control, which drops as many at random. "
    "First seed."
)
FRONTIER_NOTE = (
    "Distance: leak of the arm minus that of the last plain checkpoint that is no more useful; below 0 is better than "
    "stopping earlier. Helps: the 95 % upper bound is below 0 for every group of members. Moves the risk: surely "
    "less for one group, surely more for another. Undertrained: not below 0 over all members."
)
FINDINGS = {
    "helps": "a smaller leak than that of a plain checkpoint that is no more useful, for every group of members",
    "undertrained": "no smaller leak than that of a plain checkpoint that is no more useful",
}


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


def arms_table(table: Mitigation) -> Table:
    """The plain run's epochs and every other arm, means over seeds: utility, leak, distance, finding."""
    metric = METRICS[table.metric].short
    head = (
        "arm", "finding", "nats per token", "bits per byte", f"{metric} ({table.attack})", "change from plain",
        "distance", "group worst off", "p (Holm)",
    )  # fmt: skip
    rows = [*_plain_rows(table), *(_row(name, arm, table) for name, arm in off_frontier(table).items())]
    seeds = len({student.seed for student in table.plain})
    note = f"Means over {seeds} {'seeds' if seeds > 1 else 'seed'}; distances with 95 % interval. {FRONTIER_NOTE}"
    return Table("Arms", head, rows, note)


def students_table(table: Mitigation, attack: str) -> Table:
    """Every student in a row of its own: utility and the leak under one attack, with intervals."""
    by_metric = [words for metric in PLACED_BY for words in (METRICS[metric].short, "change")]
    head = ("student", "seed", "nats per token", "bits per byte", *by_metric)
    rows = [_student_row(f"plain, epoch {student.epoch}", student, attack) for student in table.plain]
    for name, arm in table.arms.items():
        rows += [_student_row(name, student, attack) for student in arm.students if student.epoch is None]
    note = "All original members against all held-out records. Change: minus the finished plain student of that seed."
    return Table(f"Every student under {attack}", head, rows, note)


def frontier_table(table: Mitigation, attack: str, metric: str) -> Table:
    """Every group of members of every arm beside the frontier by one metric of one attack."""
    rows: list[Sequence[str]] = []
    for name, arm in off_frontier(table).items():
        placed = arm.placed[attack][metric]
        nll = _number(placed.point.nll if placed.point else None)
        for group, beside in placed.groups.items():
            rows.append(
                (
                    name, nll, group, str(beside.n), _number(beside.leak), _number(beside.stair),
                    difference(beside.distance), _number(beside.next_stair),
                    ABSENT if beside.excess is None else difference(beside.excess),
                )
            )  # fmt: skip
        if not placed.groups:
            leak = _number(placed.point.leak if placed.point else None)
            rows.append((name, nll, ALL, ABSENT, leak, ABSENT, placed.reason, ABSENT, ABSENT))
    head = (
        "arm", "nats per token", "group", "members", "leak", "stair", "distance", "next stair", "above next stair",
    )  # fmt: skip
    note = (
        "Stair: leak of the same members under the last plain checkpoint that is no more useful than the arm. Next "
        "stair: under the next one, which is more useful."
    )
    return Table(f"Frontier by {METRICS[metric].short} of {attack}", head, rows, note)


def subsets_table(table: Mitigation) -> Table | None:
    """The AUC over kept and over dropped members alone; None where no arm drops any."""
    rows = [
        (
            name,
            attack,
            *(interval(arm.subsets.get(subset, {}).get(attack)) for subset in SUBSETS),
        )
        for name, arm in table.arms.items()
        if arm.subsets
        for attack in table.frontier
    ]
    return (
        Table("Kept and dropped members apart", ("arm", "attack", *SUBSETS.values()), rows, SUBSET_NOTE)
        if rows
        else None
    )


def gates_table(table: Mitigation) -> Table | None:
    """Every gate on every arm, as its worst seed stands; None where none was set."""
    rows = [
        _gate_row(name, gate, list(results))
        for name, arm in table.arms.items()
        for gate, results in groupby(arm.gates, key=lambda result: SEED.sub("student.", result.gate))
    ]
    level = 100 * (1 - 0.05 / max(len(table.arms), 1))
    note = (
        "The seed that is worst off. Passed where every seed's upper bound of level "
        f"{level:.4g} %, one for {len(table.arms)} arms, is within the limit."
    )
    head = ("arm", "gate", "status", "seeds that pass", "bound", "reason")
    return Table("Gates", head, rows, note) if rows else None


def _gate_row(arm: str, gate: str, results: Sequence[GateResult]) -> Sequence[str]:
    worst = min(results, key=lambda result: (WORST_FIRST.index(result.status), -(result.bound or 0.0)))
    n_passed = sum(result.status == "pass" for result in results)
    bound = ABSENT if worst.bound is None else f"{worst.bound_side} {worst.bound:.3f}"
    seeds = f"{n_passed} of {len(results)}" if worst.subject.startswith("student") else ABSENT
    return (arm, gate, worst.status, seeds, bound, worst.reason)


def notes(table: Mitigation) -> list[str]:
    """What a reader must know: of the records, of the arms."""
    checks = (wording.blind_note(table.validity), *wording.reference_notes(table.validity))
    found = [*table.warnings, *checks, *table.validity.warnings]
    found += [
        f"{name}: {warning.removeprefix(f'{arm.method}: ')}"
        for name, arm in table.arms.items()
        for warning in arm.warnings
    ]
    for name, arm in table.arms.items():
        n_replaced = arm.students[0].n_replaced
        if n_replaced is not None:
            found.append(f"{name}: {n_replaced} modules were replaced")
    return found


def _plain_rows(table: Mitigation) -> Iterator[Sequence[str]]:
    for name, arm in table.arms.items():
        if arm.is_plain and arm.students[0].epoch is None:  # a further plain run
            yield (name, _found(name, ON_FRONTIER, table), *_means(arm.students, table), "", "", "")
    by_epoch: dict[int | None, list[Student]] = {}
    for student in table.plain:
        by_epoch.setdefault(student.epoch, []).append(student)
    names = {arm.students[0].epoch: name for name, arm in table.arms.items()}
    for epoch, students in by_epoch.items():
        name = names.get(epoch, f"plain, epoch {epoch}")
        yield (name, _found(name, ON_FRONTIER, table), *_means(students, table), "", "", "")


def _row(name: str, arm: Arm, table: Mitigation) -> Sequence[str]:
    placed = arm.placed[table.attack][table.metric]
    finding = _found(name, arm.finding, table)
    whole = placed.groups.get(ALL)
    distance = ABSENT if whole is None else difference(whole.distance)
    return (name, finding, *_means(arm.students, table), distance, _worst_group(placed), _p_value(placed.p_value))


def _worst_group(placed: Placed) -> str:
    """The group with the highest upper bound of its distance."""
    groups = {name: beside for name, beside in placed.groups.items() if name != ALL}
    if not groups:
        return ABSENT
    worst = max(groups, key=lambda name: groups[name].distance.high or 0.0)
    return f"{worst} {difference(groups[worst].distance)}"


def _p_value(adjusted: float | None) -> str:
    return p_value(Difference(None, p_value_holm=adjusted))


def _found(name: str, finding: str, table: Mitigation) -> str:
    return f"{finding}, recommended" if name == table.recommended else finding


def _means(students: Sequence[Student], table: Mitigation) -> tuple[str, str, str, str]:
    attack, metric = table.attack, table.metric

    def leak(student: Student) -> float | None:
        figure = student.leaks[attack].figures.get(metric)
        return None if figure is None else figure.value

    def change(student: Student) -> float | None:
        found = student.leaks[attack].changes.get(metric)
        return found.value if found is not None else None

    return (
        _mean(students, lambda one: one.nll.value, ".3f"),
        _mean(students, lambda one: one.bits_per_byte.value, ".3f"),
        _mean(students, leak, ".3f"),
        _mean(students, change, "+.3f"),
    )


def _mean(students: Sequence[Student], read: Callable[[Student], float | None], form: str) -> str:
    """The mean over seeds; nothing where a seed has no value."""
    values = [read(student) for student in students]
    known = [value for value in values if value is not None]
    return f"{fmean(known):{form}}" if known and len(known) == len(values) else ABSENT


def _student_row(name: str, student: Student, attack: str) -> Sequence[str]:
    leak = student.leaks[attack]
    by_metric = [
        words
        for metric in PLACED_BY
        for words in (interval(leak.figures.get(metric)), difference(leak.changes.get(metric)))
    ]
    return (name, str(student.seed), interval(student.nll), interval(student.bits_per_byte), *by_metric)


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def off_frontier(table: Mitigation) -> dict[str, Arm]:
    """The arms that are no plain run."""
    return {name: arm for name, arm in table.arms.items() if not arm.is_plain}
