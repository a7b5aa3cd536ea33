"""The loose parts of a result with names and types, so that no template meets a key that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdaudit.metrics.estimate import Estimate
from kdaudit.results import AuditResult
from kdaudit.results.file import decode


@dataclass(frozen=True, slots=True)
class Agreement:
    """How close a student is to its teacher on held-out records."""

    top1: Estimate
    """Share of tokens whose most likely prediction is the teacher's."""
    forward_kl: Estimate
    """Nats per token."""


@dataclass(frozen=True, slots=True)
class Utility:
    """What a student is worth, on records that no model was trained on."""

    n_records: int
    n_tokens: int
    nll: Mapping[str, Estimate]
    """By model (teacher, start, student): nats per token."""
    bits_per_byte: Mapping[str, Estimate]
    perplexity: Mapping[str, Estimate]
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a student was made, where its folder says so."""

    objective: str = ""
    epochs: float | None = None
    utility: Utility | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model, or what it started from."""

    name: str
    n_parameters: int
    fingerprint: str = ""
    revision: str | None = None
    weights_sha256: str | None = None
    architecture: str | None = None
    stored_dtype: str | None = None
    load: str | None = None
    """4bit or 8bit where it was quantised."""
    dtype: str | None = None
    """Of the measurement."""
    device: str | None = None
    base: Checkpoint | None = None
    """Of an adapter."""
    reference: Checkpoint | None = None
    distillation: Distillation | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A file or data set that records came from."""

    option: str
    source: str
    records: int
    duplicates: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Data:
    """The records that were judged."""

    members: int
    nonmembers: int
    shots: int
    sha256: str
    seed: int
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Power:
    """What the sizes could have told apart; `smallest_detectable_auc` is None where they are too small."""

    smallest_detectable_auc: float | None
    level: float = 0.95
    power: float = 0.8
    cells: int | None = None
    """Cells that share the level; None in files of versions that knew of one alone."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much text non-members share with members."""

    n: int
    """Length of a shared run of words."""
    max_share: float | None = None
    n_above_20_percent: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything in a result that is not typed there."""

    models: Mapping[str, Checkpoint]
    data: Data
    power: Power
    overlap: Overlap


def read_facts(result: AuditResult) -> Facts:
    """The loose parts of `result`.

    Raises:
        ValueError: a key is missing or a value is of another kind; the message says where.
    """
    if "teacher" not in result.models:
        raise ValueError("models.teacher is missing")
    loose = {
        "models": result.models,
        "data": result.data,
        "power": result.power,
        "overlap": result.validity.overlap,
    }
    found: Facts = decode(Facts, loose, "")
    return found
