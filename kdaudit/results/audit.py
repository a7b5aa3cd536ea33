"""What an audit found, part by part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from kdaudit.config import TEACHER
from kdaudit.metrics.association import Quarter
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.excess import Slopes
from kdaudit.metrics.strongest import Strongest
from kdaudit.metrics.texts import Overlap

MODEL_NAME = re.compile(r"teacher|model|student(-([2-9]|[1-9][0-9]+))?")
"""What an audited model may be called: teacher, student, student-2, student-3; model where it is audited alone."""


BY_METRIC: Mapping[str, str] = {"by_metric": "level"}
"""Marks a field whose entries stand in the file at the keys of their metrics."""
CHANGE_BY_METRIC: Mapping[str, str] = {"by_metric": "change"}
"""Marks one whose entries stand beside those: auc_change, and under tpr_change 0.01."""


def check_day(text: str) -> None:
    """A ValueError where a text is neither empty nor a day such as 2030-01-31."""
    if text:
        try:
            date.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"measured is {text!r:.40}, which is not a day") from error


@dataclass(frozen=True, slots=True)
class Curve:
    """A ROC curve of at most 200 points with a pointwise 95 % band on the TPR."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    tpr_low: tuple[float, ...]
    tpr_high: tuple[float, ...]

    def __post_init__(self) -> None:
        """A ValueError where the four do not have one length."""
        if len({len(self.fpr), len(self.tpr), len(self.tpr_low), len(self.tpr_high)}) > 1:
            raise ValueError("a curve has more points on one axis than on another")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Scores of members and non-members over shared bins; no bin holds fewer than 5 records."""

    edges: tuple[float, ...]
    """(bins + 1,), rising."""
    members: tuple[int, ...]
    nonmembers: tuple[int, ...]

    def __post_init__(self) -> None:
        """A ValueError where the counts do not fit the edges."""
        n_bins = max(len(self.edges) - 1, 0)
        if {len(self.members), len(self.nonmembers)} != {n_bins}:
            raise ValueError(f"a histogram of {n_bins} bins has counts of others")
        if any(right <= left for left, right in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("the edges of a histogram do not rise")


@dataclass(frozen=True, slots=True)
class PaperCompat:
    """The paper's in-sample figures: threshold fitted on the records that it judges. Never gated."""

    label: str
    auc: float
    balanced_accuracy: float
    member_success: float
    nonmember_success: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One attack on one model."""

    status: Literal["ok", "not_applicable"]
    reason: str = ""
    figures: Mapping[str, Estimate] = field(default_factory=dict, metadata=BY_METRIC)
    """By the name of a metric (`kdaudit.metrics.METRICS`); the file holds each at the metric's own keys."""
    unscored: int = 0
    """Records (both classes) whose score is NaN."""
    nulls: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    """By null, then metric (auc, tpr@0.001, tpr@0.01, tpr@0.1, balanced_accuracy): the attack minus the null, paired
    over records, with an interval whose ends are one-sided 95 % bounds. `start` is what the model started from (by the
    same attack where it needs no more than a plain pass of one model, else by `loss`), `blind` the classifier that sees
    no model. Without a start there is only `blind`; a file of an earlier version has neither."""
    paper_compat: PaperCompat | None = None

    @property
    def auc(self) -> Estimate | None:
        """The one metric that every attack has."""
        return self.figures.get("auc")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attack, a student minus the teacher, paired over records."""

    status: Literal["ok", "not_applicable"]
    reason: str = ""
    figures: Mapping[str, Difference] = field(default_factory=dict, metadata=BY_METRIC)
    """By the name of a metric, as in a cell."""

    @property
    def auc(self) -> Difference | None:
        """The one metric that every attack has."""
        return self.figures.get("auc")


@dataclass(frozen=True, slots=True)
class TwoByTwo:
    """Teacher detects x student detects at each model's calibrated threshold, evaluation records of one class."""

    both: int
    teacher_only: int
    student_only: int
    neither: int


@dataclass(frozen=True, slots=True)
class AttackResult:
    """All that was measured for one attack."""

    version: int
    requested: bool
    """Asked for by name, not as part of a group."""
    cells: Mapping[str, Cell]
    """By model name: teacher, student, student-2."""
    comparison: Mapping[str, Comparison]
    """By student."""
    curves: Mapping[str, Curve]
    histograms: Mapping[str, Histogram]
    two_by_two: Mapping[str, Mapping[str, TwoByTwo]]
    """By student, then "members" and "nonmembers"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By parameter: a number or a list of numbers, where it is another than the attack's default."""


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
    plan: str = ""
    """The target plan that the records were shown by; "" where an earlier version did not say it: causal."""

    @property
    def perplexity_name(self) -> str:
        """What the exponential of the loss is called: models that see both sides of a token have no perplexity."""
        return "pseudo-perplexity" if self.plan.startswith(("masked", "seq2seq spans")) else "perplexity"


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a student was made, where its folder says so."""

    objective: str | None = None
    hard_weight: float | None = None
    temperature: float | None = None
    epochs: float | None = None
    seed: int | None = None
    steps: int | None = None
    teacher_saw: str | None = None
    utility: Utility | None = None


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """The run that a teacher's numbers were taken from."""

    run: str
    """The name of its folder."""
    kdaudit_version: str
    sha256: str
    """Over its scores.parquet and its likelihoods.parquet."""


@dataclass(frozen=True, slots=True)
class AuditedModel:
    """A model, or what it started from."""

    name: str
    n_parameters: int
    revision: str | None = None
    fingerprint: str = ""
    weights_sha256: str | None = None
    architecture: str | None = None
    stored_dtype: str | None = None
    context: int | None = None
    """Tokens that it reads at once; None where nothing says so."""
    load: str | None = None
    """4bit or 8bit where it was quantised."""
    base: AuditedModel | None = None
    """What an adapter is put on; None for a whole model."""
    dtype: str | None = None
    """In which the model was measured, as `device`; None for a start or a base."""
    device: str | None = None
    reference: AuditedModel | None = None
    distillation: Distillation | None = None
    kind: str = "causal"
    """causal, masked or seq2seq; files of earlier versions know causal models alone."""
    scored_in: EarlierRun | None = None
    """None where this run asked the model itself."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file or data set that records came from."""

    option: str
    source: str
    records: int
    duplicates: int
    sha256: str


@dataclass(frozen=True, slots=True)
class AuditedRecords:
    """The records that were judged."""

    members: int
    """Records that were scored, as `nonmembers` and `shots`."""
    nonmembers: int
    shots: int
    sha256: str
    sources: tuple[Source, ...] = ()
    shots_used: int = 0
    """Those that fit into half of the window."""
    window_tokens: int | None = None
    """Tokens that every model read at most."""
    cut: int = 0
    """Texts that were longer."""
    calibration_share: float | None = None
    seed: int | None = None
    masking: str = ""
    """The mask plan and what it hides of a text, in words; "" where nothing is hidden."""
    passes: Mapping[str, int] = field(default_factory=dict)
    """By model: readings of a text over all views; empty in files of earlier versions."""


@dataclass(frozen=True, slots=True)
class ComparedRecords:
    """The records of a comparison of mitigations."""

    members: int
    nonmembers: int
    sha256: str
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Power:
    """What the sizes of a run could have told apart."""

    smallest_detectable_auc: float | None
    """None where no AUC is large enough."""
    level: float = 0.95
    power: float = 0.8
    n: int | None = None
    """Members behind it, as `m` non-members."""
    m: int | None = None
    cells: int | None = None
    """Cells that share the level; None in files of versions that knew of one alone."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether members and non-members can be told apart without any model, or by one that saw neither."""

    status: Literal["ok", "failed"]
    blind_auc: Estimate
    blind_name: str
    """Which blind classifier is the strongest one."""
    blind: Mapping[str, Estimate]
    duplicates: Mapping[str, int]
    overlap: Overlap
    warnings: tuple[str, ...]
    reference_alone: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """By audited model with a reference, then by attack: the AUC of the reference attacked alone."""
    reasons: tuple[str, ...] = ()
    """Why it failed, each with its figure; a file of an earlier version has none."""
    formats: tuple[str, ...] = ()
    """Trivial formats in which the sets differ, each with its shares and how to mend it."""
    blind_learnt_from: int | None = None
    """How many records the blind classifiers learnt from, where these are not all; they score all, out of fold."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Over one class of records: how sure the teacher was of the text, and what the student made of that."""

    n: int
    teacher_mean_probability: Estimate
    """The mean probability of the true token."""
    teacher_top_choice_share: Estimate
    """A share of the tokens."""
    student_gain: Estimate
    """Nats per token over the student's start, or its own mean log-likelihood where there is none to compare with."""
    correlation: Estimate
    """Spearman's, of the teacher's mean probability and the gain, at equal loss of the start where there is one."""


@dataclass(frozen=True, slots=True)
class PairedDetections:
    """Who detects which records by one attack."""

    attack: str
    members: TwoByTwo
    nonmembers: TwoByTwo


@dataclass(frozen=True, slots=True)
class Supervision:
    """Mixed supervision of one student: whether it took more from its teacher on members than on non-members."""

    gain_over: Literal["start", "nothing"]
    gain_note: str
    """Why the gain is over nothing, or an empty string."""
    members: Alignment
    nonmembers: Alignment
    quarters: tuple[Quarter, ...]
    """Gain of members minus that of non-members, by quarter of the teacher's mean probability."""
    slopes: Slopes
    """The student's excess per nat of the teacher's."""
    two_by_two: PairedDetections | None


@dataclass(frozen=True, slots=True)
class CellFinding:
    """What one cell says about a gate that covers it."""

    attack: str
    label: str
    """The attack, with the student's name where a difference covers several."""
    status: Literal["pass", "fail", "inconclusive", "not_applicable"]
    reason: str = ""
    """Why it neither passes nor fails."""
    value: float | None = None
    bound: float | None = None
    """The one-sided bound that settled the status."""
    bound_side: Literal["lower", "upper"] | None = None
    level: float | None = None
    next_step: str = ""
    """What to do about this cell; empty where it passes, and in files of earlier versions."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate as judged."""

    gate: str
    """The gate in its normal form, for example `student.auc[loss]<=0.6`."""
    status: Literal["pass", "fail", "inconclusive", "waived"]
    reason: str
    subject: str
    metric: str
    limit: float
    deciding_attack: str | None = None
    """The attack, with the student's name where a difference covers several."""
    value: float | None = None
    bound: float | None = None
    """The one-sided bound of the deciding cell that settled the status."""
    bound_side: Literal["lower", "upper"] | None = None
    level: float | None = None
    skipped: tuple[str, ...] = ()
    """Cells that were not applicable, each `attack: reason`."""
    cells: tuple[CellFinding, ...] = ()
    """Every cell that the gate covers. A failed gate has a failing one."""
    next_step: str = ""
    """What to do now; empty for a pass."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All gates together."""

    status: Literal["pass", "fail", "inconclusive", "not_gated"]
    gates: tuple[GateResult, ...] = ()
    n_cells: int = 0
    """K of the correction: scored cells over all gates of the run."""
    sentence: str = ""
    """The verdict in one sentence for a reader."""
    next_step: str = ""
    """What to do now, where something is to be done."""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Everything in results.json."""

    kdaudit_version: str
    models: Mapping[str, AuditedModel]
    data: AuditedRecords
    attacks: Mapping[str, AttackResult]
    validity: Validity
    power: Power
    mixed_supervision: Mapping[str, Supervision]
    """By student."""
    verdict: Verdict
    config: Mapping[str, Any]
    """Options by name, each of the type that it has on the command line."""
    strongest: Mapping[str, Strongest] = field(default_factory=dict)
    """By model; empty in files of older versions."""
    measured: str = ""
    """The day, as 2030-01-31; empty in files of older versions."""

    def __post_init__(self) -> None:
        """A ValueError where the day is none."""
        check_day(self.measured)

    @property
    def has_teacher(self) -> bool:
        """Whether the other models are compared with one."""
        return TEACHER in self.models

    @property
    def targets(self) -> list[str]:
        """The models that the audit is about: the students, or one model alone; the teacher where it has no student."""
        return [name for name in self.models if name != TEACHER] or list(self.models)

    @property
    def compared(self) -> list[str]:
        """The students of a teacher."""
        return [name for name in self.models if name != TEACHER] if self.has_teacher else []
