"""Sizes in config.json are looked at before a library builds what they state."""

import time
from typing import Any

import pytest

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.models.sizes import check_built, check_rank, check_settings

ABSURD: dict[str, tuple[dict[str, Any], str]] = {
    "a million layers": ({"n_layer": 1_000_000}, "n_layer is 1000000, and a model has at most 1,000"),
    "no layer": ({"num_hidden_layers": 0}, "num_hidden_layers is 0, and a model has at least one"),
    "less than none": ({"vocab_size": -1}, "vocab_size is -1"),
    "no number": ({"vocab_size": float("nan")}, "vocab_size is nan"),
    "beyond a float": ({"n_embd": 10**400}, "n_embd is 10000000000000000000…, and a model has at most"),
    "inside": ({"text_config": {"hidden_size": 2**40}}, "hidden_size is 1099511627776"),
    "in a list": ({"parts": [{"n_layer": 10**6}]}, "n_layer is 1000000"),
    "labels": ({"id2label": {str(i): "" for i in range(200_000)}}, "id2label has 200,000 entries"),
    "settings": ({str(i): i for i in range(200_000)}, "it has 200,000 entries"),
    "many labels": ({"num_labels": 10**8}, "num_labels is 100000000"),
    "a number for a name": ({"architectures": 3}, "architectures is not a list of names"),
    "numbers for names": ({"architectures": [3]}, "architectures is not a list of names"),
}


@pytest.mark.parametrize(("settings", "words"), ABSURD.values(), ids=ABSURD)
def test_sizes_that_no_model_has_are_refused_at_once(settings: dict[str, Any], words: str) -> None:
    started = time.process_time()
    with pytest.raises(CheckpointError) as raised:
        check_settings(settings, "--teacher: config.json")
    assert str(raised.value).startswith(f"--teacher: config.json: {words}")
    assert time.process_time() - started < 1


def test_sizes_that_models_have_are_none_of_these() -> None:
    check_settings(
        {"n_layer": 126, "hidden_size": 16384, "vocab_size": 256_000, "num_local_experts": 0, "n_inner": None,
         "rope": {"factor": 8.0, "long_factor": [1.0] * 64}, "is_decoder": True,
         "time_step_limit": [0.0, float("inf")]},
        "--teacher",
    )  # fmt: skip


def test_a_model_far_larger_than_its_files_is_refused_before_memory_is_taken() -> None:
    import torch

    with torch.device("meta"):
        model = torch.nn.Linear(2**17, 2**17)
    with pytest.raises(ModelError, match=r"describes 17,180,000,256 weights, and its files hold 1,000 bytes"):
        check_built(model, "x", 1000)
    check_built(model, "x", 2**33)


def test_a_rank_that_an_adapters_file_has_no_room_for_is_refused() -> None:
    for settings in ({"r": 10**6}, {"r": 2, "rank_pattern": {"c_attn": 10**400}}):
        with pytest.raises(CheckpointError, match=r"^x: its adapter_config.json states a rank of 10*…?, and its file"):
            check_rank({"peft_type": "LORA", **settings}, 64, 10_000, "x")
    check_rank({"peft_type": "LORA", "r": 8, "rank_pattern": {"c_attn": 16}}, 64, 10_000, "x")
    check_rank({"peft_type": "VERA", "r": 256}, 64, 10_000, "x")  # its large matrices are drawn by a seed, not stored
