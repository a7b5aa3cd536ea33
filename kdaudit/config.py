"""What `kdaudit attack` and `kdaudit report` are given: each option is declared here, once, and checked when built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

from kdaudit.errors import ConfigError
from kdaudit.options import Option, flag_of, options_of, problems_of, refuse, split_at_commas, split_gates, strip_each
from kdaudit.waivers import Waiver, expired

LOADS = ("4bit", "8bit")
TXT_RECORDS = ("line", "paragraph", "file")
CHAT_TEMPLATES = ("own", "teacher", "student")
PAIRS = ("chat", "text", "alpaca")
LAST, ASSISTANT, WHOLE = SCORED = ("last", "assistant", "all")
"""What may be learnt and scored of a chat: its last answer, every answer of the assistant, or all of it."""
LAYOUT = ("text_field", "id_field", "answer_field", "pairs", "txt_record", "skip_empty", "score")
"""Fields of a configuration that say how records stand in their sources."""
KINDS = ("causal", "masked", "seq2seq")
MASK_PLAN = re.compile(r"partition|pll|pll-word|random:([1-9][0-9]{0,2}|1000)")
SIGNALS = FULL, REDUCED = ("full", "reduced")
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
LAYERS, TENSORS = DEVICE_MAPS = ("auto", "tp")
"""How a model lies on several devices: layer by layer, or every layer in parts (tensor parallelism)."""
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3")
FLASH = "flash_attention"
"""What the names of attention that needs no padding begin with."""
MEMORY = re.compile(r"(?:cpu=)?([0-9]+(?:\.[0-9]+)?)([KMGT])(i?)B")
TEACHER, LONE = "teacher", "model"
"""The names of a teacher, and of a model that is audited by itself, in results and gates."""
TOLERANCE = 0.02
"""How far an AUC may rise above the baseline's."""
POLICIES = ("edpb", "aisvs")
"""Whose clauses an annex maps figures to."""
RELEASES = ("open-weights", "logprobs-api", "text-api")
"""How a model will be released, from the strongest to the weakest attacker."""

MODELS, DATA, MEASURE, COMPUTE = "Models", "Records", "Attacks and gates", "Computation"
"""Panels of the help."""


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise ConfigError(f"--today: '{text}' is not a date", hint="write it as 2030-01-31") from error


@dataclass(frozen=True, slots=True)
class Audited:
    """A model that an audit is about, as the user gave it."""

    name: str
    """In results and gates: teacher, student, student-2, or model."""
    checkpoint: str
    reference: str | None
    load: str | None
    base: str | None = None
    """What an adapter stands on, where that is not what the adapter says."""

    @property
    def option(self) -> str:
        """That named it."""
        return option_of(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """Everything that decides an audit's numbers, as the user gave it."""

    # fmt: off
    teacher: Annotated[str | None, Option(
        "The teacher: a checkpoint folder or a Hub id, or an adapter in either form. @revision pins a commit.",
        MODELS, names="checkpoint")] = None
    teacher_run: Annotated[Path | None, Option(
        "An earlier run folder, in the place of --teacher: the scores of its teacher, or of its one model, on the same "
        "records. That teacher is not asked again.", MODELS)] = None
    students: Annotated[tuple[str, ...], Option(
        "A student that was distilled from the teacher. Repeat it for several: they are called student, student-2, …",
        MODELS, flag="--student", names="checkpoint")] = ()
    model: Annotated[str | None, Option(
        "One model that is audited by itself, without a teacher, in any form that --teacher takes.",
        MODELS, names="checkpoint")] = None
    members: Annotated[tuple[str, ...], Option(
        "Texts that were in the training data: a file, a folder of shards, a quoted pattern, - or "
        "hub:NAME[:CONFIG]:SPLIT. Repeatable: several are one set. Default: the records that the manifest of a "
        "distilled student names.", DATA, names="records", separator=";", parse=strip_each)] = ()
    nonmembers: Annotated[tuple[str, ...], Option(
        "Texts of the same kind that were not in the training data, in any of the same forms. Repeatable.",
        DATA, names="records", separator=";", parse=strip_each)] = ()
    data: Annotated[tuple[str, ...], Option(
        "Members and non-members together, in any of the same forms. Give --member-field, or both text fields. "
        "Repeatable.", DATA, names="records", separator=";", parse=strip_each)] = ()
    member_field: Annotated[str | None, Option(
        "The field of --data that says of every record whether it is a member: 1 or 0, true or false, member or "
        "nonmember.", DATA)] = None
    member_text_field: Annotated[str | None, Option(
        "The field of a member's text, where it is another than --text-field.", DATA)] = None
    nonmember_text_field: Annotated[str | None, Option(
        "The field of a non-member's text, where it is another than --text-field.", DATA)] = None
    train: Annotated[tuple[str, ...], Option(
        "The training file of a distilled student. Needed where the file has moved since the manifest was written. "
        "Repeatable.", DATA, names="records", separator=";", parse=strip_each)] = ()
    manifest: Annotated[Path | None, Option(
        "The manifest of the student. Default: kdaudit.json in its folder.", DATA)] = None
    key_file: Annotated[Path | None, Option(
        "The key of the manifest's record ids. Default: the key beside the training file.", DATA)] = None
    text_field: Annotated[str, Option("The field or column that holds the text.", DATA)] = "text"
    id_field: Annotated[str, Option(
        "The field or column that holds the id. Where there is none, the id is a keyed hash of the text.", DATA)] = "id"
    answer_field: Annotated[str | None, Option(
        "The field with the answer of a record with a prompt, such as chosen of preference pairs.", DATA)] = None
    pairs: Annotated[str | None, Option(
        "How a question and its answer in two fields are shown: chat, text (one after the other) or alpaca. Default: "
        "prompt and completion as text, others as a chat.", DATA, choices=PAIRS)] = None
    chat_template: Annotated[str, Option(
        "Whose template writes chats: own (each model's), teacher, student, or the file of a template. With own, the "
        "words of an answer alone are scored where templates differ.", DATA, names="template")] = "own"
    score: Annotated[str | None, Option(
        "What is scored of a chat: last (the last answer), assistant (every answer of the assistant) or all (what the "
        "user says too). A completion is one answer. Default: what a distilled student learnt, else assistant.",
        DATA, choices=SCORED)] = None
    txt_record: Annotated[str, Option(
        "What is a record in a .txt file: line, paragraph or file.", DATA, choices=TXT_RECORDS)] = "line"
    skip_empty: Annotated[bool, Option("Leave empty texts out, and count them. Default: refuse them.", DATA)] = False
    shots: Annotated[tuple[str, ...], Option(
        "Non-member texts that prefix attacks put before a text. Repeatable. Default: some of --nonmembers, which are "
        "then left out of the audit.", DATA, names="records", separator=";", parse=strip_each)] = ()
    n_shots: Annotated[int, Option("How many shots prefix attacks put before a text.", MEASURE, least=1)] = 12
    reference: Annotated[str | None, Option(
        "A reference model for every audited model that has no reference of its own.",
        MODELS, names="checkpoint")] = None
    teacher_reference: Annotated[str | None, Option(
        "The checkpoint that the teacher started from, before it saw the members.", MODELS, names="checkpoint")] = None
    student_references: Annotated[tuple[str | None, ...], Option(
        "The checkpoint that the student started from. Give one for all students, or one for each --student.",
        MODELS, flag="--student-reference", names="checkpoint")] = ()
    """None for a student: what its manifest says, if it has one."""
    model_reference: Annotated[str | None, Option(
        "The checkpoint that a model that is audited alone started from.", MODELS, names="checkpoint")] = None
    teacher_base: Annotated[str | None, Option(
        "The base of a teacher that is an adapter, where it lies elsewhere than the adapter says.",
        MODELS, names="checkpoint")] = None
    student_bases: Annotated[tuple[str, ...], Option(
        "The base of students that are adapters, where it lies elsewhere than they say. Give one for all students, or "
        "one for each --student.", MODELS, flag="--student-base", names="checkpoint")] = ()
    model_base: Annotated[str | None, Option(
        "The base of a model that is audited alone and is an adapter, where it lies elsewhere than the adapter says.",
        MODELS, names="checkpoint")] = None
    attacks: Annotated[tuple[str, ...], Option(
        "An attack, or a group of attacks (paper, all). Repeatable, or joined by commas. Default: paper.",
        MEASURE, flag="--attack", parse=split_at_commas)] = ()
    settings: Annotated[tuple[str, ...], Option(
        "A parameter of an attack, such as min-k.fraction=0.1. Repeatable. --list-attacks lists all.",
        MEASURE, flag="--set", key="set", parse=strip_each)] = ()
    gates: Annotated[tuple[str, ...], Option(
        "A limit such as 'student.auc <= 0.60' or 'difference.auc <= 0.02'. Repeatable, or joined by commas.",
        MEASURE, flag="--gate", separator=";", parse=split_gates)] = ()
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
    signals: Annotated[str | None, Option(
        "What the run folder keeps of a pass: full (numbers of every token) or reduced (the scores). Default: full, "
        "and reduced from 200,000 records on.", COMPUTE, choices=SIGNALS)] = None
    device: Annotated[str, Option("The device: auto, cuda, cuda:N, mps or cpu.", COMPUTE)] = "auto"
    device_map: Annotated[str | None, Option(
        "Put each model on several devices: auto (its layers on the GPUs, then on the CPU) or tp (every layer in "
        "parts, one in each process that torchrun starts). Default: one device.", COMPUTE, choices=DEVICE_MAPS)] = None
    max_memory: Annotated[str | None, Option(
        "What a model and its batches may take of each GPU, and of the CPU, under --device-map auto, such as "
        "24GiB,24GiB,cpu=64GiB. Default: what is free.", COMPUTE)] = None
    dtype: Annotated[str, Option(
        "The precision: auto, float32, bfloat16 or float16. auto is float32 on a CPU, and the checkpoint's own "
        "elsewhere.", COMPUTE, choices=DTYPES)] = "auto"
    attention: Annotated[str | None, Option(
        "How attention is computed: eager, sdpa, flash_attention_2 or flash_attention_3. The last two need a package "
        "and a GPU, and read batches without padding. Default: as transformers decides.",
        COMPUTE, choices=ATTENTIONS)] = None
    teacher_load: Annotated[str | None, Option(
        "Quantise the teacher with bitsandbytes: 4bit or 8bit.", MODELS, choices=LOADS)] = None
    student_load: Annotated[str | None, Option(
        "Quantise the students with bitsandbytes: 4bit or 8bit.", MODELS, choices=LOADS)] = None
    model_load: Annotated[str | None, Option(
        "Quantise a model that is audited alone with bitsandbytes: 4bit or 8bit.", MODELS, choices=LOADS)] = None
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
    def audited(self) -> tuple[Audited, ...]:
        """The models that the audit is about: a teacher before its students, or one model alone."""
        if self.model is not None:
            reference = self.model_reference or self.reference
            return (Audited(LONE, self.model, reference, self.model_load, self.model_base),)
        reference = self.teacher_reference or self.reference
        teacher = Audited(TEACHER, self.teacher or "", reference, self.teacher_load, self.teacher_base)
        n = len(self.students)
        bases = self.student_bases or (None,)
        students = zip(
            student_names(n), self.students, self.references_by_student, (self.student_load,) * n,
            bases * n if len(bases) == 1 else bases, strict=True,
        )  # fmt: skip
        return teacher, *(Audited(*student) for student in students)

    def with_references(self, found: Mapping[str, str | None]) -> AuditConfig:
        """The same with other references of the models but the teacher, by name."""
        if self.model is not None:
            return replace(self, model_reference=found[LONE])
        return replace(self, student_references=tuple(found[name] for name in student_names(len(self.students))))

    @property
    def references_by_student(self) -> tuple[str | None, ...]:
        """One for every student."""
        given = self.student_references or (self.reference,)
        return given * len(self.students) if len(given) == 1 else given

    @property
    def text_fields(self) -> tuple[str, str] | None:
        """Those of a member's text and of a non-member's, where they were given apart."""
        if self.member_text_field is None and self.nonmember_text_field is None:
            return None
        return self.member_text_field or self.text_field, self.nonmember_text_field or self.text_field

    @property
    def layout(self) -> dict[str, Any]:
        """How the records stand in their sources, by keyword of `kdaudit.records.read`."""
        return {**{name: getattr(self, name) for name in LAYOUT}, "score": self.score or ASSISTANT}

    def identity(self) -> dict[str, Any]:
        """What a run folder must share with this configuration to be continued by it.

        Gates and the folder itself change no measurement; checkpoints and records count by their contents,
        not by their names.
        """
        names = {"teacher", "students", "teacher_reference", "student_references", "reference"}
        names |= {"model", "model_reference", "teacher_run", "teacher_base", "student_bases", "model_base"}
        names |= {"members", "nonmembers", "shots", "train", "manifest", "key_file", "out", "gates", "overwrite"}
        names |= {"data", "member_field", "member_text_field", "nonmember_text_field", "max_memory", "signals"}
        found = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in names
        }
        is_word = self.chat_template in CHAT_TEMPLATES  # a file counts by what it makes of the records
        return {
            **found,
            "score": self.score or ASSISTANT,
            "chat_template": self.chat_template if is_word else "file",
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
    figures: Annotated[Path | None, Option(
        "A folder for every picture of the report, each as SVG and as PDF.")] = None
    gates: Annotated[tuple[str, ...], Option(
        "A limit to judge by, such as 'student.auc <= 0.60'. Repeatable, or joined by commas. Default: each run's own.",
        flag="--gate", variable="KDAUDIT_GATES", separator=";", parse=split_gates)] = ()
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
    policies: Annotated[tuple[str, ...], Option(
        "Add an annex that maps this run's figures to clauses: edpb (Opinion 28/2024) or aisvs (OWASP AISVS 1.0). "
        "Repeatable, or joined by commas.", flag="--policy", choices=POLICIES, parse=split_at_commas)] = ()
    release: Annotated[str | None, Option(
        "What an attacker will have, for the annex: open-weights, logprobs-api or text-api. It changes no figure.",
        choices=RELEASES)] = None
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
        if self.release and not self.policies and "release" not in self.from_file:
            problems.append("--release is given but --policy is not: there is no annex to say it in")
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


def option_of(name: str) -> str:
    """The option that named an audited model: --student for student-2."""
    return f"--{name.partition('-')[0]}"


def _models_asked(config: AuditConfig) -> Iterator[str]:
    pair = (
        *("teacher", "students", "teacher_reference", "student_references", "teacher_load", "student_load"),
        *("teacher_base", "student_bases", "teacher_run"),
    )
    flags = {one.field: one.flag for one in options_of(AuditConfig)}
    if config.model is not None:
        if besides := [flags[name] for name in pair if getattr(config, name)]:
            yield (
                f"--model: it names one model that is audited by itself, and {', '.join(besides)} "
                f"{'is' if len(besides) == 1 else 'are'} given too; leave out one or the other"
            )
        return
    for name in ("model_reference", "model_load", "model_base"):
        if getattr(config, name) is not None:
            yield f"{flags[name]}: it is about the model of --model, and none is given"
    if config.teacher_run is not None:
        of_its_own = ("teacher", "teacher_reference", "teacher_load", "teacher_base")
        if besides := [flags[name] for name in of_its_own if getattr(config, name) is not None]:
            yield f"--teacher-run: the run says which teacher it is; leave {', '.join(besides)} out"
        if config.teacher_run.absolute() == config.out.absolute():
            yield f"--teacher-run: {config.out} is the folder of this run too; choose another --out"
    elif config.teacher is None:
        yield "--teacher: it is needed; --model M instead of --teacher and --student audits one model by itself"
    if not config.students:
        yield "--student: at least one student is needed; --model M instead of --teacher audits one model by itself"


def _contradictions(config: AuditConfig) -> Iterator[str]:
    yield from _models_asked(config)
    yield from _data_contradictions(config)
    for name in ("train", "key_file"):
        if config.members and getattr(config, name):
            yield f"{flag_of(name)}: it belongs to a student's manifest, but --members already says who was a member"
    if bool(config.members) != bool(config.nonmembers) and not (config.train and config.nonmembers):
        given, missing = ("--members", "--nonmembers") if config.members else ("--nonmembers", "--members")
        yield (
            f"{given} is given but {missing} is not: an audit compares the two (--nonmembers may stand beside --train "
            "alone: both then say where the records of a manifest are now)"
        )
    for flag, each in (("--student-reference", config.student_references), ("--student-base", config.student_bases)):
        if len(each) not in {0, 1, len(config.students)}:
            yield (
                f"{flag}: {len(each)} given, but {len(config.students)} of --student; "
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
    if config.device_map is not None and config.device not in {"auto", "cuda"}:
        yield f"--device-map {config.device_map}: it takes all GPUs, and --device {config.device} names one device"
    if config.max_memory is not None and config.device_map != LAYERS:
        yield "--max-memory: it says what --device-map auto may take, and that is not given"
    if config.max_memory is not None:
        try:
            memory_by_device(config.max_memory)
        except ConfigError as error:
            yield str(error)


def memory_by_device(text: str) -> dict[int | str, int]:
    """Bytes by device, as --max-memory says: one size for each GPU in their order, and one for the CPU.

    Args:
        text: such as 24GiB,24GiB,cpu=64GiB; GB are 10^9 bytes and GiB 2^30.

    Raises:
        ConfigError: a part of it cannot be read as a size, or the CPU has two.
    """
    found: dict[int | str, int] = {}
    for part in (part.strip() for part in text.split(",")):
        match = MEMORY.fullmatch(part)
        device: int | str = "cpu" if part.startswith("cpu=") else len([one for one in found if one != "cpu"])
        if match is None or not float(match[1]):
            raise ConfigError(
                f"--max-memory: '{part}' cannot be read as a size; write 24GiB or 24GB, and cpu=64GiB for the CPU"
            )
        if device in found:
            raise ConfigError("--max-memory: it names cpu= twice")
        power = " KMGT".index(match[2])
        found[device] = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    return found


def _data_contradictions(config: AuditConfig) -> Iterator[str]:
    given = [name for name in ("members", "nonmembers", "train", "key_file") if getattr(config, name)]
    if config.data and given:
        yield f"--data: it holds members and non-members, and {flag_of(given[0])} says who they are as well"
    fields = [name for name in ("member_text_field", "nonmember_text_field") if getattr(config, name)]
    if config.member_field is not None and not config.data:
        yield "--member-field: it is a field of --data, and --data is not given"
    if config.member_field is not None and fields:
        yield f"--member-field and {flag_of(fields[0])}: either a field says who is a member, or there are two texts"
    if config.data and len(fields) == 1:
        yield f"{flag_of(fields[0])}: give both, or --member-field, to say which texts of --data are a member's"
    if fields and not config.data and not (config.members and config.nonmembers):
        yield f"{flag_of(fields[0])}: it needs --members and --nonmembers, or --data"
    for name in (*fields, *(["member_field"] if config.member_field else [])):
        if getattr(config, name) == config.id_field:
            yield f"{flag_of(name)}: '{config.id_field}' is the field of the id"
    yield from twice_piped(
        {name: getattr(config, name) for name in ("members", "nonmembers", "data", "train", "shots")}
    )


def twice_piped(sources: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What is wrong where standard input is named more than once; `sources` are those of each option."""
    named = [flag_of(name) for name, given in sources.items() for source in given if source == "-"]
    if len(named) > 1:
        yield f"{' and '.join(named)}: standard input can be read once"
