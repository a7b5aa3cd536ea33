"""Teacher, start and tokenizer of a distillation, and where and in what precision they compute."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdaudit.distill.losses import shared_vocabulary
from kdaudit.distill.settings import DistillConfig
from kdaudit.distill.start import find_start
from kdaudit.errors import ConfigError, ModelError
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.context import shared_window
from kdaudit.models.environment import check_precision, check_training_environment, is_sharded
from kdaudit.models.kinds import WORDS, same_kind
from kdaudit.models.loading import load, load_tokenizer
from kdaudit.ranks import launched
from kdaudit.records import column
from kdaudit.targets.frames import check_answers, frame_of, hides_words
from kdaudit.targets.hiding import Hiding
from kdaudit.targets.masked import Masking
from kdaudit.targets.plan import Frame
from kdaudit.targets.tokenizers import is_same

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from kdaudit.records import RecordSet

LONGEST_WAIT = timedelta(days=1)  # of a process for another, which may write down what the teacher says of all records
LORA_ALPHA_PER_RANK = 2  # the adapter's scale is alpha / rank
ADAPTED_TASKS = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "masked": None}
"""What peft calls the task of each kind; it has no word for masked models and needs none."""


@dataclass(frozen=True, slots=True)
class Models:
    """What a distillation starts from."""

    teacher: Checkpoint
    start: Checkpoint
    tokenizer: Any
    """The tokenizer of teacher and student."""
    frame: Frame
    """How the texts are shown to both."""
    window: int
    """Tokens of a training sequence at most."""
    vocabulary: int | None
    """Words that both models score; None where they score the same number."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compute:
    """Where this process computes, and its place among the others."""

    device: str
    dtype: str
    """The precision of the teacher and of everything that is not trained."""
    mixed_precision: str
    """The precision in which a student of float32 weights is trained: no, bf16 or fp16."""
    n_processes: int
    process: int
    """The number of this one, from 0 on."""
    is_sharded: bool = False
    """Whether the student, and a teacher that is not quantised, are cut over the processes."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the student and tells of it."""
        return self.process == 0

    def wait(self) -> None:
        """Return when every process has called it."""
        from accelerate import PartialState

        PartialState().wait_for_everyone()

    @property
    def use_cpu(self) -> bool:
        """Whether nothing but the CPU is used."""
        return self.device == "cpu"


def choose_compute(config: DistillConfig) -> Compute:
    """Device and precision; `auto` is float32 on a CPU, bfloat16 where an accelerator knows it, else float32.

    Raises:
        ConfigError: float16 on a CPU, or a setting of the environment that would train otherwise.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    check_training_environment(gradient_accumulation=config.gradient_accumulation)
    state = PartialState(cpu=config.device == "cpu" or not _has_accelerator(), timeout=LONGEST_WAIT)
    if launched().n > state.num_processes:
        raise ConfigError(
            f"{launched().n} processes were started, and torch knows of {state.num_processes}",
            hint="start kdaudit distill by torchrun or accelerate launch (under Slurm by one of these on each host)",
        )
    is_cpu = state.device.type == "cpu"
    device = "cpu" if is_cpu else str(state.device)
    knows_bfloat16 = state.device.type == "cuda" and torch.cuda.is_bf16_supported()
    dtype = ("bfloat16" if knows_bfloat16 else "float32") if config.dtype == "auto" else config.dtype
    if is_cpu and dtype == "float16":
        raise ConfigError("--dtype: float16 does not train on a CPU", hint="give --dtype float32 or bfloat16")
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[dtype]
    check_precision(mixed)
    sharded = is_sharded()
    if sharded:
        is_over_accelerators = state.distributed_type not in {DistributedType.NO, DistributedType.MULTI_CPU}
        _check_sharding(config, dtype, is_over_accelerators=is_over_accelerators)
    return Compute(device, dtype, mixed, state.num_processes, state.process_index, sharded)


def _check_sharding(config: DistillConfig, dtype: str, *, is_over_accelerators: bool) -> None:
    """Refuse what FSDP does not do, or nobody has tried.

    Raises:
        ConfigError: naming the way out.
    """
    from torch.distributed.fsdp import fully_shard

    if not is_over_accelerators:
        raise ConfigError(
            "FSDP is asked for (ACCELERATE_USE_FSDP), and accelerate shards nothing over CPUs, nor in a single process",
            hint="leave FSDP out: without it every process keeps a copy of the student",
        )
    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise ConfigError("this torch cannot shard a teacher", hint="update torch to 2.7 or newer")
    if dtype == "float16":
        raise ConfigError("--dtype: float16 is not trained under FSDP", hint="give --dtype bfloat16 or float32")
    if config.on_policy:
        raise ConfigError(
            "--on-policy: a student that FSDP has cut over the processes cannot write texts by itself in each",
            hint="leave FSDP out, so that every process keeps a copy of the student, or give --sequence-level",
        )


def _has_accelerator() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def find_models(config: DistillConfig, start_folder: Path, train: RecordSet) -> Models:
    """Find teacher and start, and check that they can learn from each other.

    Args:
        config: names them.
        start_folder: of a start that is made of the teacher's layers or of random weights.
        train: the records to learn from: an encoder-decoder is shown prompts and completions otherwise than texts.

    Raises:
        CheckpointError: one is not a checkpoint, or they are models of two kinds.
        ConfigError: tokenizers or vocabularies do not fit, the window is too large, or an option suits another kind.
        RecordsError: texts without prompts for an encoder-decoder that cannot read them.
    """
    options: dict[str, Any] = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
    options_of_teacher = {"load": config.teacher_load, "base": config.teacher_base, **options}
    teacher = find(config.teacher, option="--teacher", kind=config.kind, **options_of_teacher)
    has_prompts = any(column(train.records, "n_prompt"))
    _check_kind(config, teacher, has_prompts=has_prompts)
    check_answers(teacher.kind, train.records)
    _check_writing(config, train)
    start = find_start(config, teacher, start_folder)
    same_kind([("teacher", teacher.name, teacher.kind), ("student", start.name, start.kind)])
    tokenizer = load_tokenizer(start)
    _check_same_tokens(load_tokenizer(teacher), tokenizer, teacher, start)
    n_known = max(tokenizer.get_vocab().values()) + 1
    size, note = shared_vocabulary(start.vocab_size, teacher.vocab_size, n_known)
    is_cut = start.vocab_size != teacher.vocab_size
    frame = frame_of(
        teacher.kind, tokenizer, Masking(seed=config.records_seed),
        hiding=Hiding(config.seed, whole_words=config.whole_word),
        decoder_start=start.decoder_start, model_type=start.model_type, has_prompts=has_prompts,
    )  # fmt: skip
    return Models(
        teacher, start, tokenizer, frame,
        window=shared_window(config.max_tokens, [teacher, start]),
        vocabulary=size if is_cut else None, notes=(note,) if note else (),
    )  # fmt: skip


def _check_writing(config: DistillConfig, train: RecordSet) -> None:
    """Refuse chats of several answers where a model writes what is learnt: it writes the last answer of each."""
    for flag, is_given in (("--on-policy", config.on_policy > 0), ("--sequence-level", config.sequence_level)):
        if is_given and any(record.gaps for record in train.records):
            raise ConfigError(
                f"{flag}: in some chats of --train the assistant answers more than once, and a model writes one answer",
                hint="give --score last",
            )


def _check_kind(config: DistillConfig, teacher: Checkpoint, *, has_prompts: bool) -> None:
    """Refuse options that mean nothing for a kind of model.

    Raises:
        ConfigError: naming the option and the kind.
    """
    is_hidden = hides_words(teacher.kind, has_prompts=has_prompts)
    if config.whole_word and not is_hidden:
        what = WORDS[teacher.kind] + (" and the records have prompts" if teacher.kind == "seq2seq" else "")
        raise ConfigError(
            f"--whole-word: {teacher.name} is {what}, so no words are hidden from it",
            hint="leave --whole-word out",
        )
    for flag, is_given in (("--on-policy", config.on_policy > 0), ("--sequence-level", config.sequence_level)):
        if is_given and is_hidden:
            lacks = (
                "which writes no texts"
                if teacher.kind == "masked"
                else "and texts without prompts give it none to answer"
            )
            raise ConfigError(
                f"{flag}: {teacher.name} is {WORDS[teacher.kind]}, {lacks}",
                hint=f"leave {flag} out" + ("" if teacher.kind == "masked" else ", or give prompts with completions"),
            )


def learner(config: DistillConfig, models: Models, compute: Compute) -> tuple[Any, PreTrainedModel]:
    """The student in memory, ready to be trained: what is saved at the end, and the language model in it.

    Raises:
        ModelError: it cannot be loaded or does not fit into memory.
        ConfigError: its architecture has no layer that LoRA could adapt.
    """
    import torch

    # trained weights are float32, whatever they were stored in; a quantised base computes in the run's dtype
    is_quantised = models.start.load is not None
    is_cut = compute.is_sharded and not is_quantised  # what no device may hold whole goes to it in shares
    model = load(
        models.start, device="cpu" if is_cut else compute.device, dtype=compute.dtype if is_quantised else "float32"
    )
    if config.gradient_checkpointing:
        kwargs = {"use_reentrant": False}
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable(kwargs)
        else:
            model.gradient_checkpointing_enable(kwargs)
    if config.lora is None:
        model.requires_grad_(True)
        return model, model
    from peft import LoraConfig, get_peft_model  # ten seconds: only for adapters

    settings = LoraConfig(
        r=config.lora, lora_alpha=LORA_ALPHA_PER_RANK * config.lora, lora_dropout=0.0,
        target_modules="all-linear", task_type=ADAPTED_TASKS[models.start.kind],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            adapted: Any = get_peft_model(model, settings)
        except ValueError as error:
            raise ConfigError(
                f"--lora: {models.start.architecture} cannot be adapted: {error}", hint="train it whole"
            ) from error
    adapted.peft_config["default"].base_model_name_or_path = str(models.start.folder)
    if is_quantised:
        _check_gradients(adapted, models.start)
    return adapted, adapted.get_base_model()


def _check_gradients(adapted: Any, start: Checkpoint) -> None:
    """Refuse a quantised base that passes no gradient down: only the uppermost layers would learn, without a word.

    Raises:
        ModelError: naming an adapter that a loss does not reach.
    """
    import torch

    from kdaudit.signals.running import without_cache

    ids = torch.arange(1, 9, device=adapted.device).unsqueeze(0) % max(2, start.vocab_size)
    was_training = adapted.training
    adapted.eval()
    adapted(input_ids=ids, labels=ids, **without_cache(adapted.get_base_model())).loss.backward()
    trained = [(name, weight) for name, weight in adapted.named_parameters() if "lora_B" in name]
    idle = [name for name, weight in trained if weight.grad is None or not bool(weight.grad.any())]
    adapted.zero_grad(set_to_none=True)
    adapted.train(was_training)
    if idle and _is_dense(adapted):
        raise ModelError(
            f"--lora: {start.name} is quantised ({start.load}) in a way that passes no gradient to {idle[0]}",
            hint="give the start unquantised, with --student-load 4bit if memory is short",
        )


def _is_dense(model: Any) -> bool:
    """Whether every token passes every layer: an expert that no token was sent to gets no gradient either."""
    config = model.config.get_text_config()
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    return not any(getattr(config, name, None) for name in names)


def _check_same_tokens(teacher: Any, student: Any, at_teacher: Checkpoint, at_student: Checkpoint) -> None:
    if not is_same(student, teacher):
        known, others = student.get_vocab(), teacher.get_vocab()
        differing = sum(others.get(word) != number for word, number in known.items())
        what = f"{differing} of {len(known)} tokens differ" if differing else "they split texts differently"
        raise ConfigError(
            f"{at_teacher.name} and {at_student.name} have different tokenizers: {what}",
            hint="distillation compares distributions token by token: take a student of the teacher's family, "
            "or make one by --student-layers or --student-config",
        )
