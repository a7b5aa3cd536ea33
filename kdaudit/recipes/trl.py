"""TRL: GKDTrainer, DistillationTrainer and SFTTrainer.

Source: huggingface/trl, `experimental/gkd`, `experimental/distillation`, `trainer/sft_config.py`. The loss of
GKDTrainer is its generalised Jensen-Shannon divergence at temperature 1: `temperature` is that of sampling.
"""

from __future__ import annotations

from typing import Any

from kdaudit.recipes import arguments
from kdaudit.recipes.recipe import Recipe, TrainerConfig, about_unknown, divergence, told

GKD, DISTILLATION, GOLD, SFT = "TRL GKDTrainer", "TRL DistillationTrainer", "TRL GOLDTrainer", "TRL SFTTrainer"
EITHER = "TRL GKDTrainer or DistillationTrainer"
OWN = {
    GOLD: ("use_uld_loss", "uld_use_hybrid_loss", "uld_crossentropy_weight", "xtoken_loss_type"),
    DISTILLATION: (
        "loss_top_k", "loss_add_tail", "use_teacher_server", "teacher_model_server_url", "max_completion_length",
        "num_generations", "reverse_kl_top_1_mode", "teacher_model_revision",
    ),
    GKD: ("seq_kd", "max_new_tokens", "use_fused_linear_loss"),
    EITHER: ("teacher_model_name_or_path", "lmbda", "beta"),
}  # fmt: skip
"""What the configuration of a trainer alone can hold, in the order in which it is asked for."""
DEFAULTS = {GKD: {"lmbda": 0.5, "beta": 0.5}, DISTILLATION: {"lmbda": 1.0, "beta": 1.0}}
KNOWN = (
    *arguments.READ, *arguments.OF_NO_CONSEQUENCE, *(name for names in OWN.values() for name in names),
    "model_name_or_path", "model_revision", "temperature", "max_length", "max_seq_length", "label_smoothing_factor",
    "use_peft", "lora_*", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "use_bnb_nested_quant",
    "use_liger_kernel", "dtype", "torch_dtype", "attn_implementation", "trust_remote_code",
    "teacher_model_init_kwargs", "model_init_kwargs", "disable_dropout", "dataset_*", "datasets", "use_vllm",
    "vllm_*", "top_p", "top_k", "generation_batch_size", "packing*", "padding_free", "pad_*", "eos_token",
    "activation_offloading", "shuffle_dataset", "chat_template_path", "max_prompt_length", "num_completions_to_print",
    "steps_per_generation", "truncation_mode", "eval_packing",
)  # fmt: skip
LIGER = (
    "use_liger_kernel: from huggingface/trl#3946 until huggingface/trl#5731 (May 2026) GKDTrainer then learnt 0.5 * "
    "cross-entropy + 0.5 * the divergence, at the temperature of sampling, and the divergence alone at temperature 1 "
    "since then. The configuration does not say which release trained the student, so the manifest names neither the "
    "weight nor the temperature"
)
TOP_K = (
    "loss_top_k: DistillationTrainer compared the {k:g} likeliest words alone, which is none of the objectives of "
    "kdaudit; the manifest names none"
)
UNCLEAR = (
    "nothing says whether GKDTrainer or DistillationTrainer read it, and their defaults differ: what it does not say "
    "itself is not in the manifest"
)
ON_POLICY = (
    "lmbda: {share}the student learnt from what it wrote itself after the prompts of the records. There it saw no "
    "answer of a record"
)
SUPERVISED = "SFTTrainer asks no teacher: the student learnt the texts alone, even where a teacher wrote them"


def read(config: TrainerConfig) -> Recipe:
    """The recipe in the configuration of one of TRL's trainers.

    Raises:
        ConfigError: a value is not what it is to be.
    """
    trainer = next((name for name, own in OWN.items() if config.has(*own)), SFT)
    loss, notes = _loss(config, trainer)
    lora = config.count("lora_r") if config.is_on("use_peft") else None
    max_tokens = config.count("max_length") or config.count("max_seq_length")
    start, revision = config.text("model_name_or_path"), config.text("model_revision")
    teacher, commit = config.text("teacher_model_name_or_path"), config.text("teacher_model_revision")
    return Recipe(
        trainer,
        teacher=f"{teacher}@{commit}" if teacher and commit else teacher,
        start=f"{start}@{revision}" if start and revision and revision != "main" else start,
        training={**arguments.training(config), **told(**loss, lora=lora, max_tokens=max_tokens)},
        load=arguments.load(config),
        notes=(*notes, *arguments.notes(config), *about_unknown(config, config.unknown(KNOWN))),
    )


def _loss(config: TrainerConfig, trainer: str) -> tuple[dict[str, Any], list[str]]:
    if trainer == SFT:
        return {
            "objective": "hard", "hard_weight": 1.0, "label_smoothing": config.number("label_smoothing_factor"),
        }, [SUPERVISED]  # fmt: skip
    if trainer == GOLD:
        return {}, ["the loss of GOLDTrainer across tokenizers is none of the objectives of kdaudit; none is named"]
    defaults = DEFAULTS.get(trainer, {})
    beta = config.number("beta", defaults.get("beta"))
    on_policy = config.number("lmbda", defaults.get("lmbda"))
    notes = [UNCLEAR] * (trainer == EITHER)
    if on_policy:
        notes.append(ON_POLICY.format(share="" if on_policy >= 1 else f"in {on_policy:g} of the steps "))
    loss: dict[str, Any] = {
        "hard_weight": 0.0,
        "on_policy": on_policy,
        **(divergence(beta) if beta is not None else {}),
    }
    if config.is_on("seq_kd"):
        loss["sequence_level"] = True
    if trainer != GKD:
        top_k = config.number("loss_top_k", 1.0 if trainer == DISTILLATION else None)
        if top_k:
            loss, notes = {"hard_weight": 0.0, "on_policy": on_policy}, [*notes, TOP_K.format(k=top_k)]
        if trainer == EITHER:
            return (
                ({**loss, "hard_weight": None}, [*notes, LIGER]) if config.is_on("use_liger_kernel") else (loss, notes)
            )
        return {**loss, "temperature": config.number("temperature", 1.0)}, notes
    is_liger = config.is_on("use_liger_kernel") and not config.has(
        "use_fused_linear_loss"
    )  # which is newer than the fix
    if is_liger:
        return {**loss, "hard_weight": None}, [*notes, LIGER]
    if (sampling := config.number("temperature")) is not None and sampling != 1:
        notes.append(f"temperature: {sampling:g} is that of sampling; the divergence of GKDTrainer is taken at 1")
    return {**loss, "temperature": 1.0}, notes
