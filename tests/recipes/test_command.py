"""`kdaudit manifest`: a student that kdaudit did not train is audited by itself afterwards."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kdaudit import manifest
from tests import tiny
from tests.commands import Done, Given, check_refused, kdaudit, read_texts, results
from tests.distill.students import manifest_of

CONFIG: dict[str, object] = {
    "beta": 0.0, "lmbda": 0.0, "seq_kd": False, "num_train_epochs": 2, "learning_rate": 1e-3, "max_length": 40,
    "lr_scheduler_type": "cosine",
    "logging_steps": 5, "warp_factor": 9,
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A student that plain torch trained, and what it was trained with."""

    given: Given
    student: Path
    config: Path
    train: Path
    nonmembers: Path

    def describe(self, *options: object, trainer: str = "trl") -> Done:
        given = {
            "--from": trainer, "--train": self.train, "--nonmembers": self.nonmembers, "--student": self.student,
        }  # fmt: skip
        told = [part for name, value in given.items() if name not in options for part in (name, value)]
        return kdaudit("manifest", self.config, *told, *options)

    def attack(self, out: Path, *options: object, attacks: str = "loss") -> Done:
        """`kdaudit attack` with no word on records."""
        models = ("--teacher", self.given.teacher, "--student", self.student)
        return kdaudit("attack", *models, "--out", out, "--attack", attacks, "--quiet", *options)

    def mitigate(self, out: Path, *options: object) -> Done:
        return kdaudit("mitigate", "--from", self.student, "--method", "hard-only", "--out", out, "--quiet", *options)

    def configure(self, **content: object) -> None:
        self.config.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture
def trained(given: Given, tmp_path: Path) -> Trained:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made, split = AutoModelForCausalLM.from_pretrained(given.start), AutoTokenizer.from_pretrained(given.start)
    tiny.teach(made, split, list(read_texts(given.members).values()))
    made.save_pretrained(tmp_path / "student")
    split.save_pretrained(tmp_path / "student")
    train, nonmembers = tmp_path / "train.jsonl", tmp_path / "others.jsonl"
    shutil.copy(given.members, train)
    shutil.copy(given.nonmembers, nonmembers)
    found = Trained(given, tmp_path / "student", tmp_path / "gkd.yaml", train, nonmembers)
    found.configure(
        model_name_or_path=str(given.start), teacher_model_name_or_path=str(given.teacher), **CONFIG
    )  # fmt: skip
    return found


def test_a_student_of_another_tool_is_audited_without_a_word_on_records(trained: Trained, tmp_path: Path) -> None:
    done = trained.describe()
    assert done.code == 0, done.err
    for words in ("TRL GKDTrainer", "forward-kl", "warp_factor"):
        assert words in done.out
    assert "logging_steps" not in done.out
    assert "never publish it" in done.err
    content = (trained.student / "kdaudit.json").read_text(encoding="utf-8")
    assert not [text for text in read_texts(trained.train).values() if text in content]

    audited = trained.attack(tmp_path / "run", attacks="loss,reference")
    assert audited.code == 0, audited.err
    found = results(tmp_path / "run")
    n = len(read_texts(trained.train))
    assert (found["data"]["members"], found["data"]["nonmembers"]) == (n, len(read_texts(trained.nonmembers)))
    assert found["models"]["student"]["reference"]["name"] == str(trained.given.start)
    assert found["models"]["student"]["distillation"]["objective"] == "forward-kl"
    assert found["models"]["student"]["distillation"]["utility"] is None
    assert found["attacks"]["loss"]["student"]["status"] == "ok"
    told = kdaudit("attack", *trained.given.having(student=trained.student).arguments(), "--out", tmp_path / "told",
                   "--student-reference", trained.given.start, "--attack", "loss,reference", "--quiet")  # fmt: skip
    assert told.code == 0, told.err
    for attack in ("loss", "reference"):
        by_hand = results(tmp_path / "told")["attacks"][attack]["student"]["auc"]
        assert found["attacks"][attack]["student"]["auc"]["value"] == by_hand["value"]


def test_a_manifest_is_signed_and_an_edited_one_is_refused(trained: Trained, tmp_path: Path) -> None:
    assert trained.describe("--quiet").code == 0
    path = trained.student / "kdaudit.json"
    key_file = Path(f"{trained.train}{manifest.KEY_SUFFIX}")
    manifest.check_signature(manifest.load(path), manifest.read_key(key_file), key_file)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["data"]["members"] = content["data"]["members"][1:]
    path.write_text(json.dumps(content), encoding="utf-8")
    check_refused(trained.attack(tmp_path / "run"), "was changed after")


def test_a_recipe_that_can_be_told_is_repeated(trained: Trained, tmp_path: Path) -> None:
    assert trained.describe("--quiet").code == 0
    done = trained.mitigate(tmp_path / "arms", "--seeds", 1, "--batch-tokens", 150)
    assert done.code in {0, 3}, done.err
    plain = manifest_of(min((tmp_path / "arms").glob("plain*/**/kdaudit.json")).parent)
    assert plain["training"]["hard_weight"] == 0.0
    assert plain["training"]["epochs"] == 2
    assert len(plain["data"]["members"]) == len(read_texts(trained.train))


def test_a_recipe_that_cannot_be_told_is_asked_for(trained: Trained, tmp_path: Path) -> None:
    trained.configure(
        model_name_or_path=str(trained.given.start), teacher_model_name_or_path=str(trained.given.teacher),
        use_liger_kernel=True, seq_kd=False, lmbda=0.0, beta=0.0,
    )  # fmt: skip
    done = trained.describe()
    assert "0.5 * cross-entropy" in done.out
    assert "weight on the ground truth" in done.out
    check_refused(
        trained.mitigate(tmp_path / "arms"), "does not say", "hard weight, temperature, lr", "--hard-weight"
    )  # fmt: skip
    trained.configure(
        model_name_or_path=str(trained.given.start), teacher_model_name_or_path=str(trained.given.teacher),
        num_train_epochs=1.5, learning_rate=0.1, seq_kd=False, lmbda=0.0, beta=0.0,
    )  # fmt: skip
    assert trained.describe("--overwrite", "--quiet").code == 0
    check_refused(trained.mitigate(tmp_path / "arms"), "1.5 epochs", "--epochs")


def test_a_student_whose_start_is_gone_is_audited_without_a_reference(trained: Trained, tmp_path: Path) -> None:
    teacher = str(trained.given.teacher)
    trained.configure(model_name_or_path=str(tmp_path / "gone"), teacher_model_name_or_path=teacher, **CONFIG)
    check_refused(trained.describe(), "gone", "--start none")
    assert not (trained.student / "kdaudit.json").exists()
    done = trained.describe("--start", "none")
    assert done.code == 0, done.err
    assert "it has no reference model" in done.out
    assert "start" not in manifest_of(trained.student)
    audited = trained.attack(tmp_path / "run")
    assert audited.code == 0, audited.err
    found = results(tmp_path / "run")
    assert found["models"]["student"]["reference"] is None
    assert any("does not say what it started from" in line for line in found["validity"]["warnings"])
    check_refused(
        trained.mitigate(tmp_path / "arms"), "does not say what the student started from", "--student CHECKPOINT"
    )  # fmt: skip


def test_a_student_that_started_from_its_teacher_has_no_reference(trained: Trained, tmp_path: Path) -> None:
    teacher = str(trained.given.teacher)
    trained.configure(model_name_or_path=teacher, teacher_model_name_or_path=teacher, **CONFIG)
    done = trained.describe()
    assert "which may have seen the members" in done.out
    assert manifest_of(trained.student)["start"]["is_reference"] is False
    assert trained.attack(tmp_path / "run").code == 0
    assert results(tmp_path / "run")["models"]["student"]["reference"] is None
    reference = ("--student-reference", trained.given.teacher)
    check_refused(trained.attack(tmp_path / "again", *reference), "is the teacher of student")


def test_what_cannot_be_described_is_refused(trained: Trained, tmp_path: Path) -> None:
    check_refused(trained.describe("--student", tmp_path / "none"), "there is no folder")
    check_refused(trained.describe("--student", trained.given.start), "nothing was trained in it")
    check_refused(trained.describe("--nonmembers", trained.train), "both")
    check_refused(trained.describe(trainer="keras"), "'keras' is none of trl, nemo, distillkit, axolotl")
    check_refused(trained.describe("--train", tmp_path / "none.jsonl"), "none.jsonl")
    trained.configure(model_name_or_path=str(trained.given.start))
    check_refused(trained.describe(), "names no teacher", "--teacher FOLDER")
    assert not (trained.student / "kdaudit.json").exists()


def test_a_manifest_that_is_there_is_not_replaced_unasked(trained: Trained, tmp_path: Path) -> None:
    assert trained.describe("--quiet").code == 0
    check_refused(trained.describe(), "there is a manifest already", "--overwrite")
    assert trained.describe("--overwrite", "--quiet").code == 0
    elsewhere = tmp_path / "m.json"
    assert trained.describe("--manifest-out", elsewhere, "--quiet").code == 0
    (trained.student / "kdaudit.json").unlink()
    assert trained.attack(tmp_path / "run", "--manifest", elsewhere).code == 0
