"""What `kdaudit attack` and `kdaudit report` are given: each option is declared here, once, and checked when built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

from kdaudit.errors import ConfigError
from kdaudit.options import Option, flag_of, problems_of, refuse, split_at_commas, strip_each
from kdaudit.waivers import Waiver, expired

LOADS = ("4bit", "8bit")
KINDS = ("causal", "masked", "seq2seq")
MASK_PLAN = re.compile(r"partition|pll|pll-word|random:([1-9][0-9]{0,2}|1000)")
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
TOLERANCE = 0.02
"""How far an AUC may rise above the baseline's."""

MODELS, DATA, MEASURE, COMPUTE = "Models", "Records", "Attacks and gates", "Computation"
"""Panels of the help."""


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise ConfigError(f"--today: '{text}' is not a date", hint="write it as 2030-01-31") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """Everything that decides an audit's numbers, as the user gave it."""

    # fmt: off
    teacher: Annotated[str, Option(
        "The teacher: a checkpoint folder or a Hub id, or an adapter in either form. @revision pins a commit.",
        MODELS, names="checkpoint")]
    students: Annotated[tuple[str, ...], Option(
        "A student that was distilled from the teacher. Repeat it for several: they are called student, student-2, …",
        MODELS, flag="--student", names="checkpoint")]
    members: Annotated[str | None, Option(
        "Texts that were in the training data, as .jsonl, .csv, .txt, .parquet or hub:NAME[:CONFIG]:SPLIT. Default: "
        "the records that the manifest of a distilled student names.", DATA, names="records")] = None
    nonmembers: Annotated[str | None, Option(
        "Texts of the same kind that were not in the training data, in any of the same forms.",
        DATA, names="records")] = None
    train: Annotated[str | None, Option(
        "The training file of a distilled student. Needed where the file has moved since the manifest was written.",
        DATA, names="records")] = None
    manifest: Annotated[Path | None, Option(
        "The manifest of the student. Default: kdaudit.json in its folder.", DATA)] = None
    key_file: Annotated[Path | None, Option(
        "The key of the manifest's record ids. Default: the key beside the training file.", DATA)] = None
    text_field: Annotated[str, Option("The field or column that holds the text.", DATA)] = "text"
    id_field: Annotated[str, Option(
        "The field or column that holds the id. Where there is none, the id is a keyed hash of the text.", DATA)] = "id"
    shots: Annotated[str | None, Option(
        "Non-member texts that prefix attacks put before a text. Default: some of --nonmembers, which are then left "
        "out of the audit.", DATA, names="records")] = None
    n_shots: Annotated[int, Option("How many shots prefix attacks put before a text.", MEASURE, least=1)] = 12
    reference: Annotated[str | None, Option(
        "A reference model for the teacher and for every student that has no reference of its own.",
        MODELS, names="checkpoint")] = None
    teacher_reference: Annotated[str | None, Option(
        "The checkpoint that the teacher started from, before it saw the members.", MODELS, names="checkpoint")] = None
    student_references: Annotated[tuple[str | None, ...], Option(
        "The checkpoint that the student started from. Give one for all students, or one for each --student.",
        MODELS, flag="--student-reference", names="checkpoint")] = ()
    """None for a student: what its manifest says, if it has one."""
    attacks: Annotated[tuple[str, ...], Option(
        "An attack, or a group of attacks (paper, all). Repeatable, or joined by commas. Default: paper.",
        MEASURE, flag="--attack", parse=split_at_commas)] = ()
    gates: Annotated[tuple[str, ...], Option(
        "A limit such as 'student.auc <= 0.60' or 'difference.auc <= 0.02'. Repeatable.",
        MEASURE, flag="--gate", separator=";", parse=strip_each)] = ()
    out: Annotated[Path, Option(
        "The run folder. The same command continues an unfinished run in it.")] = Path("kdaudit-run")
    overwrite: Annotated[bool, Option("Replace another run in the folder.", in_file=False)] = False
    seed: Annotated[int, Option("The seed of every random draw.", least=0)] = 0
    limit: Annotated[int | None, Option(
        "The largest number of records of each class. The seed draws them.", DATA, least=1)] = None
    max_tokens: Annotated[int | None, Option(
        "The number of tokens after which a text is cut. Default: the smallest context of the models.",
        COMPUTE, least=2)] = None
    calibration_share: Annotated[float, Option(
        "The share of each class that fits thresholds. These records do not measure the thresholds.",
        MEASURE, least=0.05, most=0.95)] = 0.3
    batch_tokens: Annotated[int | None, Option(
        "The number of tokens in one forward pass. Default: 4096 on a CPU, 16384 elsewhere.", COMPUTE, least=1)] = None
    device: Annotated[str, Option("The device: auto, cuda, cuda:N, mps or cpu.", COMPUTE)] = "auto"
    dtype: Annotated[str, Option(
        "The precision: auto, float32, bfloat16 or float16. auto is float32 on a CPU, and the checkpoint's own "
        "elsewhere.", COMPUTE, choices=DTYPES)] = "auto"
    teacher_load: Annotated[str | None, Option(
        "Quantise the teacher with bitsandbytes: 4bit or 8bit.", MODELS, choices=LOADS)] = None
    student_load: Annotated[str | None, Option(
        "Quantise the students with bitsandbytes: 4bit or 8bit.", MODELS, choices=LOADS)] = None
    kind: Annotated[str | None, Option(
        "Read all models as one kind: causal, masked or seq2seq. Default: what their architecture says.",
        MODELS, flag="--as", choices=KINDS)] = None
    mask_plan: Annotated[str | None, Option(
        "What is hidden from a masked model: partition, pll, pll-word or random:K. Default: partition.",
        MEASURE)] = None
    mask_groups: Annotated[int | None, Option(
        "The number of groups of words, and so of passes, in a partition. Default: 7.", MEASURE, least=2)] = None
    allow_pickle: Annotated[bool, Option(
        "Read pickled weights, which can run code. Default: read safetensors only.", MODELS)] = False
    trust_remote_code: Annotated[bool, Option("Run the modelling code that a checkpoint brings.", MODELS)] = False
    paper_compat: Annotated[bool, Option(
        "Add the paper's in-sample figures to results.json. No gate reads them.", MEASURE)] = False
    # fmt: on

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: lists every problem, each in a line of its own.
        """
        refuse([*problems_of(self), *_contradictions(self)], "attack")

    @property
    def reference_of(self) -> dict[str, str | None]:
        """The reference checkpoint of every audited model, by model name."""
        names = student_names(len(self.students))
        references = dict(zip(names, self.references_by_student, strict=True))
        return {"teacher": self.teacher_reference or self.reference, **references}

    @property
    def references_by_student(self) -> tuple[str | None, ...]:
        """One for every student."""
        given = self.student_references or (self.reference,)
        return given * len(self.students) if len(given) == 1 else given

    def identity(self) -> dict[str, Any]:
        """What a run folder must share with this configuration to be continued by it.

        Gates and the folder itself change no measurement; checkpoints and records count by their contents,
        not by their names.
        """
        names = {"teacher", "students", "teacher_reference", "student_references", "reference"}
        names |= {"members", "nonmembers", "shots", "train", "manifest", "key_file", "out", "gates", "overwrite"}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in names
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """What a report is made of, as the user gave it."""

    # fmt: off
    runs: Annotated[tuple[Path, ...], Option(
        "Run folders of `kdaudit attack`, or their results.json. Several runs are compared. Or one folder of `kdaudit "
        "mitigate`.", in_file=False, is_argument=True, metavar="RUN…")]
    formats: Annotated[tuple[str, ...], Option(
        "A format: html, md, json, csv, latex, sarif or junit. Repeatable, or joined by commas. Default: html,md.",
        flag="--format", parse=split_at_commas)] = ("html", "md")
    out: Annotated[Path | None, Option(
        "The folder for the reports. Default: the folder of the first run.", in_file=False)] = None
    gates: Annotated[tuple[str, ...], Option(
        "A limit to judge by, such as 'student.auc <= 0.60'. Repeatable. Default: the gates of each run.",
        flag="--gate", variable="KDAUDIT_GATES", separator=";", parse=strip_each)] = ()
    gates_file: Path | None = None
    """The configuration file that declares the gates; None where they were given otherwise."""
    template: Annotated[Path | None, Option(
        "A jinja2 template of your own, rendered in a sandbox. `kdaudit docs report` says what it is given.")] = None
    baseline: Annotated[Path | None, Option(
        "An earlier run. The report fails where an AUC rose above the earlier one by more than the tolerance.")] = None
    tolerance: Annotated[float | None, Option(
        f"How far an AUC may rise above the baseline's. Default: {TOLERANCE}.", least=0, most=1)] = None
    today: Annotated[date | None, Option(
        "The date by which waivers expire. Default: today in UTC.",
        in_file=False, metavar="YYYY-MM-DD", typed=str, parse=_day)] = None
    """None: no waiver has expired."""
    waivers: tuple[Waiver, ...] = ()
    file_gates: tuple[str, ...] = ()
    """Gates of the configuration file, judged or not: its waivers may name them."""
    model_card: Annotated[Path | None, Option(
        "An existing README.md. The section between kdaudit:begin and kdaudit:end is written anew.")] = None
    model_index: Annotated[bool, Option("Write the AUCs into the metadata of --model-card too.")] = False
    from_file: frozenset[str] = frozenset()
    """Fields that the configuration file decides: a comparison of mitigations leaves those that are for audits."""
    # fmt: on

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: lists every problem, each in a line of its own.
        """
        problems = [*problems_of(self)]
        if not self.runs:
            problems.append("RUN: no run is given")
        if not self.formats and self.template is None:
            problems.append("--format: none is given, and no --template: there is nothing to write")
        if self.model_card and len(self.runs) > 1:
            problems.append("--model-card: a card is about one run; give one RUN")
        if self.model_index and not self.model_card:
            problems.append("--model-index is given but --model-card is not: there is no metadata to extend")
        if self.tolerance is not None and self.baseline is None:
            problems.append("--tolerance is given but --baseline is not: there is nothing to rise above")
        refuse(problems, "report")
        if self.today and (over := expired(self.waivers, self.today)):
            raise ConfigError("\n".join(over), hint="keep the limit again, or decide anew and set a later date")


def name_models(names: Sequence[str], joint: str = ", ") -> str:
    """Names of models for a sentence; of more than three the first and the last one."""
    return joint.join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]}"


def student_names(n_students: int) -> tuple[str, ...]:
    """The names that students carry in results and gates: student, student-2, student-3."""
    return tuple("student" if i == 0 else f"student-{i + 1}" for i in range(n_students))


def _contradictions(config: AuditConfig) -> Iterator[str]:
    if not config.students:
        yield "--student: at least one student is needed"
    for name in ("train", "key_file"):
        if config.members is not None and getattr(config, name) is not None:
            yield f"{flag_of(name)}: it belongs to a student's manifest, but --members already says who was a member"
    if (config.members is None) != (config.nonmembers is None) and not (config.train and config.nonmembers):
        given, missing = ("--members", "--nonmembers") if config.members else ("--nonmembers", "--members")
        yield (
            f"{given} is given but {missing} is not: an audit compares the two (--nonmembers may stand beside --train "
            "alone: both then say where the records of a manifest are now)"
        )
    if len(config.student_references) not in {0, 1, len(config.students)}:
        yield (
            f"--student-reference: {len(config.student_references)} given, but {len(config.students)} of --student; "
            "give one for each, in the same order, or one for all"
        )
    if config.mask_plan is not None and not MASK_PLAN.fullmatch(config.mask_plan):
        yield f"--mask-plan: '{config.mask_plan}' is none of partition, pll, pll-word, random:K with K from 1 to 1000"
    if config.mask_groups is not None and config.mask_plan not in {None, "partition"}:
        yield f"--mask-groups: --mask-plan {config.mask_plan} has no groups"
    if config.id_field == config.text_field:
        yield f"--id-field: '{config.id_field}' is the field of the text; ids are written into the run's files"
    if config.device not in DEVICES and not config.device.startswith("cuda:"):
        yield f"--device: '{config.device}' is none of {', '.join(DEVICES)}, cuda:N"
