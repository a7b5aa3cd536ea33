"""What a distillation may be given, and what of it an unfinished run must share."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from kdaudit.distill import losses
from kdaudit.distill.settings import OBJECTIVES, DistillConfig
from kdaudit.errors import ConfigError

PLAIN = DistillConfig(teacher="t", train=("d.jsonl",), out=Path("o"), student="s", teacher_saw="none")


def test_the_options_name_every_objective_of_the_loss() -> None:
    assert tuple(losses.OBJECTIVES) == OBJECTIVES


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        replace(
            PLAIN, student=None, epochs=0, seed=-1, hard_weight=1.5, temperature=0.0, objective="mse", lr=float("nan"),
            device="tpu", teacher_saw="yes", warmup=1.0,
        )  # fmt: skip
    lines = str(caught.value).splitlines()
    wanted = ("--epochs: 0", "--seed: -1", "--hard-weight: 1.5", "--temperature: 0", "--objective: 'mse'", "--lr: nan",
              "--device: 'tpu'", "--teacher-saw: 'yes'", "--warmup: 1 leaves", "give one start")  # fmt: skip
    assert len(lines) == len(wanted)
    for words in wanted:
        assert sum(words in line for line in lines) == 1, words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student_layers": "0,1"}, "--student and --student-layers given"),
        ({"student": None}, "none given"),
        ({"holdout": "0.5", "coins": True}, "--holdout and --coins: only one"),
        ({"teacher_saw": None}, "--teacher-saw train, none or unknown is needed"),
        ({"nonmembers": ("n.jsonl",)}, "--teacher-saw and --nonmembers: give only one"),
        ({"objective": "hard", "hard_weight": 1.0}, "--objective hard always has weight 1"),
        ({"objective": "hard", "on_policy": 0.5}, "have no ground truth"),
        ({"on_policy": 0.5, "sequence_level": True}, "either the student or the teacher generates"),
        ({"hard_weight": 0.0, "label_smoothing": 0.1}, "the ground truth has no weight"),
        ({"student_load": "4bit"}, "give --lora RANK"),
        ({"teacher_cache": Path("c"), "on_policy": 0.5}, "sequences that are not known beforehand"),
        ({"teacher_cache": Path("c"), "hidden_weight": 1.0}, "needs the teacher's hidden states"),
        ({"teacher_cache": Path("c"), "objective": "hard"}, "the teacher has no weight"),
        ({"text_field": "id"}, "is the field of the text"),
        ({"teacher": " "}, "--teacher: an empty value"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(PLAIN, **changes)


def test_defaults_follow_from_what_is_trained() -> None:
    assert (PLAIN.weight, PLAIN.learning_rate, PLAIN.holdout_rule) == (0.5, 5e-5, "0.2")
    assert replace(PLAIN, lora=4).learning_rate == 2e-4
    assert replace(PLAIN, lora=4, lr=1.0).learning_rate == 1.0
    assert replace(PLAIN, objective="hard").weight == 1
    assert replace(PLAIN, coins=True).holdout_rule == "coins"
    assert replace(PLAIN, nonmembers=("n",), teacher_saw=None).holdout_rule is None


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, True),
        ({"objective": "hard"}, False),
        ({"hard_weight": 1.0}, False),
        ({"hard_weight": 1.0, "hidden_weight": 0.5}, True),
    ],
)
def test_the_teacher_is_loaded_only_where_a_term_asks_it(changes: dict[str, Any], needs: bool) -> None:
    assert replace(PLAIN, **changes).needs_teacher is needs


FREE: dict[str, Any] = {
    "teacher": "T", "train": ("D.jsonl",), "out": Path("elsewhere"), "student": "S", "report_to": "tensorboard",
    "resume": True, "key_file": Path("k"), "manifest_out": Path("m"), "overwrite": True, "gradient_checkpointing": True,
    "gradient_accumulation": 2, "teacher_base": "B",
}  # fmt: skip
BY_CONTENT = {"nonmembers", "student_config", "teacher_cache"}  # these change another key, or a hash beside them
CHANGES: dict[str, Any] = {
    "student_layers": "0", "holdout": "0.5", "coins": True, "teacher_saw": "train", "text_field": "body",
    "id_field": "key", "limit": 5, "objective": "reverse-kl", "beta": 0.5, "hard_weight": 0.3, "temperature": 2.0,
    "label_smoothing": 0.1, "on_policy": 0.5, "sequence_level": True, "hidden_weight": 1.0, "epochs": 4, "lr": 1e-3,
    "schedule": "linear", "warmup": 0.2, "weight_decay": 0.1, "batch_tokens": 512,
    "max_tokens": 16, "lora": 2, "teacher_load": "4bit", "student_load": "4bit", "device": "cpu", "dtype": "float32",
    "teacher_top_k": 8, "copies_per_epoch": 1, "seed": 1, "split_seed": 1, "goldfish": 3,
    "trust_remote_code": True, "allow_pickle": True, "chat_date": "2025-01-01", "answer_field": "chosen",
    "pairs": "text", "txt_record": "file", "skip_empty": True, "score": "all", "kind": "masked", "whole_word": True,
}  # fmt: skip


def test_every_field_either_changes_the_student_or_counts_by_its_content() -> None:
    assert {field.name for field in fields(DistillConfig)} == FREE.keys() | CHANGES.keys() | BY_CONTENT


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_student_changes_the_identity(name: str) -> None:
    needed: dict[str, dict[str, Any]] = {"student_layers": {"student": None}, "student_load": {"lora": 2}}
    changed = replace(PLAIN, **{name: CHANGES[name]}, **needed.get(name, {})).identity()
    assert changed[name] != PLAIN.identity().get(name)


def test_names_and_places_do_not_change_the_identity() -> None:
    assert replace(PLAIN, **FREE).identity() == PLAIN.identity()
    assert replace(PLAIN, teacher_cache=Path("c")).identity() != PLAIN.identity()
