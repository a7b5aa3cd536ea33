from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdaudit.demo import training
from kdaudit.demo.corpus import Corpus, generate
from kdaudit.demo.training import Checkpoints, train, train_tokenizer


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate(0, 16, 4, 24)


@pytest.fixture
def trained(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Checkpoints, list[str]]:
    """A run of seconds: one epoch each, one head's width."""
    for name in ("START_EPOCHS", "TEACHER_EPOCHS", "STUDENT_EPOCHS"):
        monkeypatch.setattr(training, name, 1)
    monkeypatch.setattr(training, "WIDTH", 16)
    steps: list[str] = []
    paths = train(
        corpus, tmp_path, seed=0, on_progress=lambda stage, done, total: steps.append(f"{stage} {done}/{total}")
    )
    return paths, steps


def test_every_checkpoint_loads_offline_with_its_tokenizer(trained: tuple[Checkpoints, list[str]]) -> None:
    for path in astuple(trained[0]):
        assert (path / "model.safetensors").is_file()
        model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        assert model.config.vocab_size == len(tokenizer)


def test_progress_counts_every_step_of_the_four_stages(trained: tuple[Checkpoints, list[str]]) -> None:
    stages = [("teacher-start", 3), ("teacher", 5), ("student-start", 3), ("student", 2)]
    assert trained[1] == [f"training {name} {step}/{n}" for name, n in stages for step in range(1, n + 1)]


def test_training_twice_gives_the_same_weights_and_leaves_torchs_global_state_alone(
    corpus: Corpus, tmp_path: Path, trained: tuple[Checkpoints, list[str]]
) -> None:
    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    again = train(corpus, tmp_path / "again", seed=0, on_progress=lambda stage, done, total: None)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == n_threads
    for first, second in zip(astuple(trained[0]), astuple(again), strict=True):
        assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    start, teacher = again.teacher_start, again.teacher
    assert (start / "model.safetensors").read_bytes() != (teacher / "model.safetensors").read_bytes()


def test_the_tokenizer_gives_every_note_back_and_adds_no_token(corpus: Corpus) -> None:
    tokenizer = train_tokenizer(corpus.public, vocabulary=300)
    for text in (*corpus.nonmembers, "Ärger, 37 °C, 🙂"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
