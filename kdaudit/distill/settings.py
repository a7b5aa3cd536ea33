"""What a distillation is given: one frozen dataclass, checked when built, all problems at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdaudit.config import DTYPES, LOADS
from kdaudit.errors import ConfigError
from kdaudit.models.repeatable import CHAT_DATE

OBJECTIVES = ("forward-kl", "reverse-kl", "jsd", "skew-kl", "hard")
"""The names in `kdaudit.distill.losses.OBJECTIVES`, which needs torch."""

SCHEDULES = ("one-cycle", "linear")
TEACHER_SAW = ("train", "none", "unknown")
HOLDOUT = "0.2"
HARD_WEIGHT = 0.5
TEMPERATURE = 1.0
LEARNING_RATES = {"full": 5e-5, "lora": 2e-4}
BATCH_TOKENS = 8192
TOP_K = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """Everything that decides a distilled student, as the user gave it."""

    teacher: str
    train: str
    out: Path
    student: str | None = None
    student_layers: str | None = None
    """Layers of the teacher that the student starts from: 0,2,4."""
    student_config: Path | None = None
    nonmembers: str | None = None
    holdout: str | None = None
    """A share (0.2) or a count (500)."""
    coins: bool = False
    teacher_saw: str | None = None
    text_field: str = "text"
    id_field: str = "id"
    limit: int | None = None
    objective: str = "forward-kl"
    beta: float | None = None
    hard_weight: float | None = None
    temperature: float = TEMPERATURE
    label_smoothing: float = 0.0
    goldfish: int | None = None
    """One token in so many is no target."""
    on_policy: float = 0.0
    sequence_level: bool = False
    hidden_weight: float = 0.0
    epochs: int = 3
    lr: float | None = None
    schedule: str = "one-cycle"
    warmup: float = 0.1
    weight_decay: float = 0.01
    batch_tokens: int = BATCH_TOKENS
    gradient_accumulation: int = 1
    max_tokens: int | None = None
    lora: int | None = None
    teacher_load: str | None = None
    student_load: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    gradient_checkpointing: bool = False
    teacher_cache: Path | None = None
    teacher_top_k: int = TOP_K
    copies_per_epoch: int = 0
    """Copies of the student that are kept, evenly spaced in every epoch, the last one at its end."""
    seed: int = 0
    split_seed: int | None = None
    """Draws who is held out, and the limit; None: `seed`."""
    report_to: str = "none"
    resume: bool | None = None
    key_file: Path | None = None
    manifest_out: Path | None = None
    chat_date: str = CHAT_DATE
    """What chat templates are told that today is; no option, but what a manifest recorded counts."""
    trust_remote_code: bool = False
    allow_pickle: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: lists every problem, one a line.
        """
        problems = [*_problems(self), *_contradictions(self)]
        if problems:
            raise ConfigError("\n".join(problems), hint="kdaudit distill --help lists the options")

    @property
    def weight(self) -> float:
        """The weight on the ground truth."""
        if self.objective == "hard":
            return 1.0
        return HARD_WEIGHT if self.hard_weight is None else self.hard_weight

    @property
    def needs_teacher(self) -> bool:
        """Whether any term of the loss asks the teacher."""
        return self.weight < 1 or self.hidden_weight > 0 or self.on_policy > 0

    @property
    def learning_rate(self) -> float:
        """As given, else what suits full training or LoRA."""
        return self.lr if self.lr is not None else LEARNING_RATES["lora" if self.lora else "full"]

    @property
    def records_seed(self) -> int:
        """Of every draw that says which records are trained on and which are held out."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def holdout_rule(self) -> str | None:
        """How records are held out of the training file; None where the non-members are a file of their own."""
        return None if self.nonmembers is not None else "coins" if self.coins else self.holdout or HOLDOUT

    def identity(self) -> dict[str, Any]:
        """What an unfinished run must share with this configuration to be continued by it.

        Checkpoints and records count by their contents, not by their names; how the work is split over memory
        and where its results go changes nothing that is learnt.
        """
        left_out = {
            *("teacher", "train", "student", "student_config", "nonmembers", "out", "teacher_cache", "report_to"),
            *("resume", "key_file", "manifest_out", "overwrite", "gradient_checkpointing", "gradient_accumulation"),
        }
        found = {name: value for name, value in asdict(self).items() if name not in left_out}
        return {
            **found,
            "split_seed": self.records_seed,
            "weight": self.weight,
            "lr": self.learning_rate,
            "is_cached": self.teacher_cache is not None,
        }


def _problems(config: DistillConfig) -> Iterator[str]:
    minimum = {
        **dict.fromkeys(("epochs", "batch_tokens", "gradient_accumulation", "limit", "lora", "teacher_top_k"), 1),
        **dict.fromkeys(("max_tokens", "goldfish"), 2),
        **dict.fromkeys(("seed", "split_seed", "copies_per_epoch"), 0),
    }
    for name, least in minimum.items():
        value = getattr(config, name)
        if value is not None and value < least:
            yield f"{option(name)}: {value} is too small, the least is {least}"
    shares = ("hard_weight", "on_policy", "warmup", "label_smoothing")
    for name in shares:
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            yield f"{option(name)}: {value:g} lies outside 0 to 1"
    for name in ("temperature", "lr"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            yield f"{option(name)}: {value:g} is not above 0"
    if config.warmup == 1:
        yield "--warmup: 1 leaves no step after the warm-up"
    for name in ("hidden_weight", "weight_decay"):
        if not 0 <= getattr(config, name) < math.inf:
            yield f"{option(name)}: {getattr(config, name):g} is negative or no number"
    choices = {
        "objective": OBJECTIVES,
        "schedule": SCHEDULES,
        "dtype": DTYPES,
        "device": ("auto", "cpu"),
        "teacher_load": LOADS,
        "student_load": LOADS,
        "teacher_saw": TEACHER_SAW,
    }
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value is not None and value not in allowed:
            yield f"{option(name)}: '{value}' is none of {', '.join(allowed)}"
    for name in ("teacher", "train", "student", "nonmembers", "student_layers", "holdout", "text_field", "id_field"):
        value = getattr(config, name)
        if value is not None and not value.strip():
            yield f"{option(name)}: an empty value was given; is a variable unset?"
    if config.id_field == config.text_field:
        yield f"--id-field: '{config.id_field}' is the field of the text"


def _contradictions(config: DistillConfig) -> Iterator[str]:
    starts = [name for name in ("student", "student_layers", "student_config") if getattr(config, name) is not None]
    if len(starts) != 1:
        given = " and ".join(map(option, starts)) or "none"
        yield f"give one start for the student: --student, --student-layers or --student-config ({given} given)"
    held = [name for name in ("nonmembers", "holdout", "coins") if getattr(config, name)]
    if len(held) > 1:
        yield f"{' and '.join(map(option, held))}: only one of them says who is not a member"
    if config.nonmembers is None and config.teacher_saw is None:
        yield (
            "--teacher-saw train, none or unknown is needed: records held out of the training file may have been in "
            "the teacher's; --nonmembers FILE gives records that neither saw"
        )
    if config.nonmembers is not None and config.teacher_saw is not None:
        yield "--teacher-saw: --nonmembers says already that neither model saw them"
    if config.objective == "hard" and config.hard_weight is not None:
        yield "--hard-weight: --objective hard is weight 1 on the ground truth by itself"
    if config.on_policy and config.weight == 1:
        yield "--on-policy: the student's own sequences have no ground truth, and the teacher has no weight"
    if config.on_policy and config.sequence_level:
        yield "--on-policy and --sequence-level: either the student or the teacher generates"
    if config.label_smoothing and config.weight == 0:
        yield "--label-smoothing: the ground truth has no weight (--hard-weight 0)"
    if config.student_load and not config.lora:
        yield "--student-load: quantised weights cannot be trained; give --lora RANK to train an adapter on them"
    yield from _cache_contradictions(config)


def _cache_contradictions(config: DistillConfig) -> Iterator[str]:
    if config.teacher_cache is None:
        return
    if config.on_policy:
        yield "--teacher-cache: --on-policy asks the teacher about sequences that are not known beforehand"
    if config.hidden_weight:
        yield "--teacher-cache: it holds log-probabilities, --hidden-weight needs the teacher's hidden states"
    if config.weight == 1:
        yield "--teacher-cache: the teacher has no weight in this loss"


def option(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"
