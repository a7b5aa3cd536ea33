"""What the environment may not decide, and what of it is written down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdaudit.errors import ConfigError
from kdaudit.models import environment
from tests import tiny
from tests.commands import Given, check_refused, texts
from tests.distill.students import Recipe, manifest_of

REFUSED = {
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "DNNL_DEFAULT_FPMATH_MODE": "ANY", "NVIDIA_TF32_OVERRIDE": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "XLA_USE_BF16": "1", "XLA_DOWNCAST_BF16": "true",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
}  # fmt: skip
REFUSED_IN_TRAINING = {
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "ACCELERATE_USE_DEEPSPEED": "1",
    "ACCELERATE_USE_MEGATRON_LM": "true", "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_TORCH_DEVICE": "meta", "ACCELERATE_USE_SAGEMAKER": "true",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_DOWNCAST_BF16": "maybe",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_a_number_is_refused_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, REFUSED[name])
    with pytest.raises(ConfigError, match=f"the environment sets {name} to '{REFUSED[name]}'") as caught:
        environment.check_environment()
    assert caught.value.hint == f"unset {name}"
    monkeypatch.setenv(name, "0")
    environment.check_environment()


@pytest.mark.parametrize("name", REFUSED_IN_TRAINING)
def test_what_would_train_otherwise_is_refused_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, REFUSED_IN_TRAINING[name])
    environment.check_environment()
    with pytest.raises(ConfigError, match=f"the environment sets {name} to "):
        environment.check_training_environment(gradient_accumulation=2)


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("FSDP_VERSION", "1", "fsdp_version: 2"),
        ("FSDP_CPU_RAM_EFFICIENT_LOADING", "true", "fsdp_cpu_ram_efficient_loading: false"),
        ("FSDP_OFFLOAD_PARAMS", "true", "fsdp_offload_params: false"),
        ("FSDP_IGNORED_MODULES", "lm_head", "no fsdp_ignored_modules"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "fsdp_activation_checkpointing: false"),
    ],
)
def test_fsdp_is_refused_where_it_would_train_otherwise(
    name: str, value: str, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    environment.check_training_environment(gradient_accumulation=1)  # without FSDP it says nothing
    monkeypatch.delenv(name)
    for key in FSDP:
        monkeypatch.setenv(key, FSDP[key])
    environment.check_training_environment(gradient_accumulation=1)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} set to '{value}'") as caught:
        environment.check_training_environment(gradient_accumulation=1)
    assert way_out in caught.value.hint


def test_fsdp_over_cpus_is_refused(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in FSDP:
        monkeypatch.setenv(key, FSDP[key])
    check_refused(recipe.distill(tmp_path / "student"), "shards nothing over CPUs", "leave FSDP out")
    assert not (tmp_path / "student").exists()


def test_torch_that_was_set_to_other_defaults_is_refused() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        with pytest.raises(ConfigError, match="default dtype is bfloat16"):
            environment.check_environment()
    finally:
        torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ConfigError, match="float32 products is 'high'"):
            environment.check_environment()
    finally:
        torch.set_float32_matmul_precision("highest")


def test_both_commands_refuse_before_anything_is_written(
    given: Given, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    way_out = "or give --dtype bfloat16"
    check_refused(recipe.distill(tmp_path / "student"), "ACCELERATE_MIXED_PRECISION is 'bf16'", "float32", way_out)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    check_refused(recipe.distill(tmp_path / "student"), "ACCELERATE_MIXED_PRECISION is 'fp8'")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    check_refused(given.attack(tmp_path / "run"), "NVIDIA_TF32_OVERRIDE")
    assert not (tmp_path / "student").exists()
    assert not (tmp_path / "run").exists()


def test_a_training_leaves_the_environment_as_it_was_and_writes_down_what_counts(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers sets variables of accelerate, which then decided over the next training of the process."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    before = dict(os.environ)
    assert recipe.distill(tmp_path / "one", "--dtype", "bfloat16").code == 0
    assert recipe.distill(tmp_path / "two").code == 0
    assert dict(os.environ) == before
    training = manifest_of(tmp_path / "two")["training"]
    assert training["mixed_precision"] == "no"
    assert training["environment"]["MKL_CBWR"] == "COMPATIBLE"
    assert set(training["environment"]) <= set(environment.RECORDED)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_order_of_hashes_and_settings_that_move_nothing_leave_every_byte(tmp_path: Path) -> None:
    teacher, student = (tiny.save(tmp_path / name, seed=seed) for seed, name in ((1, "teacher"), (2, "student")))
    members = tiny.write_jsonl(tmp_path / "m.jsonl", texts(48)[:24], prefix="m")
    nonmembers = tiny.write_jsonl(tmp_path / "n.jsonl", texts(48)[24:], prefix="n")
    found = []
    harmless = {"PYTHONHASHSEED": "2", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "debug", "TZ": "Asia/Tokyo",
                "ACCELERATE_MIXED_PRECISION": "bf16", "LC_ALL": "C", "TOKENIZERS_PARALLELISM": "true"}  # fmt: skip
    for position, settings in enumerate(({"PYTHONHASHSEED": "1"}, harmless)):
        out = tmp_path / str(position)
        arguments = [
            "attack",
            "--teacher",
            teacher,
            "--student",
            student,
            "--members",
            members,
            "--attack",
            "loss",
            "--quiet",
        ]
        command = [sys.executable, "-m", "kdaudit", *map(str, arguments), "--nonmembers", str(nonmembers)]
        environ = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
        subprocess.run([*command, "--out", str(out)], env=environ, check=True, capture_output=True)
        found.append({name: (out / name).read_bytes() for name in ("results.json", "scores.parquet", "summary.md")})
    assert found[0] == found[1]
