import json
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from kdaudit.demo import models, training
from kdaudit.demo.corpus import Corpus, generate, write
from kdaudit.demo.models import byte_pairs
from kdaudit.demo.training import Checkpoints, Progress, train
from kdaudit.models.kinds import auto_class


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate(0, 16, 4, 24)


@pytest.fixture(params=["causal", "masked"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trained(
    kind: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Checkpoints, list[str]]:
    """A run of seconds: one epoch each, one head's width."""
    monkeypatch.setattr(training, "SCHEDULES", {kind: training.Schedule(1, 1, 1, 5e-3)})
    monkeypatch.setattr(models, "WIDTH", 16)
    steps: list[str] = []
    return train_in(tmp_path, corpus, kind, lambda stage, done, total: steps.append(f"{stage} {done}/{total}")), steps


def train_in(folder: Path, corpus: Corpus, kind: str, on_progress: Progress = lambda *_: None) -> Checkpoints:
    data = write(corpus, folder / "data")
    return train(corpus, data["members"], data["nonmembers"], folder, kind=kind, seed=0, on_progress=on_progress)


def test_every_checkpoint_loads_offline_with_its_tokenizer(kind: str, trained: tuple[Checkpoints, list[str]]) -> None:
    for path in astuple(trained[0]):
        assert (path / "model.safetensors").is_file()
        model, tokenizer = auto_class(kind).from_pretrained(path), AutoTokenizer.from_pretrained(path)
        assert model.config.vocab_size == len(tokenizer)


def test_progress_of_every_stage_ends_at_its_last_token(kind: str, trained: tuple[Checkpoints, list[str]]) -> None:
    stages = ["training teacher-start", "training teacher", "training student-start", "student: distilling"]
    for stage in stages:
        done, _, total = [line for line in trained[1] if line.startswith(stage)][-1].rpartition(" ")[2].partition("/")
        assert done == total != "0", stage
    order = list(dict.fromkeys(line.rpartition(" ")[0] for line in trained[1]))
    assert order == [*stages, "student: utility"]
    assert list(training.training_work(kind, n_members=1, n_public=1)) == stages, "the bar foresees them"


def test_the_students_manifest_names_members_and_nonmembers(
    corpus: Corpus, trained: tuple[Checkpoints, list[str]]
) -> None:
    data = json.loads((trained[0].student / "kdaudit.json").read_text(encoding="utf-8"))["data"]
    assert [len(data[part]) for part in ("members", "held_out")] == [len(corpus.members), len(corpus.nonmembers)]


def test_training_twice_gives_the_same_weights_and_leaves_torchs_global_state_alone(
    kind: str, corpus: Corpus, tmp_path: Path, trained: tuple[Checkpoints, list[str]]
) -> None:
    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    again = train_in(tmp_path / "again", corpus, kind)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == n_threads
    for first, second in zip(astuple(trained[0]), astuple(again), strict=True):
        assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    start, teacher = again.teacher_start, again.teacher
    assert (start / "model.safetensors").read_bytes() != (teacher / "model.safetensors").read_bytes()


def test_the_tokenizer_gives_every_note_back_and_adds_no_token(corpus: Corpus) -> None:
    tokenizer = byte_pairs(corpus.public, vocabulary=300)
    for text in (*corpus.nonmembers, "Ärger, 37 °C, 🙂"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
