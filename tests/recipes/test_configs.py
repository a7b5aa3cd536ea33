"""What the configurations of other trainers say of a student, in the words of `kdaudit distill`."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError
from kdaudit.recipes import TRAINERS
from kdaudit.recipes.recipe import Recipe, read_config, share

GKD: dict[str, Any] = {"model_name_or_path": "start", "teacher_model_name_or_path": "teacher", "seq_kd": False}
NEMO: dict[str, Any] = {
    "model": {"_target_": "nemo_automodel.NeMoAutoModelForCausalLM", "pretrained_model_name_or_path": "start"},
    "teacher_model": {"pretrained_model_name_or_path": "teacher", "torch_dtype": "bf16"},
    "step_scheduler": {"global_batch_size": 32, "num_epochs": 2},
    "rng": {"seed": 1111, "ranked": True},
    "kd_ratio": 0.7,
    "kd_loss_fn": {"_target_": "nemo_automodel.components.loss.kd_loss.KDLoss", "temperature": 1.0},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-5, "weight_decay": 0},
    "dataset": {"_target_": "x", "split": "train"},
}  # fmt: skip
DISTILLKIT: dict[str, Any] = {
    "project_name": "p", "model": "start", "output_path": "out", "sequence_length": 2048,
    "dataset": {"train_dataset": {"repo_id": "x", "split": "train"}, "seed": 42},
    "teacher": {"kind": "hf", "path": "teacher"},
    "loss_functions": [
        {"function": "cross_entropy", "weight": 0.3}, {"function": "kl", "weight": 0.7, "temperature": 2.0},
    ],
    "training_args": {
        "num_train_epochs": 1, "learning_rate": "5e-6", "lr_scheduler_type": "cosine", "warmup_ratio": 0.1,
    },
}  # fmt: skip
AXOLOTL: dict[str, Any] = {
    "base_model": "start", "plugins": ["axolotl.integrations.kd.KDPlugin"], "kd_trainer": True, "kd_ce_alpha": 0,
    "kd_alpha": 0.9, "kd_temperature": 2.0, "num_epochs": 2, "learning_rate": 0.0001, "sequence_len": 512,
    "datasets": [{"path": "x"}], "micro_batch_size": 1,
}  # fmt: skip


def read(tmp_path: Path, trainer: str, content: dict[str, Any]) -> Recipe:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return TRAINERS[trainer](read_config(path))


@pytest.mark.parametrize(
    ("trainer", "content", "expected"),
    [
        ("trl", {**GKD, "beta": 0.1, "lmbda": 0, "num_train_epochs": 2.0, "learning_rate": 2e-5, "max_length": 99,
                 "seed": 7},
         {"objective": "jsd", "beta": 0.1, "hard_weight": 0.0, "temperature": 1.0, "on_policy": 0.0, "epochs": 2,
          "lr": 2e-5, "max_tokens": 99, "schedule": "linear", "seed": 7}),
        ("trl", {**GKD, "beta": 0.0, "lmbda": 1.0},
         {"objective": "forward-kl", "hard_weight": 0.0, "temperature": 1.0, "on_policy": 1.0, "epochs": 3,
          "schedule": "linear"}),
        ("trl", {**GKD, "seq_kd": True, "beta": 1, "lmbda": 0, "use_peft": True, "lora_r": 8,
                 "lr_scheduler_type": "cosine"},
         {"objective": "reverse-kl", "hard_weight": 0.0, "temperature": 1.0, "on_policy": 0.0, "sequence_level": True,
          "epochs": 3, "lora": 8}),
        ("trl", {"model_name_or_path": "start", "teacher_model_name_or_path": "teacher", "loss_top_k": 0, "beta": 0.0,
                 "lmbda": 0.0, "temperature": 2.0},
         {"objective": "forward-kl", "hard_weight": 0.0, "temperature": 2.0, "on_policy": 0.0, "epochs": 3,
          "schedule": "linear"}),
        ("nemo", NEMO,
         {"objective": "forward-kl", "hard_weight": 0.3, "temperature": 1.0, "epochs": 2, "lr": 1e-5, "weight_decay": 0,
          "seed": 1111}),
        ("distillkit", DISTILLKIT,
         {"objective": "forward-kl", "hard_weight": 0.3, "temperature": 2.0, "epochs": 1, "lr": 5e-6, "warmup": 0.1,
          "max_tokens": 2048}),
        ("axolotl", AXOLOTL,
         {"objective": "forward-kl", "hard_weight": 0.0, "temperature": 2.0, "epochs": 2, "lr": 1e-4,
          "max_tokens": 512}),
    ],
)  # fmt: skip
def test_a_recipe_is_told_in_the_words_of_distill(
    trainer: str, content: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    found = read(tmp_path, trainer, content)
    assert found.training.keys() == expected.keys()
    for name, value in expected.items():
        told = found.training[name]
        assert told == (pytest.approx(value) if isinstance(value, float) else value), name
    assert found.start == "start"
    assert found.teacher == (None if trainer == "axolotl" else "teacher")
    assert not [line for line in found.notes if "not known here" in line]
    DistillConfig(teacher="t", student="s", train=("f",), nonmembers=("n",), out=tmp_path, **found.training)


def test_gkd_with_liger_is_a_mixed_recipe_in_disguise(tmp_path: Path) -> None:
    found = read(tmp_path, "trl", {**GKD, "use_liger_kernel": True, "lmbda": 0.0, "temperature": 0.9})
    assert found.training.keys() & {"hard_weight", "temperature"} == set()
    assert any("0.5 * cross-entropy" in line and "5731" in line for line in found.notes)
    newer = read(tmp_path, "trl", {**GKD, "use_liger_kernel": True, "use_fused_linear_loss": True, "lmbda": 0.0})
    assert (newer.training["hard_weight"], newer.training["temperature"]) == (0.0, 1.0)


def test_the_temperature_of_gkd_is_that_of_sampling(tmp_path: Path) -> None:
    found = read(tmp_path, "trl", {**GKD, "temperature": 0.9})
    assert found.training["temperature"] == 1.0
    assert any("that of sampling" in line for line in found.notes)
    assert found.training["on_policy"] == 0.5  # GKDTrainer's own default
    assert any("in 0.5 of the steps" in line for line in found.notes)


def test_what_two_trainers_take_otherwise_is_not_told(tmp_path: Path) -> None:
    found = read(tmp_path, "trl", {"model_name_or_path": "start", "teacher_model_name_or_path": "t", "beta": 0.5})
    assert found.training.keys() & {"on_policy", "temperature"} == set()
    assert found.training["objective"] == "jsd"
    assert any("GKDTrainer or DistillationTrainer" in line for line in found.notes)


def test_supervised_training_has_no_teacher(tmp_path: Path) -> None:
    found = read(tmp_path, "trl", {"model_name_or_path": "start", "label_smoothing_factor": 0.1})
    assert found.training["objective"] == "hard"
    assert found.training["label_smoothing"] == 0.1
    assert found.teacher is None


def test_a_loss_over_a_few_words_is_none_of_ours(tmp_path: Path) -> None:
    found = read(tmp_path, "trl", {**GKD, "seq_kd": None, "num_generations": 1, "lmbda": 0.0})
    assert "objective" not in found.training
    assert any("1 likeliest words alone" in line for line in found.notes)


@pytest.mark.parametrize(("ratio", "temperature"), [(0.5, 2.0), (0.9, 4.0)])
def test_a_divergence_without_the_square_of_the_temperature_is_told_apart(
    ratio: float, temperature: float, tmp_path: Path
) -> None:
    loss = {**NEMO["kd_loss_fn"], "temperature": temperature}
    found = read(tmp_path, "nemo", {**NEMO, "kd_ratio": ratio, "kd_loss_fn": loss})
    assert "hard_weight" not in found.training
    # before: (1 - r) CE + r KL = c (w CE + (1 - w) T² KL), solved for w
    before = (1 - ratio) / (1 - ratio + ratio / temperature**2)
    scale = (1 - ratio) / before
    assert scale * (1 - before) * temperature**2 == pytest.approx(ratio)
    assert any(f"was {1 - ratio:.3g} since then and {before:.3g} before" in line for line in found.notes)


@pytest.mark.parametrize(
    ("trainer", "content", "words"),
    [
        ("nemo", {**NEMO, "kd_ratio": 0}, "nothing of its teacher"),
        ("axolotl", {**AXOLOTL, "kd_trainer": False}, "kd_trainer is not on"),
        (
            "distillkit",
            {**DISTILLKIT, "loss_functions": [{"function": "cross_entropy", "weight": 1}]},
            "learnt nothing",
        ),
    ],
)
def test_a_distillation_in_name_alone_is_said_to_be_one(
    trainer: str, content: dict[str, Any], words: str, tmp_path: Path
) -> None:
    found = read(tmp_path, trainer, content)
    assert found.training["objective"] == "hard"
    assert any(words in line for line in found.notes)


def test_axolotl_left_the_cross_entropy_without_a_gradient(tmp_path: Path) -> None:
    found = read(tmp_path, "axolotl", {**AXOLOTL, "kd_ce_alpha": 0.3, "kd_alpha": 0.9})
    assert "hard_weight" not in found.training
    assert any("3660" in line and "its weight is 0.25" in line for line in found.notes)


def test_terms_that_kdaudit_has_not_are_named(tmp_path: Path) -> None:
    losses = [*DISTILLKIT["loss_functions"], {"function": "hs_mse", "weight": 0.5}]
    found = read(tmp_path, "distillkit", {**DISTILLKIT, "loss_functions": losses})
    assert found.training.keys() & {"objective", "hard_weight"} == set()
    assert any("hs_mse" in line for line in found.notes)
    zero = read(tmp_path, "distillkit", {**DISTILLKIT, "loss_functions": [*losses[:2], {**losses[2], "weight": 0}]})
    assert zero.training["hard_weight"] == pytest.approx(0.3)


def test_weights_that_do_not_add_up_to_one_are_set_in_proportion() -> None:
    assert share(1, 3) == 0.25
    assert share(0.2, 0) == 1


def test_unknown_names_are_listed_once(tmp_path: Path) -> None:
    content = {
        **NEMO,
        "teleport": 1,
        "optimizer": {**NEMO["optimizer"]},
        "kd_loss_fn": {**NEMO["kd_loss_fn"], "warp": 2},
    }
    (line,) = [line for line in read(tmp_path, "nemo", content).notes if "not known here" in line]
    assert line.endswith(": teleport, kd_loss_fn.warp") or line.endswith(": kd_loss_fn.warp, teleport")


@pytest.mark.parametrize(
    ("trainer", "content", "name"),
    [
        ("trl", {**GKD, "max_steps": 10}, "max_steps is 10"),
        ("trl", {**GKD, "num_train_epochs": 0.5}, "num_train_epochs is 0.5"),
        ("axolotl", {**AXOLOTL, "val_set_size": 0.05}, "val_set_size is 0.05"),
        ("distillkit", {**DISTILLKIT, "dataset": {"num_samples": 100}}, "dataset.num_samples is 100"),
        ("nemo", {**NEMO, "step_scheduler": {"max_steps": 5}}, "step_scheduler.max_steps is 5"),
    ],
)
def test_records_that_no_step_may_have_reached_are_spoken_of(
    trainer: str, content: dict[str, Any], name: str, tmp_path: Path
) -> None:
    found = read(tmp_path, trainer, content)
    assert any(name in line and "a part of --train" in line for line in found.notes)
    if "max_steps" in name:
        assert "epochs" not in found.training


@pytest.mark.parametrize(
    ("trainer", "content", "words"),
    [
        ("trl", {**GKD, "beta": "much"}, "beta is not a number"),
        ("trl", {**GKD, "beta": True}, "beta is not a number"),
        ("trl", {**GKD, "learning_rate": math.nan}, "learning_rate is not a number"),
        ("trl", {**GKD, "teacher_model_name_or_path": ["a"]}, "teacher_model_name_or_path is not a text"),
        ("trl", {**GKD, "use_peft": "maybe"}, "use_peft is not true or false"),
        ("nemo", {**NEMO, "kd_ratio": 1.5}, "kd_ratio is not a number from 0 to 1"),
        ("distillkit", {**DISTILLKIT, "loss_functions": "kl"}, "loss_functions is not a list"),
        ("distillkit", {**DISTILLKIT, "loss_functions": [{"function": "kl"}]}, "loss_functions[0] is not"),
        ("axolotl", {**AXOLOTL, "kd_alpha": 0}, "kd_alpha is not a weight"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_name(
    trainer: str, content: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, trainer, content)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.yaml", "a: [1\nb: 2\n", "line 2"),
        ("c.json", "{", "cannot be read as a configuration"),
        ("c.toml", "a = ", "cannot be read as a configuration"),
        ("c.yaml", "- 1\n- 2\n", "holds no settings by name"),
        ("c.yaml", "", "holds no settings by name"),
        ("c.yaml", "[" * 5000, "cannot be read as a configuration"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(name: str, content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config(tmp_path / "none.yaml")


def test_json_and_toml_are_read_as_yaml_is(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(NEMO), encoding="utf-8")
    (tmp_path / "c.toml").write_text('base_model = "start"\nkd_trainer = true\n', encoding="utf-8")
    assert TRAINERS["nemo"](read_config(tmp_path / "c.json")).teacher == "teacher"
    assert TRAINERS["axolotl"](read_config(tmp_path / "c.toml")).training["objective"] == "forward-kl"
