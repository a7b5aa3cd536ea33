"""What a distillation is given: each option is declared here, once, and checked when built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from kdaudit.config import ASSISTANT, DTYPES, KINDS, LAYOUT, LOADS, PAIRS, SCORED, TXT_RECORDS, twice_piped
from kdaudit.models.repeatable import CHAT_DATE
from kdaudit.options import Option, flag_of, problems_of, refuse, strip_each

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

DATA, LOSS, TRAINING, MODELS = "Records and membership", "Loss", "Training", "Models"
"""Panels of the help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """Everything that decides a distilled student, as the user gave it."""

    # fmt: off
    teacher: Annotated[str, Option(
        "The teacher: a checkpoint folder or a Hub id. @revision pins a commit.", names="checkpoint")]
    train: Annotated[tuple[str, ...], Option(
        "The records to train on: a file, a folder of shards, a quoted pattern, - or hub:NAME[:CONFIG]:SPLIT. "
        "Repeatable: several are one set. A record is a text, a prompt with an answer, or a chat.",
        names="records", separator=";", parse=strip_each)]
    out: Annotated[Path, Option("The folder for the student. The same command continues an unfinished run in it.")]
    student: Annotated[str | None, Option("Start from this checkpoint.", MODELS, names="checkpoint")] = None
    student_layers: Annotated[str | None, Option(
        "Start from these layers of the teacher, such as 0,2,4. The first layer is 0.", MODELS)] = None
    student_config: Annotated[Path | None, Option(
        "Start from random weights of the architecture in this config.json.", MODELS)] = None
    nonmembers: Annotated[tuple[str, ...], Option(
        "Records that neither the teacher nor the student ever sees. Repeatable.",
        DATA, names="records", separator=";", parse=strip_each)] = ()
    holdout: Annotated[str | None, Option(
        f"Hold out this share (0.2) or this number (500) of the records of --train. Default: {HOLDOUT}.", DATA)] = None
    coins: Annotated[bool, Option(
        "Toss a fair coin for every record: heads trains on it, tails holds it out.", DATA)] = False
    teacher_saw: Annotated[str | None, Option(
        "Which records of --train the teacher was trained on: train, none or unknown. Needed without --nonmembers.",
        DATA, choices=TEACHER_SAW)] = None
    text_field: Annotated[str, Option("The field or column that holds the text.", DATA)] = "text"
    id_field: Annotated[str, Option("The field or column that holds the id.", DATA)] = "id"
    answer_field: Annotated[str | None, Option(
        "The field with the answer of a record with a prompt, such as chosen of preference pairs.", DATA)] = None
    pairs: Annotated[str | None, Option(
        "How a question and its answer in two fields are shown: chat, text (one after the other) or alpaca. Default: "
        "prompt and completion as text, others as a chat.", DATA, choices=PAIRS)] = None
    score: Annotated[str, Option(
        "What is learnt of a chat: last (the last answer), assistant (every answer of the assistant) or all (what the "
        "user says too). A completion is one answer.",
        DATA, choices=SCORED)] = ASSISTANT
    txt_record: Annotated[str, Option(
        "What is a record in a .txt file: line, paragraph or file.", DATA, choices=TXT_RECORDS)] = "line"
    skip_empty: Annotated[bool, Option("Leave empty texts out, and count them. Default: refuse them.", DATA)] = False
    limit: Annotated[int | None, Option(
        "The largest number of records of each file. The seed draws them.", DATA, least=1)] = None
    key_file: Annotated[Path | None, Option(
        "The secret key of the record ids. Default: FILE.kdaudit-key beside --train.", DATA)] = None
    manifest_out: Annotated[Path | None, Option("The file for the manifest. Default: OUT/kdaudit.json.", DATA)] = None
    objective: Annotated[str, Option(
        "The divergence: forward-kl, reverse-kl, jsd or skew-kl. hard means the ground truth alone.",
        LOSS, choices=OBJECTIVES)] = "forward-kl"
    beta: Annotated[float | None, Option(
        "The weight inside jsd (default 0.5; 0 is forward KL) or skew-kl (default 0.1).", LOSS)] = None
    hard_weight: Annotated[float | None, Option(
        f"w in the loss w * cross-entropy + (1 - w) * T^2 * divergence. Default: {HARD_WEIGHT}. 0 means the "
        "teacher alone.", LOSS, least=0, most=1)] = None
    temperature: Annotated[float, Option(
        "T, the temperature of both models in the divergence.", LOSS, above=0)] = TEMPERATURE
    label_smoothing: Annotated[float, Option(
        "The share of the ground truth that is spread over all words.", LOSS, least=0, most=1)] = 0.0
    goldfish: Annotated[int | None, Option(
        "Leave one token in this many out of the targets. A hash of the tokens before it chooses it.",
        LOSS, least=2)] = None
    on_policy: Annotated[float, Option(
        "The share of steps on sequences that the student writes itself. It continues each record's prompt, or the "
        "first quarter of its text. These sequences have no ground truth.", LOSS, least=0, most=1)] = 0.0
    sequence_level: Annotated[bool, Option(
        "Learn from what the teacher writes after each prompt. Masked models write nothing.", LOSS)] = False
    hidden_weight: Annotated[float, Option(
        "The weight of the loss that matches hidden states: squared distances of all layers, or one minus the cosine "
        "of the last layers of masked models.", LOSS, least=0)] = 0.0
    epochs: Annotated[int, Option("The number of passes over the members.", TRAINING, least=1)] = 3
    lr: Annotated[float | None, Option(
        f"The peak learning rate of AdamW. Default: {LEARNING_RATES['full']:g}, and {LEARNING_RATES['lora']:g} "
        "with --lora. Gradients are clipped at 1.", TRAINING, above=0)] = None
    schedule: Annotated[str, Option(
        "The schedule of the learning rate: one-cycle or linear.", TRAINING, choices=SCHEDULES)] = "one-cycle"
    warmup: Annotated[float, Option(
        "The share of the steps in which the learning rate rises.", TRAINING, least=0, most=1)] = 0.1
    weight_decay: Annotated[float, Option("The weight decay of AdamW.", TRAINING, least=0)] = 0.01
    batch_tokens: Annotated[int, Option(
        "The number of tokens in one optimiser step over all processes. Padding does not count.",
        TRAINING, least=1)] = BATCH_TOKENS
    gradient_accumulation: Annotated[int, Option(
        "Split every step into this many batches. It changes memory, not results.", TRAINING, least=1)] = 1
    max_tokens: Annotated[int | None, Option(
        "The number of tokens after which a text is cut. Default: the smaller context of the two models.",
        TRAINING, least=2)] = None
    copies_per_epoch: Annotated[int, Option(
        "Keep a copy of the student after every epoch.",
        TRAINING, key="keep_epochs", typed=bool, parse=int, least=0)] = 0
    """Copies of the student that are kept, evenly spaced in every epoch, the last one at its end."""
    kind: Annotated[str | None, Option(
        "Read both models as one kind: causal, masked or seq2seq. Default: what their architecture says.",
        MODELS, flag="--as", choices=KINDS)] = None
    whole_word: Annotated[bool, Option(
        "Hide 15 % of the words from a masked model in every epoch, instead of 15 % of the tokens.", TRAINING)] = False
    lora: Annotated[int | None, Option(
        "Train a LoRA adapter of this rank on all linear layers.", MODELS, least=1)] = None
    teacher_load: Annotated[str | None, Option(
        "Quantise the teacher with bitsandbytes: 4bit or 8bit.", MODELS, choices=LOADS)] = None
    teacher_base: Annotated[str | None, Option(
        "The base of a teacher that is an adapter, where it lies elsewhere than the adapter says.",
        MODELS, names="checkpoint")] = None
    student_load: Annotated[str | None, Option(
        "Quantise the weights that --lora adapts with bitsandbytes (QLoRA): 4bit or 8bit.",
        MODELS, choices=LOADS)] = None
    device: Annotated[str, Option(
        "The device: auto or cpu. For several devices, see kdaudit docs scale.",
        TRAINING, choices=("auto", "cpu"))] = "auto"
    dtype: Annotated[str, Option(
        "The precision of the computation: auto, float32, bfloat16 or float16. Trained weights stay in float32. auto "
        "is float32 on a CPU and bfloat16 elsewhere.", TRAINING, choices=DTYPES)] = "auto"
    gradient_checkpointing: Annotated[bool, Option("Use less memory and about a third more time.", TRAINING)] = False
    teacher_cache: Annotated[Path | None, Option(
        "Write the teacher's likeliest words to this folder once, then train without the teacher in memory.",
        MODELS)] = None
    teacher_top_k: Annotated[int, Option(
        "The number of words that the cache holds for each token. All other words count as one.",
        MODELS, least=1)] = TOP_K
    seed: Annotated[int, Option("The seed of every random draw.", least=0)] = 0
    split_seed: Annotated[int | None, Option(
        "The seed that draws the held-out records and --limit. Default: --seed.", DATA, least=0)] = None
    report_to: Annotated[str, Option(
        "Where the training is logged: none, tensorboard, wandb, mlflow, …", TRAINING)] = "none"
    resume: Annotated[bool | None, Option(
        "Continue the unfinished run in OUT, or discard it. Default: continue.",
        flag="--resume/--no-resume", shows_default=False)] = None
    overwrite: Annotated[bool, Option("Replace another student in OUT.")] = False
    allow_pickle: Annotated[bool, Option("Read pickled weights, which can run code.", MODELS)] = False
    trust_remote_code: Annotated[bool, Option("Run the modelling code that a checkpoint brings.", MODELS)] = False
    chat_date: str = CHAT_DATE
    """The date of today for chat templates. It is not an option; the one that a manifest recorded counts."""
    # fmt: on

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: lists every problem, each in a line of its own.
        """
        refuse([*problems_of(self), *_contradictions(self)], "distill")

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
        """The seed of every draw that says which records are trained on and which are held out."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def holdout_rule(self) -> str | None:
        """How records are held out of the training file; None where the non-members are a file of their own."""
        return None if self.nonmembers else "coins" if self.coins else self.holdout or HOLDOUT

    @property
    def layout(self) -> dict[str, Any]:
        """How the records stand in their sources, by keyword of `kdaudit.records.read`."""
        return {name: getattr(self, name) for name in LAYOUT}

    def identity(self) -> dict[str, Any]:
        """What an unfinished run must share with this configuration to be continued by it.

        Checkpoints and records count by their contents, not by their names; how the work is split over memory
        and where its results go changes nothing that is learnt.
        """
        left_out = {
            *(
                "teacher",
                "teacher_base",
                "train",
                "student",
                "student_config",
                "nonmembers",
                "out",
                "teacher_cache",
                "report_to",
            ),
            *("resume", "key_file", "manifest_out", "overwrite", "gradient_checkpointing", "gradient_accumulation"),
        }
        found = {name: value for name, value in asdict(self).items() if name not in left_out}
        if not found["whole_word"]:
            del found["whole_word"]  # students of before the option are still the same
        return {
            **found,
            "split_seed": self.records_seed,
            "weight": self.weight,
            "lr": self.learning_rate,
            "is_cached": self.teacher_cache is not None,
        }


def _contradictions(config: DistillConfig) -> Iterator[str]:
    if config.warmup == 1:
        yield "--warmup: 1 leaves no step after the warm-up"
    if not config.train:
        yield "--train: no records are given"
    yield from twice_piped({"train": config.train, "nonmembers": config.nonmembers})
    if config.id_field == config.text_field:
        yield f"--id-field: '{config.id_field}' is the field of the text"
    starts = [name for name in ("student", "student_layers", "student_config") if getattr(config, name) is not None]
    if len(starts) != 1:
        given = " and ".join(map(flag_of, starts)) or "none"
        yield f"give one start for the student: --student, --student-layers or --student-config ({given} given)"
    held = [name for name in ("nonmembers", "holdout", "coins") if getattr(config, name)]
    if len(held) > 1:
        yield f"{' and '.join(map(flag_of, held))}: only one of them says who is not a member"
    if not config.nonmembers and config.teacher_saw is None:
        yield (
            "--teacher-saw train, none or unknown is needed: records held out of the training file may have been in "
            "the teacher's; --nonmembers FILE gives records that neither saw"
        )
    if config.nonmembers and config.teacher_saw is not None:
        yield "--teacher-saw and --nonmembers: give only one; neither model may have seen the records of --nonmembers"
    if config.objective == "hard" and config.hard_weight is not None:
        yield "--hard-weight: --objective hard always has weight 1 on the ground truth"
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
