"""An annex to a report: which figures of a run belong to which clause of a policy, and what was not done.

It maps, and says of nothing that it complies.

Source: EDPB, Opinion 28/2024 on certain data protection aspects related to the processing of personal data in the
context of AI models, 17 December 2024, paragraphs 46, 55 and 58; OWASP, AI Security Verification Standard 1.0, C11.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kdaudit.attacks import ATTACKS
from kdaudit.config import TEACHER
from kdaudit.metrics import METRICS
from kdaudit.report.blocks import Block, Detail, Paragraph, Section, Table
from kdaudit.report.headline import auc_of_chosen, is_simultaneous, strongest
from kdaudit.report.reading import Run
from kdaudit.report.text import ABSENT, counted, interval
from kdaudit.results import AuditedModel, AuditResult, Distillation
from kdaudit.results.seal import MANIFEST, RESULTS

NOT_DONE = "not done: no such attack in kdaudit"
NOT_SEEN = "not seen: a matter of the deployment"
NOT_RECORDED = "not recorded in the files of the run"
NOT_DECLARED = "not declared: --release says it"
RELEASES: Mapping[str, str] = {
    "open-weights": "open weights: an attacker holds the model, and so all that the attacks here read",
    "logprobs-api": (
        "an interface that gives log-probabilities of given text: attacks that read the whole distribution at a token, "
        "as the table of attackers says, know more than such an attacker"
    ),
    "text-api": "an interface that gives text alone: every attack here knows more than such an attacker",
}
"""What an attacker will have, by the word of --release."""
CAVEAT = (
    "This annex says which figures of this run belong to which clause. It does not say that a model is anonymous, nor "
    "that a rule is kept: that takes facts that no measurement holds. A test that finds little is evidence about the "
    "attacks that were run, on these records, and about no others."
)


READS: Mapping[str, frozenset[str]] = {
    "the whole distribution": frozenset({"min-k++", "gap-k"}),
    "that of the most likely token": frozenset({"gap-k", "ez"}),
}
"""What some attacks read of a model besides the log-probabilities of the tokens that stand in the text."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause, and where a run has something to say about it."""

    name: str
    asks: str
    """What it is about, in a few words of our own."""
    figures: Callable[[Run, str], str]
    """The facts of a run and a release."""
    lacking: str
    """What this run does not show of it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A text whose clauses figures are mapped to."""

    title: str
    clauses: Sequence[Clause]


def annexes(run: Run, policies: Sequence[str], release: str) -> list[Section]:
    """The annex of a run: the clauses of each policy, then what all of them ask for; keys to be put behind the run's.

    Args:
        run: whose figures they are.
        policies: names in `POLICIES`; none gives no annex.
        release: one of `RELEASES`, or empty where nobody declared it.
    """
    parts = [(f"annex-{name}", POLICIES[name].title, [*_clauses(run, POLICIES[name], release)]) for name in policies]
    if parts:
        fields = Table("Fields", ("field", "this run"), [*_fields(run, release)], detail=Detail.DOCUMENT)
        blocks: list[Block] = [fields, _attackers(run.result), _hashes(run)]
        parts.append(("annex", "what a file on this audit must hold", blocks))
    return [
        Section(f"Annex: {title}", key, blocks, folded_in="markdown", link="Annex" if not place else "",
                detail=Detail.DOCUMENT)
        for place, (key, title, blocks) in enumerate(parts)
    ]  # fmt: skip


def _clauses(run: Run, policy: Policy, release: str) -> Iterator[Block]:
    yield Paragraph(CAVEAT, "strong", Detail.DOCUMENT)
    rows = [(f"{one.name}: {one.asks}", one.figures(run, release), one.lacking) for one in policy.clauses]
    head = ("clause, in our words", "figures of this run", "not shown by this run")
    yield Table("Clauses", head, rows, detail=Detail.DOCUMENT)


def _fields(run: Run, release: str) -> Iterator[tuple[str, str]]:
    result, data = run.result, run.result.data
    for name, model in result.models.items():
        yield name, _checkpoint(model)
        if model.reference is not None:
            yield f"{name}: its reference", _checkpoint(model.reference)
        if name != TEACHER:
            yield f"{name}: how it was made", _made(model.distillation)
    yield "training tokens per parameter", NOT_RECORDED
    yield "release", _release(run, release)
    yield "records", f"{data.members} members, {data.nonmembers} non-members"
    yield "where non-members come from", _sources(result)
    yield "told apart without a model", f"AUC {interval(result.validity.blind_auc)} ({result.validity.blind_name})"
    yield "reference alone", _reference_alone(result)
    yield "false alarms that were realised", _realised(result)
    yield "subgroups of people", "not done: records are judged one by one, and no group of them is looked at"
    yield "before and after a mitigation", "not part of this run: kdaudit mitigate compares"
    yield "seed and versions", ", ".join([f"seed {data.seed}", f"kdaudit {result.kdaudit_version}", *_versions(run)])
    yield "day of the measurement", result.measured or NOT_RECORDED
    yield "operator", NOT_RECORDED


def _hashes(run: Run) -> Table:
    """By which the files behind the figures can be known again."""
    found = {}
    for name, model in run.result.models.items():
        found[f"weights of {name}"] = model.weights_sha256
        if model.reference is not None:
            found[f"weights of the reference of {name}"] = model.reference.weights_sha256
    found["records"] = run.result.data.sha256
    found[RESULTS] = run.sha256
    found[MANIFEST] = run.seal
    note = (
        "kdaudit report --verify compares the files of a run with the hashes in its manifest, and prints the last one."
    )
    rows = [(name, digits or NOT_RECORDED) for name, digits in found.items()]
    return Table("SHA-256", ("of", "digits"), rows, note, hashes=[1], detail=Detail.DOCUMENT)


def _attackers(result: AuditResult) -> Table:
    """What every attack that was asked for wants, knows and reads, and whether it ran."""
    rows = []
    for name, found in result.attacks.items():
        known = ATTACKS.get(name)
        knows = "the record in full"
        reads = "log-probabilities of the record's tokens"
        reads += "".join(f", and {words} at each of them" for words, names in READS.items() if name in names)
        if known is not None and known.needs_shots:
            knows += ", and records that the model never saw"
        if known is not None and known.needs_reference:
            reads += ", and those of a model that saw no member"
        reasons = dict.fromkeys(cell.reason for cell in found.cells.values() if cell.status != "ok")
        ran = [model for model, cell in found.cells.items() if cell.status == "ok"]
        told = f"on {', '.join(ran)}" if ran else "no"
        rows.append((name, knows, reads, told + "".join(f"; else: {reason}" for reason in reasons)))
    missing = [name for name in ATTACKS if name not in result.attacks]
    note = (
        "The goal of each: to tell whether a record was in the training data. "
        + (f"Attacks of kdaudit that were not asked for: {', '.join(missing)}. " if missing else "")
        + "Extraction of training data, attribute inference, model inversion and reconstruction are not done at all."
    )
    return Table("Attackers", ("attack", "knows", "reads", "ran"), rows, note, detail=Detail.DOCUMENT)


def _checkpoint(model: AuditedModel) -> str:
    parts = [model.name + (f" @ {model.revision[:12]}" if model.revision else ""), f"{model.n_parameters:,} parameters"]
    return ", ".join(parts)


def _made(how: Distillation | None) -> str:
    if how is None:
        return "not known: its folder holds no manifest of kdaudit distill"
    figures = {
        "hard weight": how.hard_weight, "temperature": how.temperature, "epochs": how.epochs, "steps": how.steps,
        "seed": how.seed,
    }  # fmt: skip
    known = [f"{name} {value:g}" for name, value in figures.items() if value is not None]
    return ", ".join([how.objective or "objective not recorded", *known])


def _release(run: Run, release: str) -> str:
    return RELEASES[release] if release else NOT_DECLARED


def _sources(result: AuditResult) -> str:
    found = [
        f"{one.source} ({counted(one.records, 'record')}, {counted(one.duplicates, 'duplicate')} left out)"
        for one in result.data.sources
        if "nonmember" in one.option
    ]
    return "; ".join(found) or "; ".join(one.source for one in result.data.sources) or NOT_RECORDED


def _reference_alone(result: AuditResult) -> str:
    told = [
        f"{model}: {', '.join(f'{attack} {interval(found)}' for attack, found in by_attack.items())}"
        for model, by_attack in result.validity.reference_alone.items()
    ]
    return "; ".join(told) or "not measured: no reference was given"


def _realised(result: AuditResult) -> str:
    """Under the strongest attack on each target, at every rate that it was measured at."""
    told = []
    for model in result.targets:
        name = strongest(result, model)
        figures = result.attacks[name].cells[model].figures if name else {}
        for metric in METRICS.values():
            found = figures.get(metric.name)
            if metric.chance is not None and found is not None and found.realised_fpr is not None:
                told.append(f"{model}, {name}, {metric.short}: {found.realised_fpr:.4f}")
    return "; ".join(told) or "not measured"


def _versions(run: Run) -> list[str]:
    return [f"{name} {version}" for name, version in run.versions.items()]


def _membership(run: Run, release: str) -> str:
    """The strongest attack on every model, by AUC, by accuracy and at few false alarms, and what the limits say."""
    result = run.result
    told = []
    for model in result.models:
        name = strongest(result, model)
        if name is None:
            told.append(f"{model}: no attack could be measured")
            continue
        kind = "simultaneous " if is_simultaneous(result, model) else ""
        told.append(f"{model}: {name}, AUC {interval(auc_of_chosen(result, name, model))} ({kind}95 % interval)")
        figures = result.attacks[name].cells[model].figures
        for metric, words in (
            ("balanced_accuracy", "balanced accuracy"),
            ("tpr@0.01", "members found at 1 % false alarms"),
        ):
            found = figures.get(metric)
            if found is not None and found.value is not None:
                told.append(f"{words} {interval(found)}")
    if result.validity.status == "failed":
        told.append("the two sets differ in more than membership, so no figure says anything about membership")
    return "; ".join([*told, f"guessing has an AUC and an accuracy of 0.5; {_verdict(run)}"])


def _verdict(run: Run) -> str:
    verdict = run.result.verdict
    return (
        f"verdict on {counted(len(verdict.gates), 'limit')}: {verdict.status}" if verdict.gates else "no limit was set"
    )


def _documented(run: Run, release: str) -> str:
    ran = [name for name, found in run.result.attacks.items() if any(c.status == "ok" for c in found.cells.values())]
    return (
        f"{counted(len(ran), 'attack')} with what each knows and reads (table below), checks of the records, power, "
        f"limits and {_verdict(run)}, command, seed, versions and hashes"
    )


def _nothing(run: Run, release: str) -> str:
    return ABSENT


POLICIES: Mapping[str, Policy] = {
    "edpb": Policy(
        "EDPB Opinion 28/2024",
        (
            Clause("paragraph 46", "the context in which a model is released and used", _release,
                   "who will query it, and how often"),
            Clause("paragraph 55 (i)", "tests against membership inference", _membership,
                   "attackers who train models of their own"),
            Clause("paragraph 55 (i)", "tests against attribute inference", _nothing, NOT_DONE),
            Clause("paragraph 55 (ii)", "tests against exfiltration", _nothing, NOT_DONE),
            Clause("paragraph 55 (iii)", "tests against regurgitation of training data", _nothing, NOT_DONE),
            Clause("paragraph 55 (iv)", "tests against model inversion", _nothing, NOT_DONE),
            Clause("paragraph 55 (v)", "tests against reconstruction", _nothing, NOT_DONE),
            Clause("paragraph 58", "documents: threat models, measures that were taken, tests and their results",
                   _documented, "measures in data, training and deployment"),
        ),
    ),
    "aisvs": Policy(
        "OWASP AISVS 1.0, C11.2",
        (
            Clause("11.2.1", "sensitive attributes that a model infers are not put out directly", _nothing, NOT_SEEN),
            Clause("11.2.2", "limits on the rate of queries", _nothing, NOT_SEEN),
            Clause("11.2.3", "calibrated outputs, against too much confidence", _nothing,
                   "not measured"),
            Clause("11.2.4", "differentially private optimisation on sensitive data", _nothing, NOT_RECORDED),
            Clause("11.2.5", "simulated membership inference does no better than guessing", _membership,
                   "attackers who train models of their own"),
        ),
    ),
}  # fmt: skip
