"""Every divergence agrees with its formula, has its limits, and leaves out words that can never come."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from kdaudit.distill.losses import (
    OBJECTIVES,
    forward_kl,
    jsd,
    kl,
    reverse_kl,
    settle_beta,
    shared_vocabulary,
    skew_kl,
)
from kdaudit.errors import ConfigError

SOFT = {name: objective for name, objective in OBJECTIVES.items() if objective.divergence is not None}


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("beta", [None, 0.0, 0.3, 0.9])
def test_a_student_equal_to_its_teacher_is_at_divergence_0_with_gradient_0(name: str, beta: float | None) -> None:
    divergence = SOFT[name].divergence
    assert divergence is not None
    student = (3 * draw(5, 40, seed=0, dtype=torch.float32)).requires_grad_()
    found = divergence(student.detach().log_softmax(-1), student.log_softmax(-1), beta or SOFT[name].beta or 0.0)
    torch.testing.assert_close(found.detach(), torch.zeros(5), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), student)[0], torch.zeros(5, 40), rtol=0, atol=1e-6)


def softmax(logits: torch.Tensor) -> NDArray[np.float64]:
    e = np.exp(logits.double().numpy())
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("seed", range(5))
def test_every_divergence_agrees_with_its_formula_over_probabilities(seed: int) -> None:
    student, teacher = 3 * draw(7, 40, seed=seed), 3 * draw(7, 40, seed=seed + 50)
    q, p = softmax(student), softmax(teacher)

    def relative_entropy(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((a * np.log(a / b)).sum(axis=-1))

    m = 0.3 * p + 0.7 * q
    logs = teacher.float().log_softmax(-1), student.float().log_softmax(-1)
    for found, expected in [
        (forward_kl(*logs, 0.0), relative_entropy(p, q)),
        (reverse_kl(*logs, 0.0), relative_entropy(q, p)),
        (jsd(*logs, 0.3), 0.3 * relative_entropy(p, m) + 0.7 * relative_entropy(q, m)),
        (skew_kl(*logs, 0.3), relative_entropy(p, m)),
    ]:
        assert found.dtype == torch.float32
        assert found.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_two_kls_are_those_of_torch() -> None:
    log_p, log_q = draw(9, 30, seed=1).log_softmax(-1), draw(9, 30, seed=2).log_softmax(-1)
    expected = functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    assert kl(log_p, log_q).mean().item() == pytest.approx(expected.item())


def test_jsd_is_forward_kl_at_0_and_reverse_kl_at_1_as_limits() -> None:
    logs = draw(9, 30, seed=1).log_softmax(-1), draw(9, 30, seed=2).log_softmax(-1)
    small = 1e-7
    for end, near, scaled in [(0.0, small, small), (1.0, 1 - small, small)]:
        torch.testing.assert_close(jsd(*logs, near) / scaled, jsd(*logs, end), rtol=1e-5, atol=1e-6)
    assert torch.equal(jsd(*logs, 0.0), forward_kl(*logs, 0.0))
    assert torch.equal(jsd(*logs, 1.0), reverse_kl(*logs, 0.0))
    torch.testing.assert_close(jsd(*logs, 0.5), jsd(logs[1], logs[0], 0.5))


def test_skew_kl_without_skew_is_forward_kl_and_never_exceeds_minus_log_of_its_share() -> None:
    logs = (50 * draw(9, 30, seed=1)).log_softmax(-1), (50 * draw(9, 30, seed=2)).log_softmax(-1)
    assert torch.equal(skew_kl(*logs, 0.0), forward_kl(*logs, 0.0))
    bound = -math.log(0.1)
    assert skew_kl(*logs, 0.1).max().item() <= bound + 1e-12
    assert forward_kl(*logs, 0.0).max().item() > bound


@pytest.mark.parametrize("name", SOFT)
def test_words_that_can_never_come_change_neither_value_nor_gradient(name: str) -> None:
    divergence, beta = OBJECTIVES[name].divergence, OBJECTIVES[name].beta or 0.0
    assert divergence is not None
    student, teacher = (draw(4, 9, seed=seed, dtype=torch.float32).requires_grad_() for seed in (1, 2))
    never = torch.full((4, 3), -torch.inf)
    plain = divergence(teacher.detach().log_softmax(-1), student.log_softmax(-1), beta)
    masked = divergence(
        torch.cat([teacher.detach(), never], 1).log_softmax(-1), torch.cat([student, never], 1).log_softmax(-1), beta
    )
    torch.testing.assert_close(masked, plain)
    gradients = [torch.autograd.grad(value.sum(), student)[0] for value in (masked, plain)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_word_that_only_the_student_rules_out_is_infinitely_far_in_forward_kl_and_bounded_in_the_mixtures() -> None:
    teacher = torch.zeros(1, 2).log_softmax(-1)
    student = torch.tensor([[0.0, -torch.inf]]).log_softmax(-1)
    assert forward_kl(teacher, student, 0.0).item() == math.inf
    assert reverse_kl(teacher, student, 0.0).item() == pytest.approx(math.log(2))
    assert 0 < skew_kl(teacher, student, 0.1).item() < -math.log(0.1)
    assert 0 < jsd(teacher, student, 0.5).item() < math.log(2)


@pytest.mark.parametrize(("name", "beta"), [("forward-kl", 0.5), ("hard", 0.5), ("jsd", 1.1), ("skew-kl", 1.0)])
def test_a_beta_that_does_not_fit_its_objective_is_refused(name: str, beta: float) -> None:
    with pytest.raises(ConfigError, match="beta"):
        settle_beta(name, beta)


def test_padded_tails_of_the_vocabulary_are_not_compared_and_the_note_says_so() -> None:
    assert shared_vocabulary(50257, 50257, 50257) == (50257, "")
    size, note = shared_vocabulary(151936, 152064, 151665)
    assert size == 151936
    assert "teacher's last 128 logits" in note
    assert "student's last 128 logits" in shared_vocabulary(152064, 151936, 151665)[1]


def test_a_vocabulary_that_would_lose_a_real_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="the student scores 300 tokens, but the tokenizer knows 301"):
        shared_vocabulary(300, 400, 301)
