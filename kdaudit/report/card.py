"""The first screen of a run: the decision, how much is given away, what to do now, and the figures a board asks for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from kdaudit.attacks import ATTACKS
from kdaudit.attacks.settings import written
from kdaudit.config import ASSISTANT, LAYOUT, LONE, TEACHER, AuditConfig
from kdaudit.report.blocks import Picture, Status, Step, Terms, Tile, VerdictCard
from kdaudit.report.checks import doubts_about
from kdaudit.report.headline import SIGNIFICANT, Shown, is_clear, low_rate, p_equals, shown_models
from kdaudit.report.reading import Run
from kdaudit.report.tables import named_attack, status_of
from kdaudit.report.text import capital, counted, day, interval
from kdaudit.results import AuditedModel, AuditResult, GateResult
from kdaudit.verdict import Gate, parse_gate
from kdaudit.verdict.gates import DIFFERENCE
from kdaudit.verdict.sentences import distinct

MITIGATED_BY = ("loss", "reference", "min-k")
"""The attacks on the students of a comparison of mitigations: its gates can name no other."""
OWN_RECORDS = {
    **{option.name: option.default for option in fields(AuditConfig) if option.name in LAYOUT},
    "score": ASSISTANT,
}
"""Options that say how records stand in their files, and what each is where it is not given."""
MEMBERS, NONMEMBERS = "--members", "--nonmembers"
WORDS = {
    "member": "A record that the model was trained on. A non-member is one like it that the model never saw.",
    "attack": "A way to guess from the model's answers whether a record is a member.",
    "AUC": (
        "How often an attack picks the member out of one member and one non-member: 0.5 is guessing, 1 is certainty."
    ),
    "false alarm": "A non-member that an attack takes for a member. FPR: their share of all non-members.",
    "TPR at 1 % FPR": "The share of members that an attack finds while it takes 1 % of the non-members for members.",
    "interval": "Where the true figure lies with 95 % confidence. “At least” and “at most” name one end of it.",
}


def question(result: AuditResult) -> str:
    """What a reader wants to know."""
    students = result.compared
    if not students:
        return f"Does the {LONE if LONE in result.models else TEACHER} give away its training data?"
    return (
        f"{'Does the student' if len(students) == 1 else 'Do the students'} give away {_its(students)} training data?"
    )


def _its(students: Sequence[str]) -> str:
    return "its" if len(students) == 1 else "their"


def about(result: AuditResult) -> str:
    """Models with their sizes, records, attacks, day and version, in one line."""
    models = [
        f"{capital(name)} {short_name(one.name)} ({size(one.n_parameters)})" for name, one in result.models.items()
    ]
    parts = [
        f"{models[0]} → {', '.join(models[1:])}" if len(models) > 1 else models[0],
        f"{result.data.members:,} training records (“members”), {result.data.nonmembers:,} others (“non-members”)",
        counted(len(result.attacks), "attack"),
        *([f"measured {day(result.measured)}"] if result.measured else []),
        f"kdaudit {result.kdaudit_version}",
    ]
    return " · ".join(parts)


def short_name(name: str) -> str:
    """A Hub id as it is; of a longer path the last two parts."""
    parts = re.split(r"[/\\]", name.rstrip("/\\"))
    return name if len(parts) <= 2 else f"…/{'/'.join(parts[-2:])}"


def size(n_parameters: int) -> str:
    """`1.7 M`."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n_parameters >= unit:
            return f"{n_parameters / unit:.3g} {letter}"
    return str(n_parameters)


def verdict_card(run: Run, picture: Picture | None) -> VerdictCard:
    """The decision on one run."""
    result, verdict = run.result, run.result.verdict
    return VerdictCard(
        verdict.status,
        _title(result),
        verdict.sentence,
        _tone(result),
        plain=list(_plain(result)),
        cautions=list(_cautions(result)),
        steps=list(_steps(run)),
        picture=picture,
    )


def _of(gates: Sequence[GateResult], status: str) -> list[GateResult]:
    return [gate for gate in gates if gate.status == status]


def _tone(result: AuditResult) -> Status:
    """Green where somebody may relax, and only there."""
    status, gates = result.verdict.status, result.verdict.gates
    if status == "pass" and (_of(gates, "waived") or is_clear(result)):
        return "inconclusive"
    return "inconclusive" if status == "not_gated" and result.validity.status == "failed" else status


def _title(result: AuditResult) -> str:
    status, gates = result.verdict.status, result.verdict.gates
    limits = counted(len(gates), "limit")
    if status == "not_gated":
        return "No verdict: no limit was set"
    if result.validity.status == "failed":
        return "No verdict: the two sets differ in more than membership"
    if status == "fail":
        return f"Fail: {len(_of(gates, 'fail'))} of {limits} broken"
    if status == "inconclusive":
        return f"Inconclusive: {len(_of(gates, 'inconclusive'))} of {limits} not settled"
    if waived := _of(gates, "waived"):
        return f"Pass by waiver alone: {len(waived)} of {limits} broken"
    judged = {cell.attack for gate in gates for cell in gate.cells if cell.status != "not_applicable"}
    n_attacks = len(judged) or len(result.attacks)
    these = f"these {n_attacks} attacks" if n_attacks > 1 else "this attack"
    if is_clear(result):
        return f"Pass for {these}, but the leak is clear"
    return f"Pass for {these}: {'the limit is' if len(gates) == 1 else f'all {limits} are'} kept"


def _plain(result: AuditResult) -> Iterator[str]:
    """What is given away, in natural frequencies."""
    if result.validity.status == "failed":
        yield (
            "Members and non-members differ in more than membership, so none of these figures says what a model "
            "remembers."
        )
        return
    shown = {one.model: one for one in shown_models(result)}
    for model in result.targets:
        if model not in shown:
            yield f"No attack could be measured on the {model}."
            continue
        yield _frequency(result, shown[model], shown.get(TEACHER) if model in result.compared else None)


def right_guesses(result: AuditResult) -> str:
    """`student 93, teacher 88`: right guesses in 100 by the strongest attack on each model."""
    if result.validity.status == "failed":
        return "the two sets differ in more than membership"
    shown = sorted(shown_models(result), key=lambda one: one.model == TEACHER)
    return ", ".join(f"{one.model} {in_100(one.auc.value)}" for one in shown) or "nothing was measured"


def _frequency(result: AuditResult, one: Shown, teacher: Shown | None) -> str:
    limit = _limit_on(result, one)
    value = one.auc.value or 0.0
    held = [limit] if limit is not None else []
    beside = [f"{in_100(one.auc.low)} to {in_100(one.auc.high)}"] if one.auc.low is not None else []
    beside.append("chance is 50")
    beside += [f"your limit is {in_100(limit)}"] if limit is not None else []
    may_be = one.auc.low is not None and one.auc.low <= 0.5
    doubt = " This may be no more than chance." if may_be else ""
    own = "" if teacher is None or teacher.attack == one.attack else f", by {teacher.attack}, the strongest on it"
    against = "" if teacher is None else f" The teacher: {in_100(teacher.auc.value)}{own}."
    return (
        f"Shown one record that the {one.model} was trained on and one that it was not, an attacker picks the right "
        f"one {in_100(value, *held)} times in 100 ({'; '.join(beside)}).{doubt}{against}"
    )


def in_100(share: float | None, *others: float) -> str:
    """A share out of 100, with as many digits as tell it from the others, from chance and from certainty."""
    return "–" if share is None else distinct(100 * share, *(100 * other for other in others), 50.0, 100.0, digits=0)


def _limit_on(result: AuditResult, one: Shown) -> float | None:
    """The strictest limit on the AUC of the attack that is shown."""
    return min((gate.limit for gate in result.verdict.gates if _is_on(gate, one)), default=None)


def _is_on(gate: GateResult, one: Shown) -> bool:
    return gate.subject == one.model and gate.metric == "auc" and named_attack(gate) in (None, one.attack)


def _cautions(result: AuditResult) -> Iterator[str]:
    gates = result.verdict.gates
    for gate in _of(gates, "waived"):
        yield f"Waived though broken: {gate.gate}: {gate.reason}."
    if result.verdict.status == "pass" and is_clear(result) and not _of(gates, "waived"):
        yield "The limits are kept because they are lax: what is given away is far above chance."


def _steps(run: Run) -> Iterator[Step]:
    result, verdict = run.result, run.result.verdict
    if verdict.status == "not_gated":
        first = result.targets[0]
        folder = run.path.parent.as_posix()
        command = ["kdaudit", "report", folder, "--gate", f"{first}.auc <= 0.6"] if run.name else []
        yield Step(verdict.next_step, shlex.join(command))
        return
    broken = _of(verdict.gates, "fail") or _of(verdict.gates, "waived")
    leaking = [gate for gate in broken if gate.subject != TEACHER]
    if leaking and verdict.status == "fail":
        leaky = [model for model in result.targets if status_of(result, model) == "fail"]
        if leaky:
            yield Step(f"Do not publish the {' or the '.join(leaky)} as {'it is' if len(leaky) == 1 else 'they are'}.")
    if result.validity.status == "failed" and (n := result.validity.overlap.n_above_20_percent):
        shared = f"{counted(n, 'non-member')} {'shares' if n == 1 else 'share'}"
        yield Step(f"Take out what may be members in part: {shared} long runs of words with members.")
    for words in dict.fromkeys(gate.next_step for gate in verdict.gates if gate.status == verdict.status):
        if words:
            yield Step(words)
    if leaking and result.compared and (command := mitigate_command(result, leaking)):
        yield Step("Look for a student that is as useful and leaks less:", shlex.join(command))


def mitigate_command(result: AuditResult, broken: Sequence[GateResult]) -> list[str]:
    """`kdaudit mitigate` for the student of the first broken gate; empty where not all that it needs is known."""
    named = [gate.subject for gate in broken if gate.subject in result.compared]
    student = result.models[named[0] if named else result.compared[0]]
    start = ["--from", student.name] if student.distillation is not None else _as_given(result, student)
    if not start:
        return []
    gates = dict.fromkeys(str(gate) for gate in map(_gate_for_arms, result.verdict.gates) if gate is not None)
    limits = [part for gate in gates for part in ("--gate", gate.replace("<=", " <= "))]
    tuned = [
        part
        for name, attack in result.attacks.items()
        if name in MITIGATED_BY
        for parameter, value in attack.settings.items()
        for part in ("--set", f"{name}.{parameter}={written(value)}")
    ]
    return ["kdaudit", "mitigate", *start, "--method", "all", *tuned, *limits, "--out", "mitigated"]


def _as_given(result: AuditResult, student: AuditedModel) -> list[str]:
    """The options for a student that kdaudit did not distil."""
    records: Mapping[str, list[str]] = {
        option: [found.source for found in result.data.sources if found.option == option]
        for option in (MEMBERS, NONMEMBERS)
    }
    if student.reference is None or not all(records.values()):
        return []
    found = ["--teacher", _named(result.models[TEACHER]), "--student", _named(student.reference)]
    for option, name in ((MEMBERS, "--train"), (NONMEMBERS, NONMEMBERS)):
        found += [part for source in records[option] for part in (name, source)]
    for key, default in OWN_RECORDS.items():
        value = result.config.get(key, default)
        if value != default:
            found += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
    return found


def _named(model: AuditedModel) -> str:
    return f"{model.name}@{model.revision}" if model.revision else model.name


def _gate_for_arms(gate: GateResult) -> Gate | None:
    """The gate as a comparison of mitigations judges it; None where it has no such gate."""
    if gate.metric.endswith("-baseline"):
        return None
    found = parse_gate(gate.gate)
    if found.attack is not None and found.attack not in MITIGATED_BY:
        return None
    subject = found.subject if found.subject in (TEACHER, DIFFERENCE) else "student"
    return Gate(subject, found.metric, found.attack, found.limit)


def tiles(result: AuditResult) -> list[Tile]:
    """What is found at few false alarms, against the teacher, whether to trust it, and what the student is worth."""
    targets = [one for one in shown_models(result) if one.model in result.targets]
    worst = max(targets, key=lambda one: one.auc.value or 0.0, default=None)
    of_several = f" of the {worst.model}" if worst is not None and len(result.targets) > 1 else ""
    found = [_trust_tile(result)]
    if worst is not None and result.validity.status != "failed":
        found = [*_found_tile(result, worst, of_several), *_teacher_tile(result, worst, of_several), *found]
    return [*found, *_worth_tile(result, worst.model if worst is not None else result.targets[0])]


def _found_tile(result: AuditResult, one: Shown, of_several: str) -> Iterator[Tile]:
    settled = low_rate(result.attacks[one.attack], one.model)
    if settled is None:
        return
    rate, found = settled
    interval = (
        "" if found.low is None or found.high is None else f" ({_percent(found.low)} to {_percent(found.high)} %)"
    )
    yield Tile(
        f"{_percent(found.value)} %",
        f"of the members are found{of_several and f' in the {one.model}'} at {100 * rate:g} % false alarms, by "
        f"{one.attack}{interval}",
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else distinct(100 * share, 0.0, 100.0, digits=0)


def _teacher_tile(result: AuditResult, one: Shown, of_several: str) -> Iterator[Tile]:
    comparison = result.attacks[one.attack].comparison.get(one.model)
    found = comparison.auc if comparison is not None else None
    if found is None or found.value is None or found.low is None or found.high is None:
        return
    is_told = found.p_value_holm is not None and found.p_value_holm < SIGNIFICANT
    words = "more than the teacher" if found.value >= 0 else "less than the teacher"
    if not is_told:
        words = "beside the teacher: not told apart"
    yield Tile(
        f"{100 * found.value:+.1f} points",
        f"{words}{of_several}, AUC under {one.attack} ({100 * found.low:+.1f} to {100 * found.high:+.1f}), "
        f"p {p_equals(found)}",
    )


def _trust_tile(result: AuditResult) -> Tile:
    validity = result.validity
    if validity.status == "failed":
        return Tile("They differ", "the two sets differ in more than membership: no figure can be trusted", "fail")
    if validity.blind_auc.value is None:
        return Tile("Not known", "whether the two sets differ without any model", "inconclusive")
    blind = f"AUC {interval(validity.blind_auc)}"
    if doubts := list(doubts_about(validity)):
        return Tile("No check fails", f"read with care: {'; '.join(doubts)}", "inconclusive")
    return Tile("Comparable", f"no difference was found between the two sets without a model ({blind})", "pass")


def _worth_tile(result: AuditResult, student: str) -> Iterator[Tile]:
    if student not in result.compared:
        return
    made = result.models[student].distillation
    if made is None or made.utility is None or (own := made.utility.nll.get("student")) is None or own.value is None:
        yield Tile("Not measured", f"how useful the {student} is: its folder holds no held-out loss")
        return
    teacher = made.utility.nll.get(TEACHER)
    beside = "" if teacher is None or teacher.value is None else f"; the teacher's is {teacher.value:.3f}"
    yield Tile(f"{own.value:.3f} nats", f"held-out loss of the {student} per token, lower is more useful{beside}")


def terms(result: AuditResult) -> Terms:
    """The words of the first screen, and what each attack of the run does."""
    attacks = {name: ATTACKS[name].idea for name in result.attacks if name in ATTACKS and ATTACKS[name].idea}
    return Terms("What the words and the attacks mean", {**WORDS, **attacks})


def message(shown: Sequence[Shown], limits: Sequence[tuple[str, float]]) -> str:
    """The picture of the verdict in a sentence."""
    told = [f"{one.model} {in_100(one.auc.value)}" for one in shown]
    held = [words for words, _ in limits]
    return f"Right guesses in 100 by the strongest attack on each model: {', '.join([*told, *held])}; guessing 50."


def limit_lines(result: AuditResult) -> list[tuple[str, float]]:
    """The limits on the AUCs of the strongest attacks, with the words for each: `limit 60`."""
    by_limit: dict[float, list[str]] = {}
    for one in shown_models(result):
        if (limit := _limit_on(result, one)) is not None:
            by_limit.setdefault(limit, []).append(one.model)
    return [
        (f"limit {in_100(limit)}{'' if {*subjects} >= {*result.targets} else f' of {subjects[0]}'}", limit)
        for limit, subjects in sorted(by_limit.items())
    ]
