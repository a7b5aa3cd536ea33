"""The worked example of the attacks' definitions: vocabulary {0, 1, 2, 3}, text 0 1 3 1 0 at five positions."""

import math

import numpy as np
import pytest

from kdaudit.attacks import ATTACKS, get_attack, min_k, min_k_plus_plus
from kdaudit.attacks.base import Sample
from kdaudit.attacks.lowercase import LOWERCASED
from kdaudit.attacks.recall import PREFIXED
from kdaudit.attacks.reference import token_gains
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN

TOKENS = [0, 1, 3, 1, 0]
P = [
    [0.70, 0.10, 0.10, 0.10],
    [0.20, 0.50, 0.20, 0.10],
    [0.05, 0.15, 0.60, 0.20],
    [0.25, 0.25, 0.25, 0.25],
    [0.10, 0.20, 0.30, 0.40],
]
Q = [
    [0.40, 0.20, 0.20, 0.20],
    [0.30, 0.30, 0.20, 0.20],
    [0.10, 0.30, 0.40, 0.20],
    [0.40, 0.20, 0.20, 0.20],
    [0.25, 0.25, 0.25, 0.25],
]
TEXT = "the cat sat on the mat"
BYTE_END = [4, 8, 12, 16, 22]
N_COMPRESSED = 27


def signals(table: list[list[float]], *, byte_end: list[int] = BYTE_END) -> TokenSignals:
    """The signals by their definitions, one position and one term at a time."""
    logs = [[math.log(p) for p in row] for row in table]
    means = [
        sum(p * log for p, log in zip(row, log_row, strict=True)) for row, log_row in zip(table, logs, strict=True)
    ]
    variances = [
        sum(p * (log - mean) ** 2 for p, log in zip(row, log_row, strict=True))
        for row, log_row, mean in zip(table, logs, means, strict=True)
    ]
    return TokenSignals(
        np.array([row[token] for row, token in zip(logs, TOKENS, strict=True)], np.float32),
        np.array(means, np.float32),
        np.array([math.sqrt(v) for v in variances], np.float32),
        np.array([max(row) for row in logs], np.float32),
        np.array(byte_end, np.int32),
        0,
    )


SAMPLE = Sample(TEXT, {PLAIN: signals(P), PREFIXED: signals(Q), LOWERCASED: signals(Q)}, reference=signals(Q))
MEAN_P = -1.269628
MEAN_D = 0.075459
SCORES = {
    "loss": MEAN_P,
    "zlib": -0.047023,
    "reference": MEAN_D,
    "min-k": -2.302585,
    "min-k++": -2.404452,
    "recall": (MEAN_P - MEAN_D) / MEAN_P,
    "gap-k": -1.587628,
    "ez": 0.0,
    "wbc": 0.891667,
    "lowercase": MEAN_D,
}


def test_the_example_covers_every_attack() -> None:
    assert list(SCORES) == list(ATTACKS)


@pytest.mark.parametrize("name", SCORES)
def test_the_example_scores_as_defined(name: str) -> None:
    assert get_attack(name).score(SAMPLE) == pytest.approx(SCORES[name], abs=2e-6)


@pytest.mark.parametrize(("fraction", "expected"), [(0.2, -2.302585), (0.9, -1.497866), (1.0, MEAN_P)])
def test_min_k_keeps_the_asked_share_of_the_example(fraction: float, expected: float) -> None:
    assert min_k.score(SAMPLE, fraction=fraction) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, -2.404452), (0.2, -2.404452), (0.4, -1.576365)])
def test_min_k_plus_plus_keeps_the_asked_share_of_the_example(fraction: float, expected: float) -> None:
    assert min_k_plus_plus.score(SAMPLE, fraction=fraction) == pytest.approx(expected, abs=2e-6)


def test_a_flat_prediction_has_z_zero_in_the_example() -> None:
    tokens = SAMPLE.target[PLAIN]
    z = min_k_plus_plus.in_deviations(tokens.logprob - tokens.logprob_mean, tokens.logprob_std)
    assert z.tolist() == pytest.approx([0.6547, 0.9373, -0.7483, 0, -2.4045], abs=1e-4)


def test_equal_likelihoods_gain_exactly_nothing_in_the_example() -> None:
    gains = token_gains(SAMPLE)
    assert gains.tolist() == pytest.approx([0.5596, 0.5108, 0, 0.2231, -0.9163], abs=1e-4)
    assert gains[2] == 0


def test_zlib_counts_the_bytes_of_the_text_as_scored() -> None:
    other = Sample(TEXT + " " + TEXT, SAMPLE.target)
    assert get_attack("zlib").score(SAMPLE) == pytest.approx(MEAN_P / N_COMPRESSED, abs=1e-6)
    assert get_attack("zlib").score(other) > get_attack("zlib").score(SAMPLE)


def test_across_tokenizers_the_example_is_compared_in_bits_per_byte() -> None:
    other = Sample(TEXT, SAMPLE.target, reference=signals(Q), is_same_tokenizer=False)
    n_bytes = BYTE_END[-1]
    assert get_attack("reference").score(other) == pytest.approx(5 * MEAN_D / (math.log(2) * n_bytes), abs=1e-6)
