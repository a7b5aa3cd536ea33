"""The loose parts of a result with names and types, and the metrics of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.results import AuditResult, Cell, Comparison, Validity
from kdaudit.results.file import decode
from kdaudit.results.mitigation import Leak


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
class Typed:
    """Everything in a result that is not typed there."""

    models: Mapping[str, Checkpoint]
    data: Data
    power: Power
    overlap: Overlap


def typed(result: AuditResult) -> Typed:
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
        "overlap": result.validity.overlap or {"n": 0},
    }
    found: Typed = decode(Typed, loose, "")
    return found


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of one attack on one model."""

    name: str
    title: str
    short: str
    note: str = ""
    lowest: float = 0.0
    highest: float = 1.0
    chance: float | None = None
    group: str = ""
    is_headline: bool = True
    beside: str = ""
    has_difference: bool = True

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest value."""
        return self.lowest, self.highest

    @property
    def difference_range(self) -> tuple[float, float]:
        """The least and the largest difference of two values."""
        width = self.highest - self.lowest
        return -width, width


def _rate(key: str, words: str) -> Metric:
    return Metric(
        f"tpr@{key}",
        f"true positive rate at {words} false positive rate",
        f"TPR at {words} FPR",
        "Of all records, with exact bounds. The threshold is the highest score that leaves no more than this share of "
        "non-members above it; the realised rate is the share that it does leave.",
        chance=float(key),
        group="tpr",
        is_headline=key != "0.001",
    )


SUCCESS = "At the same threshold. A rise of one with an equal fall of the other is a shifted threshold, not a leak."
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", "AUC", "AUC", "The chance that a random member is scored above a random non-member.", chance=0.5),
        _rate("0.001", "0.1 %"),
        _rate("0.01", "1 %"),
        _rate("0.1", "10 %"),
        Metric(
            "balanced_accuracy",
            "balanced accuracy",
            "balanced accuracy",
            "Half of member success and non-member success at the threshold of the calibration part; 0.5 is guessing.",
            chance=0.5,
            is_headline=False,
        ),
        Metric("member_success", "member success at the calibrated threshold", "member success", SUCCESS,
               beside="nonmember_success"),
        Metric("nonmember_success", "non-member success at the calibrated threshold", "non-member success", SUCCESS,
               beside="member_success"),
    )
}  # fmt: skip


def levels(part: Cell | Leak) -> Mapping[str, Estimate]:
    """Figures by metric."""
    return _by_metric(part)


def changes(part: Comparison | Leak) -> Mapping[str, Difference]:
    """Differences by metric."""
    if isinstance(part, Leak):
        found = {} if part.auc_change is None else {"auc": part.auc_change}
        return {**found, **{f"tpr@{rate}": one for rate, one in part.tpr_change.items()}}
    return _by_metric(part)


def _by_metric(part: Cell | Comparison | Leak) -> dict[str, Any]:
    found: dict[str, Any] = {"auc": part.auc} | {f"tpr@{rate}": one for rate, one in part.tpr_at_fpr.items()}
    if not isinstance(part, Leak):
        found |= {name: getattr(part, name) for name in ("balanced_accuracy", "member_success", "nonmember_success")}
    return {name: found[name] for name in METRICS if found.get(name) is not None}


def overlap(validity: Validity) -> Overlap:
    """Text that the sets share; a file of a comparison may hold nothing about it."""
    found: Overlap = decode(Overlap, validity.overlap or {"n": 0}, "validity.overlap")
    return found
