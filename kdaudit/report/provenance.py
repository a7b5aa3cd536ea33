"""What was measured with what: models, records and versions, down to their hashes."""

from __future__ import annotations

from collections.abc import Iterator

from kdaudit.report.content import Run
from kdaudit.report.tables import Table
from kdaudit.report.wording import ABSENT
from kdaudit.results import AuditedModel


def models(run: Run) -> Table:
    """Every checkpoint behind the figures, down to the hash of its weights."""
    head = ("model", "checkpoint", "parameters", "architecture", "precision", "fingerprint", "weights (SHA-256)")
    rows = [
        (
            label,
            _called(one),
            f"{one.n_parameters:,}",
            one.architecture or ABSENT,
            _precision(one),
            one.fingerprint or ABSENT,
            one.weights_sha256 or ABSENT,
        )
        for name, model in run.result.models.items()
        for label, one in _with_kin(name, model)
    ]
    return Table("Models", head, rows)


def _with_kin(name: str, model: AuditedModel) -> Iterator[tuple[str, AuditedModel]]:
    yield name, model
    if model.base is not None:
        yield f"{name}: base", model.base
    if model.reference is not None:
        yield from _with_kin(f"{name}: reference", model.reference)


def _called(model: AuditedModel) -> str:
    return f"{model.name} @ {model.revision[:12]}" if model.revision else model.name


def _precision(model: AuditedModel) -> str:
    parts = (model.load, model.dtype or model.stored_dtype, f"on {model.device}" if model.device else None)
    return " ".join(part for part in parts if part) or ABSENT


def data(run: Run) -> Table:
    """Where the records came from."""
    found = run.result.data
    rows = [
        (source.option, source.source, str(source.records), str(source.duplicates), source.sha256)
        for source in found.sources
    ]
    note = (
        f"Judged: {found.members} members and {found.nonmembers} non-members, {found.shots} shots; seed {found.seed}. "
        f"SHA-256 of all sets: {found.sha256}."
    )
    return Table("Records", ("set", "source", "records", "duplicates", "SHA-256"), rows, note)


def versions(run: Run) -> Table:
    """What measured, by version."""
    rows = [("kdaudit", run.result.kdaudit_version), *run.versions.items()]
    return Table("Versions", ("software", "version"), rows)
