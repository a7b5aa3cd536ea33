"""The recipe of a finished student, read from its manifest to distil it again."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import CheckpointError, ConfigError
from kdaudit.manifest import Manifest
from kdaudit.mitigate.recipe import manifest_of, settings_of
from kdaudit.models.checkpoint import find


@pytest.fixture
def found(checkpoint: Callable[..., Path], tmp_path: Path) -> Manifest:
    """What `distill` wrote, as far as it is read here."""
    made = DistillConfig(
        teacher="t", train=("f",), out=tmp_path, student="s", holdout="0.3", teacher_saw="none", seed=7, epochs=4,
        lr=1e-3, hard_weight=0.25, limit=50, copies_per_epoch=3, chat_date="2020-02-02",
    )  # fmt: skip
    parts = {"teacher": checkpoint(seed=1), "start": checkpoint(seed=3)}
    described = {
        name: {"name": str(path), "weights_sha256": find(str(path), option="--x").weights_sha256, "revision": None}
        for name, path in parts.items()
    }
    (tmp_path / "key").touch()
    content: dict[str, Any] = {
        "data": {"train": {"source": "train.jsonl"}, "nonmembers": None, "key_file": str(tmp_path / "key")},
        "teacher": {**described["teacher"], "load": None},
        "start": {**described["start"], "load": None, "origin": "checkpoint", "layers": None},
        "training": {**made.identity(), "hard_weight": made.weight, "steps": 12, "tokens": 3456},
    }
    return Manifest(tmp_path / "kdaudit.json", content)


def test_a_recipe_makes_the_same_configuration_again(found: Manifest, tmp_path: Path) -> None:
    settings = settings_of(found, {})
    again = DistillConfig(**settings, out=tmp_path / "again")
    assert settings.keys() <= {field.name for field in fields(DistillConfig)}
    assert (again.train, again.nonmembers, again.holdout, again.teacher_saw) == (("train.jsonl",), (), "0.3", "none")
    assert (again.teacher, again.student) == (found.content["teacher"]["name"], found.content["start"]["name"])
    assert (again.seed, again.records_seed, again.epochs, again.limit) == (7, 7, 4, 50)
    assert (again.weight, again.learning_rate, again.chat_date) == (0.25, 1e-3, "2020-02-02")
    assert again.copies_per_epoch == 0  # a comparison settles that itself


def test_a_recipe_from_before_there_was_a_choice_learns_the_last_answers_again(found: Manifest) -> None:
    training = {name: value for name, value in found.content["training"].items() if name != "score"}
    old = Manifest(found.path, {**found.content, "training": training})
    assert settings_of(found, {})["score"] == "assistant"
    assert settings_of(old, {})["score"] == "last"


def test_what_is_given_replaces_the_recipe_and_whatever_says_the_same(found: Manifest, tmp_path: Path) -> None:
    given = {"nonmembers": ("n.jsonl",), "student_layers": "0,1", "objective": "jsd", "seed": 1, "teacher": "elsewhere"}
    again = DistillConfig(**settings_of(found, given), out=tmp_path / "again")
    assert (again.nonmembers, again.holdout, again.teacher_saw) == (("n.jsonl",), None, None)
    assert (again.student, again.student_layers, again.teacher) == (None, "0,1", "elsewhere")
    assert (again.objective, again.beta, again.seed, again.records_seed) == ("jsd", None, 1, 7)


def test_records_in_memory_are_to_be_given_as_a_file(found: Manifest, tmp_path: Path) -> None:
    data = {**found.data, "train": {"source": "in memory"}}
    changed = Manifest(found.path, {**found.content, "data": data})
    with pytest.raises(ConfigError, match="records in memory") as caught:
        settings_of(changed, {})
    assert "--train" in caught.value.hint
    assert settings_of(changed, {"train": "t.jsonl"})["train"] == "t.jsonl"


def test_hard_labels_alone_have_no_weight_to_set(found: Manifest, tmp_path: Path) -> None:
    training = {**found.content["training"], "objective": "hard", "hard_weight": 1.0}
    hard = Manifest(found.path, {**found.content, "training": training})
    assert DistillConfig(**settings_of(hard, {}), out=tmp_path).hard_weight is None


@pytest.mark.parametrize(("part", "option"), [("teacher", "--teacher"), ("start", "--student")])
def test_a_checkpoint_that_is_gone_or_has_changed_is_named_with_the_way_out(
    part: str, option: str, found: Manifest, checkpoint: Callable[..., Path]
) -> None:
    for changes, said in (
        ({"name": "/nowhere"}, "is not there (/nowhere)"),
        ({"name": str(checkpoint(seed=2))}, "has changed since"),
    ):
        changed = Manifest(found.path, {**found.content, part: {**found.content[part], **changes}})
        with pytest.raises(CheckpointError) as caught:
            settings_of(changed, {})
        assert said in str(caught.value)
        assert option in caught.value.hint


def test_a_lost_key_and_a_folder_without_a_manifest_are_named(found: Manifest, tmp_path: Path) -> None:
    (tmp_path / "key").unlink()
    with pytest.raises(ConfigError, match=r"the key of the record ids, .*key, is not there"):
        settings_of(found, {})
    (tmp_path / "moved").touch()
    assert settings_of(found, {"key_file": tmp_path / "moved"})["key_file"] == tmp_path / "moved"
    with pytest.raises(ConfigError, match=r"has no kdaudit.json"):
        manifest_of(str(tmp_path))
