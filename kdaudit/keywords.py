"""Options as keywords, written by `pytest --update-golden` from the fields of the configurations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict


class AuditKeywords(TypedDict, total=False):
    """The further options of `kdaudit.audit`."""

    manifest: str | Path | None
    key_file: str | Path | None
    text_field: str
    id_field: str
    n_shots: int
    teacher_reference: str | None
    student_references: str | Sequence[str | None]
    attacks: str | Sequence[str]
    gates: str | Sequence[str]
    overwrite: bool
    seed: int
    limit: int | None
    max_tokens: int | None
    calibration_share: float
    batch_tokens: int | None
    device: str
    dtype: str
    teacher_load: str | None
    student_load: str | None
    allow_pickle: bool
    trust_remote_code: bool
    paper_compat: bool


class DistillKeywords(TypedDict, total=False):
    """The further options of `kdaudit.distill`."""

    student_layers: str | None
    student_config: str | Path | None
    holdout: str | None
    coins: bool
    teacher_saw: str | None
    text_field: str
    id_field: str
    limit: int | None
    key_file: str | Path | None
    manifest_out: str | Path | None
    objective: str
    beta: float | None
    hard_weight: float | None
    temperature: float
    label_smoothing: float
    goldfish: int | None
    on_policy: float
    sequence_level: bool
    hidden_weight: float
    epochs: int
    lr: float | None
    schedule: str
    warmup: float
    weight_decay: float
    batch_tokens: int
    gradient_accumulation: int
    max_tokens: int | None
    copies_per_epoch: int
    lora: int | None
    teacher_load: str | None
    student_load: str | None
    device: str
    dtype: str
    gradient_checkpointing: bool
    teacher_cache: str | Path | None
    teacher_top_k: int
    seed: int
    split_seed: int | None
    report_to: str
    resume: bool | None
    overwrite: bool
    allow_pickle: bool
    trust_remote_code: bool
    chat_date: str
