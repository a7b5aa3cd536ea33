"""What transformers' TrainingArguments say, wherever a trainer keeps them."""

from __future__ import annotations

from typing import Any

from kdaudit.recipes.recipe import TrainerConfig, not_all, told, whole

EPOCHS = 3.0
"""transformers' default."""
READ = (
    "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "warmup_ratio", "weight_decay", "seed",
)  # fmt: skip
OF_NO_CONSEQUENCE = (
    "output_dir", "run_name", "report_to", "project", "logging_*", "log_*", "save_*", "eval_*", "do_*", "hub_*",
    "push_to_hub*", "per_device_*", "per_gpu_*", "gradient_*", "use_cache", "bf16*", "fp16*", "tf32",
    "half_precision_*", "dataloader_*", "fsdp*", "deepspeed", "ddp_*", "accelerator_config", "parallelism_config",
    "torch_*", "torchdynamo", "use_cpu", "no_cuda", "use_mps_device", "local_rank", "optim*", "adam_*", "adafactor",
    "max_grad_norm", "warmup_steps", "lr_scheduler_kwargs", "disable_tqdm", "remove_unused_columns", "label_names",
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "ignore_data_skip",
    "resume_from_checkpoint", "overwrite_output_dir", "length_column_name", "group_by_length",
    "train_sampling_strategy", "auto_find_batch_size", "full_determinism", "data_seed", "include_*",
    "skip_memory_metrics", "use_legacy_prediction_loop", "past_index", "prediction_loss_only",
    "average_tokens_across_devices", "batch_eval_metrics", "jit_mode_eval", "use_ipex", "split_batches",
    "restore_callback_states_from_checkpoint", "enable_jit_checkpoint", "fp_*", "mp_parameters", "debug", "ray_scope",
    "neftune_noise_alpha", "liger_kernel_config", "trackio_*", "tpu_*", "xpu_backend",
)  # fmt: skip
"""Names that change neither who is a member nor the loss."""


def training(config: TrainerConfig, *, section: str = "") -> dict[str, Any]:
    """Epochs, learning rate and what belongs to it, by field of `DistillConfig`.

    Args:
        config: of the trainer.
        section: with a point at its end; where the arguments stand in it.

    Raises:
        ConfigError: one is not what it is to be.
    """
    is_limited = (config.number(f"{section}max_steps") or 0) > 0  # then the epochs do not count
    schedule = config.text(f"{section}lr_scheduler_type") or "linear"
    return told(
        epochs=None if is_limited else whole(config.number(f"{section}num_train_epochs", EPOCHS)),
        lr=config.number(f"{section}learning_rate"),
        schedule="linear" if schedule == "linear" else None,
        warmup=config.number(f"{section}warmup_ratio"),
        weight_decay=config.number(f"{section}weight_decay"),
        seed=config.count(f"{section}seed"),
    )


def notes(config: TrainerConfig, *, section: str = "") -> list[str]:
    """What may have left records of the training file out."""
    found = not_all(config, f"{section}max_steps")
    epochs = config.number(f"{section}num_train_epochs", EPOCHS) or 0
    return found or (not_all(config, f"{section}num_train_epochs") if epochs < 1 else [])


def load(config: TrainerConfig) -> str | None:
    """How the weights under an adapter are quantised."""
    return "4bit" if config.is_on("load_in_4bit") else "8bit" if config.is_on("load_in_8bit") else None
