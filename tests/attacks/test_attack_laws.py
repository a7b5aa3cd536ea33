"""Laws that single attacks obey, and the cases that their definitions single out."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.attacks import ez, gap_k, loss, min_k, min_k_plus_plus, recall, reference, wbc
from kdaudit.attacks.base import Sample
from kdaudit.attacks.recall import PREFIXED
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN

# Few distinct values, exact in float32, so that ties and sums of exactly 0 come up in most examples.
likelihoods = st.integers(-12, 0).map(lambda quarter: quarter / 4)
texts = st.lists(likelihoods, min_size=1, max_size=60)
pairs = st.lists(st.tuples(likelihoods, likelihoods), min_size=1, max_size=60)


def tokens(
    logprob: Sequence[float],
    *,
    mean: float = -2,
    std: float = 1,
    top: float = 0,
    byte_end: Sequence[int] | None = None,
    byte_start: int = 0,
) -> TokenSignals:
    size = len(logprob)
    return TokenSignals(
        np.array(logprob, np.float32),
        np.full(size, mean, np.float32),
        np.full(size, std, np.float32),
        np.full(size, top, np.float32),
        np.array(range(1, size + 1) if byte_end is None else byte_end, np.int32),
        byte_start,
    )


def alone(logprob: Sequence[float], **options: float) -> Sample:
    return Sample("text", {PLAIN: tokens(logprob, **options)})  # type: ignore[arg-type]  # only numbers are given


def against(target: TokenSignals, other: TokenSignals, *, is_same_tokenizer: bool = True) -> Sample:
    return Sample("text", {PLAIN: target}, reference=other, is_same_tokenizer=is_same_tokenizer)


def of_pairs(values: Sequence[tuple[float, float]]) -> Sample:
    return against(tokens([own for own, _ in values]), tokens([other for _, other in values]))


@given(texts)
def test_min_k_over_all_tokens_is_the_loss(logprob: list[float]) -> None:
    assert min_k.score(alone(logprob), fraction=1) == pytest.approx(loss.score(alone(logprob)))


@given(texts, st.integers(1, 100))
def test_min_k_averages_the_lowest_tokens_of_a_sorted_text(logprob: list[float], percent: int) -> None:
    n_lowest = max(1, math.floor(Fraction(percent, 100) * len(logprob)))
    expected = sum(sorted(logprob)[:n_lowest]) / n_lowest
    assert min_k.score(alone(logprob), fraction=percent / 100) == pytest.approx(expected)


@pytest.mark.parametrize("n_tokens", [5, 100, 200, 1000])
def test_the_share_to_keep_is_exact_where_the_product_is_whole(n_tokens: int) -> None:
    for percent in range(1, 101):  # 0.29 * 100 is 28.999999999999996 in floating point
        n_lowest, rest = divmod(percent * n_tokens, 100)
        if rest == 0:
            values = np.ones(n_tokens)
            values[0] = 1 - n_lowest
            assert min_k.mean_of_lowest(values, percent / 100) == pytest.approx(0, abs=1e-12)


@given(texts)
def test_with_mean_zero_and_deviation_one_the_z_scores_are_the_likelihoods(logprob: list[float]) -> None:
    assert min_k_plus_plus.score(alone(logprob, mean=0)) == pytest.approx(min_k.score(alone(logprob)))


@given(texts)
def test_gap_k_averages_the_lowest_means_of_three_tokens_in_a_row(logprob: list[float]) -> None:
    n_means = len(logprob) - 2
    means = sorted(sum(logprob[start : start + 3]) / 3 for start in range(n_means)) or sorted(logprob)
    n_lowest = max(1, len(means) // 5)
    assert gap_k.score(alone(logprob, top=0)) == pytest.approx(sum(means[:n_lowest]) / n_lowest)


@pytest.mark.parametrize("std", [0, 1e-6, 9e-4])
def test_a_flat_or_one_hot_prediction_says_nothing(std: float) -> None:
    assert min_k_plus_plus.score(alone([-3.0, -2.0], std=std)) == 0
    assert gap_k.score(alone([-3.0, -2.0], std=std)) == 0


@given(pairs)
def test_swapping_target_and_reference_turns_the_sign(values: list[tuple[float, float]]) -> None:
    swapped = [(other, own) for own, other in values]
    assert reference.score(of_pairs(values)) == pytest.approx(-reference.score(of_pairs(swapped)))


@given(pairs)
def test_ez_and_wbc_are_shares(values: list[tuple[float, float]]) -> None:
    assert 0 <= wbc.score(of_pairs(values)) <= 1
    share = ez.score(of_pairs(values))
    assert 0 <= share <= 1 or math.isnan(share)


@given(pairs)
def test_wbc_agrees_with_the_sum_of_every_window(values: list[tuple[float, float]]) -> None:
    gains = [own - other for own, other in values]
    shares = []
    for window in (2, 3, 4, 6, 9, 13, 18, 25, 32, 40):
        length = min(window, len(gains))
        sums = [sum(gains[start : start + length]) for start in range(len(gains) - length + 1)]
        shares.append(sum(total > 0 for total in sums) / len(sums))
    assert wbc.score(of_pairs(values)) == pytest.approx(sum(shares) / len(shares))


@given(pairs)
def test_ez_agrees_with_a_walk_over_the_error_tokens(values: list[tuple[float, float]]) -> None:
    gains = [own - other for own, other in values if own < 0]  # the top choice has likelihood 0 here
    positive, negative = sum(max(g, 0) for g in gains), sum(max(-g, 0) for g in gains)
    whole = sum(own - other for own, other in values)
    expected = positive / (positive + negative) if positive + negative > 0 else float(whole > 0)
    if len(gains) < 2:
        assert math.isnan(ez.score(of_pairs(values)))
    else:
        assert ez.score(of_pairs(values)) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[(0, -1), (0, -2)], [(0, -1), (-1, -2)], [(0, -1), (-2, -1)]])
def test_with_fewer_than_two_error_tokens_ez_does_not_score(values: list[tuple[float, float]]) -> None:
    assert math.isnan(ez.score(of_pairs(values)))


def test_where_the_error_tokens_neither_gained_nor_lost_ez_asks_whether_the_text_gained() -> None:
    assert ez.score(of_pairs([(-1, -1), (-2, -2), (0, -1)])) == 1
    assert ez.score(of_pairs([(-1, -1), (-2, -2), (0, 0)])) == 0


def test_a_window_that_sums_to_nothing_does_not_count() -> None:
    assert wbc.score(of_pairs([(-1, -1)] * 8)) == 0


@given(pairs, st.integers(0, 9))
def test_across_tokenizers_the_same_split_gives_the_mean_gain_in_bits_per_byte(
    values: list[tuple[float, float]], byte_start: int
) -> None:
    ends = [byte_start + 3 * (position + 1) for position in range(len(values))]
    own = tokens([value for value, _ in values], byte_end=ends, byte_start=byte_start)
    other = tokens([value for _, value in values], byte_end=ends, byte_start=byte_start)
    in_bits = reference.score(against(own, other, is_same_tokenizer=False))
    mean_gain = reference.score(against(own, other))
    assert in_bits == pytest.approx(mean_gain / (math.log(2) * 3))


def test_across_tokenizers_only_the_bytes_that_both_scored_count() -> None:
    # own:   (0-2) unscored | 2-4 | 4-7 | 7-10          other: 0-1 | 1-4 | 4-10 | 10-12
    own = tokens([-9.0, -1.0, -2.0], byte_end=[4, 7, 10], byte_start=2)
    other = tokens([-9.0, -9.0, -4.0, -9.0], byte_end=[1, 4, 10, 12])
    expected = (4.0 - 3.0) / (math.log(2) * 6)  # bytes 4 to 10
    assert reference.score(against(own, other, is_same_tokenizer=False)) == pytest.approx(expected)
    assert reference.score(against(other, own, is_same_tokenizer=False)) == pytest.approx(-expected)


def test_a_character_split_over_tokens_ends_after_its_last_token() -> None:
    # own spells the character of bytes 2-5 with three tokens, other with one.
    own = tokens([-1.0, -2.0, -3.0, -4.0, -5.0], byte_end=[2, 5, 5, 5, 6])
    other = tokens([-1.5, -2.5], byte_end=[5, 6])
    expected = (4.0 - 15.0) / (math.log(2) * 6)
    assert reference.score(against(own, other, is_same_tokenizer=False)) == pytest.approx(expected)
    # Where other begins at byte 5, own's tokens of that character lie before the common bytes.
    late = tokens([-2.5], byte_end=[6], byte_start=5)
    assert reference.score(against(own, late, is_same_tokenizer=False)) == pytest.approx((2.5 - 5.0) / math.log(2))


def test_tokenizers_without_a_common_stretch_of_bytes_give_no_score() -> None:
    own, other = (
        tokens([-1.0, -1.0], byte_end=[3, 6], byte_start=1),
        tokens([-1.0, -1.0], byte_end=[4, 7], byte_start=2),
    )
    touching = tokens([-1.0], byte_end=[9], byte_start=6)
    assert math.isnan(reference.score(against(own, other, is_same_tokenizer=False)))
    assert math.isnan(reference.score(against(own, touching, is_same_tokenizer=False)))


@pytest.mark.parametrize("score", [reference.score, ez.score, wbc.score])
def test_unlike_tokens_are_never_compared_one_by_one(score) -> None:
    with pytest.raises(ValueError, match="different tokens"):
        score(against(tokens([-1.0] * 5), tokens([-1.0])))  # numpy alone would repeat the one token
    with pytest.raises(ValueError, match="no reference"):
        score(alone([-1.0]))


@given(texts, texts)
def test_recall_covers_the_tokens_that_both_views_scored(plain: list[float], prefixed: list[float]) -> None:
    n_tokens = min(len(plain), len(prefixed))
    score = recall.score(Sample("text", {PLAIN: tokens(plain), PREFIXED: tokens(prefixed)}))
    if sum(plain[:n_tokens]) == 0:
        assert math.isnan(score)
    else:
        assert score == pytest.approx(sum(prefixed[:n_tokens]) / sum(plain[:n_tokens]))


def test_recall_refuses_views_that_start_at_different_bytes() -> None:
    views = {PLAIN: tokens([-1.0], byte_start=4, byte_end=[5]), PREFIXED: tokens([-1.0])}
    with pytest.raises(ValueError, match="start at bytes 4 and 0"):
        recall.score(Sample("text", views))
