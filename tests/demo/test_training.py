from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdaudit.demo import training
from kdaudit.demo.corpus import Corpus, generate
from kdaudit.demo.training import HARD_WEIGHT, IGNORED, TEMPERATURE, Checkpoints, loss, train, train_tokenizer


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


def test_a_student_equal_to_its_teacher_has_only_the_hard_loss() -> None:
    logits, labels = random_logits(0), torch.tensor([[1, 2, IGNORED], [0, IGNORED, IGNORED]])
    hard = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    assert loss(logits, labels, logits).item() == pytest.approx(HARD_WEIGHT * hard.item())


def test_the_loss_agrees_with_its_formula_written_out_in_numpy() -> None:
    logits, taught = random_logits(1), random_logits(2)
    labels = torch.tensor([[1, 2, IGNORED], [0, IGNORED, IGNORED]])
    values = []
    for row, column in [(0, 0), (0, 1), (1, 0)]:
        student, teacher = (tensor[row, column].double().numpy() for tensor in (logits, taught))
        p, q = softmax(teacher / TEMPERATURE), softmax(student / TEMPERATURE)
        hard = -np.log(softmax(student)[labels[row, column]])
        values.append(HARD_WEIGHT * hard + (1 - HARD_WEIGHT) * TEMPERATURE**2 * (p * np.log(p / q)).sum())
    assert loss(logits, labels, taught).item() == pytest.approx(np.mean(values), rel=1e-5)


@settings(max_examples=20)
@given(st.integers(1, 5))
def test_padding_does_not_change_the_loss(n_padded: int) -> None:
    logits, taught, labels = random_logits(3), random_logits(4), torch.tensor([[1, 2, 3], [0, 4, IGNORED]])
    padded = (functional.pad(tensor, (0, 0, 0, n_padded), value=7.0) for tensor in (logits, taught))
    longer = loss(next(padded), functional.pad(labels, (0, n_padded), value=IGNORED), next(padded))
    assert longer.item() == pytest.approx(loss(logits, labels, taught).item())


def random_logits(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(logits) / np.exp(logits).sum())
