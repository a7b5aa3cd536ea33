"""Axolotl: its KD plugin, and training on texts alone.

Source: axolotl-ai-cloud/axolotl, `integrations/kd`: the loss is kd_ce_alpha * cross-entropy + kd_alpha * T² * the
divergence over the teacher's likeliest words, and the weights need not add up to 1.
"""

from __future__ import annotations

from typing import Any

from kdaudit.recipes import arguments
from kdaudit.recipes.recipe import Recipe, TrainerConfig, about_unknown, divergence, not_all, share, told, whole

KD, FINETUNE = "Axolotl KDPlugin", "Axolotl"
READ = (
    "base_model", "revision_of_model", "kd_*", "sequence_len", "num_epochs", "max_steps", "learning_rate",
    "lr_scheduler", "warmup_ratio", "weight_decay", "seed", "adapter", "lora_*", "load_in_4bit", "load_in_8bit",
    "val_set_size",
)  # fmt: skip
KNOWN = (
    *READ, *arguments.OF_NO_CONSEQUENCE, "base_model_config", "model_type", "tokenizer_*", "plugins", "datasets",
    "test_datasets", "chat_template*", "dataset_*", "micro_batch_size", "batch_size", "eval_batch_size",
    "sample_packing*", "pad_to_sequence_len", "train_on_inputs", "group_by_length", "flash_*", "sdp_attention",
    "xformers_attention", "attn_implementation", "special_tokens", "tokens", "wandb_*", "mlflow_*", "comet_*",
    "use_wandb", "trust_remote_code", "saves_per_epoch", "evals_per_epoch", "peft_*", "strict",
    "early_stopping_patience", "liger_*", "use_tensorboard", "is_*_derived_model", "low_cpu_mem_usage", "cosine_*",
    "auto_resume_from_checkpoints", "shuffle_*",
)  # fmt: skip
NO_HARD_GRADIENT = (
    "kd_ce_alpha: from axolotl-ai-cloud/axolotl#2700 (May 2025) until #3660 (May 2026) the cross-entropy was reported "
    "but had no gradient, so that the student learnt from its teacher alone; before and since its weight is "
    "{share:.3g}. The configuration does not say which release trained the student, so the manifest names no weight"
)
NAME_ONLY = "{names}: kd_trainer is not on, so the student learnt the texts alone, and nothing of its teacher"


def read(config: TrainerConfig) -> Recipe:
    """The recipe in a configuration of Axolotl.

    Raises:
        ConfigError: a value is not what it is to be.
    """
    is_kd = config.is_on("kd_trainer")
    loss, notes = _loss(config) if is_kd else _plain(config)
    is_limited = (config.number("max_steps") or 0) > 0
    is_adapted = config.text("adapter") in {"lora", "qlora"}
    training = told(
        **loss,
        epochs=None if is_limited else whole(config.number("num_epochs")),
        lr=config.number("learning_rate"),
        schedule="linear" if config.text("lr_scheduler") == "linear" else None,
        warmup=config.number("warmup_ratio"),
        weight_decay=config.number("weight_decay"),
        seed=config.count("seed"),
        lora=config.count("lora_r") if is_adapted else None,
        max_tokens=config.count("sequence_len"),
    )
    start, revision = config.text("base_model"), config.text("revision_of_model")
    return Recipe(
        KD if is_kd else FINETUNE,
        teacher=config.text("kd_online_server_model"),
        start=f"{start}@{revision}" if start and revision else start,
        training=training,
        load=arguments.load(config) if is_adapted else None,
        notes=(*notes, *not_all(config, "max_steps", "val_set_size"), *about_unknown(config, config.unknown(KNOWN))),
    )


def _plain(config: TrainerConfig) -> tuple[dict[str, Any], list[str]]:
    names = [name for name in ("kd_alpha", "kd_ce_alpha", "kd_temperature", "kd_beta") if config.has(name)]
    notes = [NAME_ONLY.format(names=", ".join(names))] if names else []
    return {"objective": "hard", "hard_weight": 1.0}, notes


def _loss(config: TrainerConfig) -> tuple[dict[str, Any], list[str]]:
    hard, soft = config.number("kd_ce_alpha", 0.0) or 0.0, config.number("kd_alpha", 1.0) or 0.0
    if hard < 0 or soft < 0 or hard + soft == 0:
        raise config.problem("kd_alpha", "a weight above 0, or kd_ce_alpha is not")
    if soft == 0:
        note = NO_HARD_GRADIENT.format(share=1.0)
        return {}, [note]
    temperature = config.number("kd_temperature", 1.0)
    if config.has("kd_temperature_min"):
        temperature = None  # it falls while the student is trained
    loss = {**divergence(config.number("kd_beta", 0.0) or 0.0), "temperature": temperature}
    if hard == 0:
        return {**loss, "hard_weight": 0.0}, []
    return loss, [NO_HARD_GRADIENT.format(share=share(hard, soft))]
