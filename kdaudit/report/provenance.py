"""What was measured with what: models, records and versions, down to their hashes; and what a student is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdaudit.report.blocks import Detail, Table
from kdaudit.report.text import ABSENT, counted, interval
from kdaudit.results import (
    AuditedModel,
    AuditedRecords,
    AuditResult,
    ComparedRecords,
    Distillation,
    Source,
    Utility,
)
from kdaudit.results.file import decode


def models(found: Mapping[str, AuditedModel]) -> Table:
    """Every checkpoint behind the figures, down to the hash of its weights, by the names of models."""
    head = ("model", "checkpoint", "parameters", "precision", "architecture", "fingerprint", "weights (SHA-256)")
    rows = [
        (
            label,
            _called(one),
            f"{one.n_parameters:,}",
            _precision(one),
            one.architecture or ABSENT,
            one.fingerprint or ABSENT,
            one.weights_sha256 or ABSENT,
        )
        for name, model in found.items()
        for label, one in _with_kin(name, model)
    ]
    return Table("Models", head, rows, right=[2], hashes=[5, 6], extra=[4, 5, 6], detail=Detail.DOCUMENT)


def _with_kin(name: str, model: AuditedModel) -> Iterator[tuple[str, AuditedModel]]:
    yield name, model
    if model.base is not None:
        yield f"{name}: base", _measured_as(model.base, model)
    if model.reference is not None:
        yield from _with_kin(f"{name}: reference", _measured_as(model.reference, model))


def _measured_as(kin: AuditedModel, model: AuditedModel) -> AuditedModel:
    """A run has one precision and one device for all of its models, whatever they are stored in."""
    return replace(kin, dtype=model.dtype, device=model.device)


def _called(model: AuditedModel) -> str:
    name = f"{model.name} @ {model.revision[:12]}" if model.revision else model.name
    return f"{name} (scored in {model.scored_in.run})" if model.scored_in else name


def _precision(model: AuditedModel) -> str:
    parts = (model.load, model.dtype or model.stored_dtype, f"on {model.device}" if model.device else None)
    return " ".join(part for part in parts if part) or ABSENT


def data(found: AuditedRecords) -> Table:
    """Where the records of an audit came from."""
    judged = f"{found.members} members, {found.nonmembers} non-members, {found.shots} shots; seed {found.seed}"
    return _records(found.sources, judged, found.sha256)


def compared_data(found: ComparedRecords) -> Table:
    """Where those of a comparison of mitigations came from."""
    return _records(found.sources, f"{found.members} members, {found.nonmembers} held-out records", found.sha256)


def _records(sources: Sequence[Source], judged: str, sha256: str) -> Table:
    rows = [
        (source.option, source.source, str(source.records), str(source.duplicates), source.sha256) for source in sources
    ]
    note = f"Judged: {judged}. SHA-256 of all sets: {sha256}."
    head = ("set", "source", "records", "duplicates", "SHA-256")
    return Table("Records", head, rows, note, right=[2, 3], hashes=[4], extra=[4], detail=Detail.DOCUMENT)


def versions(kdaudit_version: str, libraries: Mapping[str, str]) -> Table:
    """What measured, by version."""
    rows = [("kdaudit", kdaudit_version), *libraries.items()]
    return Table("Versions", ("software", "version"), rows, detail=Detail.DOCUMENT)


def utility(result: AuditResult) -> Iterator[Table]:
    """Per student whose folder says how it was made: what it is worth on held-out records."""
    for name, model in result.models.items():
        made = model.distillation
        if made is not None and made.utility is not None:
            yield utility_table(name, made.utility, _how(made))


def utility_table(student: str, found: Utility, how: str = "") -> Table:
    """What a student is worth beside its teacher and its start; `how` says how it was made."""
    names = list(dict.fromkeys([*found.nll, *found.bits_per_byte, *found.perplexity]))
    rows = [
        (words, *(interval(figures.get(name)) for name in names))
        for words, figures in (
            ("loss, nats per token", found.nll),
            ("bits per byte", found.bits_per_byte),
            (found.perplexity_name, found.perplexity),
        )
    ]
    note = f"{counted(found.n_records, 'held-out record')}, {counted(found.n_tokens, 'token')}; lower is better."
    if found.agreement is not None:
        top1, forward_kl = interval(found.agreement.top1), interval(found.agreement.forward_kl)
        note += f" Share of tokens with the teacher's first choice: {top1}; forward KL: {forward_kl} nats per token."
    title = f"Held-out utility of {student} with 95 % interval"
    return Table(title, ("figure", *names), rows, f"{note}{how}", detail=Detail.DOCUMENT)


def student_utility(content: Mapping[str, Any]) -> Table:
    """The utility in a student's manifest, shown where it was measured."""
    return replace(utility_table("student", decode(Utility, content, "utility")), detail=Detail.TERMINAL)


def _how(made: Distillation) -> str:
    if not made.objective or made.epochs is None:
        return ""
    return f" Distilled with {made.objective}, {counted(made.epochs, 'epoch')}."
