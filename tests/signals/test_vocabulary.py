"""The statistics over the vocabulary agree with a float64 computation, whatever the logits and the chunks."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kdaudit.signals import vocabulary
from kdaudit.signals.vocabulary import reduce_vocabulary, vocabulary_statistics

GPT2_WORDS = 50257


def exact(logits: torch.Tensor, targets: torch.Tensor) -> NDArray[np.float64]:
    """Log-probability, mean, deviation and maximum of log p under p, straight from their definitions."""
    wide = logits.double().numpy()
    logp = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    p = np.exp(logp)
    mean = (p * np.where(p > 0, logp, 0)).sum(axis=-1)
    spread = np.where(p > 0, logp - mean[:, None], 0)
    std = np.sqrt((p * spread**2).sum(axis=-1))
    return np.stack([logp[np.arange(len(wide)), targets.numpy()], mean, std, logp.max(axis=-1)])


def statistics_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """In a room with more rows than are needed, which holds what another block left."""
    room = torch.full((2, len(logits) + 1, logits.shape[1]), torch.nan)
    return vocabulary_statistics(logits, targets, room)


def random_logits(n_tokens: int, n_words: int, *, scale: float = 3, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(n_tokens, n_words, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [0.01, 1, 5, 30])
def test_they_agree_with_the_formula_in_float64(scale: float) -> None:
    logits, targets = random_logits(20, 1000, scale=scale), torch.arange(0, 1000, 50)
    found = statistics_of(logits, targets).numpy()
    assert found == pytest.approx(exact(logits, targets), abs=1e-5, rel=1e-5)


def test_a_uniform_prediction_over_a_large_vocabulary_has_no_deviation_at_all() -> None:
    logprob, mean, std, top = statistics_of(torch.full((2, GPT2_WORDS), 7.0), torch.tensor([0, 5])).numpy()
    assert std.tolist() == [0, 0]
    for values in (logprob, mean, top):
        assert values == pytest.approx([-np.log(GPT2_WORDS)] * 2, rel=1e-6)


def test_a_certain_prediction_has_no_entropy_and_no_deviation() -> None:
    logits = torch.zeros(2, 100)
    logits[:, 3] = 2000
    logprob, mean, std, top = statistics_of(logits, torch.tensor([3, 4])).numpy()
    assert logprob.tolist() == [0, -2000]
    assert (mean.tolist(), std.tolist(), top.tolist()) == ([0, 0], [0, 0], [0, 0])


def test_a_word_that_can_never_come_does_not_count() -> None:
    logits, targets = random_logits(5, 50), torch.arange(5)
    masked = torch.cat([logits, torch.full((5, 7), -torch.inf)], dim=1)
    expected = statistics_of(logits, targets).numpy()
    assert statistics_of(masked, targets).numpy() == pytest.approx(expected, abs=1e-6)
    logprob, mean, std, top = statistics_of(masked, torch.full((5,), 50)).numpy()
    assert np.isneginf(logprob).all()
    assert np.isfinite([mean, std, top]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_reduced_in_float32(dtype: torch.dtype) -> None:
    logits, targets = random_logits(6, 3000).to(dtype), torch.arange(6)
    found = statistics_of(logits, targets)
    assert found.dtype == torch.float32
    assert torch.equal(found, statistics_of(logits.float(), targets))
    assert found.numpy() == pytest.approx(exact(logits, targets), abs=1e-5)


def test_the_logits_given_are_left_as_they_are() -> None:
    logits = random_logits(4, 20)
    before = logits.clone()
    statistics_of(logits, torch.arange(4))
    assert torch.equal(logits, before)


@given(n_tokens=st.integers(1, 40), chunk=st.integers(1, 50), block=st.integers(1, 50), is_own_logits=st.booleans())
def test_the_size_of_a_chunk_does_not_matter(n_tokens: int, chunk: int, block: int, is_own_logits: bool) -> None:
    states, targets = random_logits(n_tokens, 8, seed=n_tokens), torch.arange(n_tokens) % 8
    weights = random_logits(30, 8, scale=1)
    rows: list[int] = []

    def head(chunk_states: torch.Tensor) -> torch.Tensor:
        rows.append(chunk_states.shape[0])
        return chunk_states @ weights.T

    whole = statistics_of(states if is_own_logits else states @ weights.T, targets)
    width = 8 if is_own_logits else 30
    with (
        patch.dict(vocabulary.CHUNK_ELEMENTS, cpu=chunk * width),
        patch.dict(vocabulary.BLOCK_ELEMENTS, cpu=block * width),
    ):
        found = reduce_vocabulary(states, targets, None if is_own_logits else head)
    assert [column.shape for column in found] == [(n_tokens,)] * 4
    assert np.stack(found) == pytest.approx(whole.numpy(), abs=1e-5)
    assert max(rows, default=0) <= chunk
