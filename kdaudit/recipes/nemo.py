"""NeMo AutoModel: the recipes `kd` and `train_ft`.

Source: NVIDIA-NeMo/Automodel, `recipes/llm/kd.py`, `components/loss/kd_loss.py`: the loss is (1 - kd_ratio) *
cross-entropy + kd_ratio * T² * forward KL.
"""

from __future__ import annotations

from typing import Any

from kdaudit.recipes.recipe import Recipe, TrainerConfig, about_unknown, not_all, share, told, whole

KD, FINETUNE = "NeMo AutoModel kd", "NeMo AutoModel train_ft"
SECTIONS = ("model", "teacher_model", "step_scheduler", "optimizer", "rng", "peft", "kd_loss_fn")
KNOWN = (
    "recipe", "model.*", "teacher_model.*", "teacher_distributed", "separate_meshes", "step_scheduler.*", "rng.*",
    "seed", "peft.*", "kd_ratio", "kd_loss_fn._target_", "kd_loss_fn.ignore_index", "kd_loss_fn.temperature",
    "kd_loss_fn.fp32_upcast", "kd_loss_fn.chunk_size", "optimizer.*", "lr_scheduler", "dist_env", "distributed",
    "checkpoint", "loss_fn", "dataset", "dataloader", "validation_dataset", "validation_dataloader",
    "packed_sequence", "offload_teacher_model", "wandb", "mlflow", "comet", "logging", "profiling", "ci", "compile",
    "fp8", "clip_grad_norm",
)  # fmt: skip
SQUARE = (
    "kd_loss_fn.temperature: NeMo AutoModel multiplies the divergence by T² since NVIDIA-NeMo/Automodel#1499 (March "
    "2026) only. In the words of kdaudit the weight of the ground truth was {new:.3g} since then and {old:.3g} "
    "before. The configuration does not say which release trained the student, so the manifest names no weight"
)
OTHER_LOSS = (
    "kd_loss_fn: {found} is not the KDLoss of NeMo AutoModel, so the manifest names neither objective nor temperature"
)


def read(config: TrainerConfig) -> Recipe:
    """The recipe in a configuration of NeMo AutoModel.

    Raises:
        ConfigError: a value is not what it is to be.
    """
    is_kd = config.has("teacher_model", "kd_loss_fn")
    loss, notes = _loss(config) if is_kd else ({"objective": "hard", "hard_weight": 1.0}, [])
    is_limited = (config.number("step_scheduler.max_steps") or 0) > 0
    training = told(
        **loss,
        epochs=None if is_limited else whole(config.number("step_scheduler.num_epochs")),
        lr=config.number("optimizer.lr"),
        weight_decay=config.number("optimizer.weight_decay"),
        seed=config.count("rng.seed") or config.count("seed"),
        lora=config.count("peft.dim"),
        max_tokens=config.count("dataset.seq_length"),
    )
    limits = not_all(config, "step_scheduler.max_steps", "dataset.limit_dataset_samples", "dataset.num_samples_limit")
    return Recipe(
        KD if is_kd else FINETUNE,
        teacher=config.text("teacher_model.pretrained_model_name_or_path"),
        start=config.text("model.pretrained_model_name_or_path"),
        training=training,
        notes=(*notes, *limits, *about_unknown(config, config.unknown(KNOWN, sections=SECTIONS))),
    )


def _loss(config: TrainerConfig) -> tuple[dict[str, Any], list[str]]:
    soft = config.number("kd_ratio", 0.5) or 0.0
    if not 0 <= soft <= 1:
        raise config.problem("kd_ratio", "a number from 0 to 1")
    if soft == 0:
        note = "kd_ratio is 0: the student learnt the texts alone, and nothing of its teacher"
        return {"objective": "hard", "hard_weight": 1.0}, [note]
    target = config.text("kd_loss_fn._target_") or "nothing"
    if target.rpartition(".")[2] != "KDLoss":
        return {"hard_weight": 0.0 if soft == 1 else None}, [OTHER_LOSS.format(found=target)]
    temperature = config.number("kd_loss_fn.temperature", 1.0) or 1.0
    found = {"objective": "forward-kl", "temperature": temperature, "hard_weight": 1 - soft}
    if temperature == 1 or soft == 1:
        return found, []
    before = share(1 - soft, soft / temperature**2)
    return {**found, "hard_weight": None}, [SQUARE.format(new=1 - soft, old=before)]
