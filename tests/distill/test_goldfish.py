"""Tokens are left out by what stands before them, one in k, and always the same ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.distill.batches import CONTEXT, collate, is_dropped
from kdaudit.distill.losses import IGNORED
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.plan import Example

IDS = np.random.default_rng(0).integers(0, 50_000, 40_000).astype(np.int32)


@pytest.mark.parametrize("k", [2, 3, 4, 10, 128])
def test_about_one_token_in_k_is_dropped(k: int) -> None:
    n = IDS.size - CONTEXT
    expected, error = n / k, np.sqrt(n * (1 / k) * (1 - 1 / k))
    assert abs(int(is_dropped(IDS, k).sum()) - expected) < 4 * error


def test_whether_a_token_is_dropped_is_no_matter_of_the_token_nor_of_what_follows() -> None:
    dropped = is_dropped(IDS[:200], 3)
    for position in range(CONTEXT, 200, 17):
        changed = IDS[:200].copy()
        changed[position:] = 7
        assert is_dropped(changed, 3)[position] == dropped[position]


@given(lead=st.integers(0, 30), k=st.integers(2, 9))
def test_the_same_passage_loses_the_same_tokens_wherever_it_comes(lead: int, k: int) -> None:
    passage = IDS[:60]
    inside = is_dropped(np.concatenate([IDS[1000 : 1000 + lead], passage]), k)[lead:]
    assert np.array_equal(inside[CONTEXT:], is_dropped(passage, k)[CONTEXT:])


def test_every_token_before_counts_and_so_does_their_order() -> None:
    window = IDS[:CONTEXT]
    rows = [window, window[::-1]]
    for position in range(CONTEXT):
        changed = window.copy()
        changed[position] += 1
        rows.append(changed)
    fates = {tuple(bool(is_dropped(np.append(row, 0), k)[-1]) for k in range(2, 60)) for row in rows}
    assert len(fates) == len(rows)


def splitmix64(state: int) -> int:
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_the_hash_is_splitmix64_over_the_tokens_before_in_whole_numbers() -> None:
    assert splitmix64(1234567) == 6457827717110365317  # the generator's published first value for this seed
    ids, expected = IDS[:300].tolist(), []
    for position in range(len(ids)):
        value = 0
        for token in ids[max(0, position - CONTEXT) : position]:
            value = splitmix64(value ^ token)
        expected.append(position >= CONTEXT and value % 5 == 0)
    assert is_dropped(IDS[:300], 5).tolist() == expected


@pytest.mark.parametrize("size", [0, 1, CONTEXT, CONTEXT + 1])
def test_tokens_with_too_little_before_them_are_kept(size: int) -> None:
    assert not is_dropped(IDS[:size], 2)[:CONTEXT].any()
    assert is_dropped(IDS[:size], 2).shape == (size,)


def test_a_single_token_of_context_gives_every_token_after_the_first_a_fate() -> None:
    ids = np.array([5, 9, 5, 9, 5], dtype=np.int32)
    dropped = is_dropped(ids, 2, context=1)
    assert dropped[1] == dropped[3]
    assert dropped[2] == dropped[4]
    assert not dropped[0]


@pytest.mark.parametrize(("k", "context"), [(1, 13), (0, 13), (4, 0)])
def test_what_would_drop_everything_is_refused(k: int, context: int) -> None:
    with pytest.raises(ValueError, match="at least 2 and 1"):
        is_dropped(IDS, k, context=context)


def test_a_dropped_token_is_no_target_of_a_batch_and_every_other_one_still_is() -> None:
    example = Example(IDS[:90], n_given=5)
    (found,) = collate([(0, 0, example)], CAUSAL, goldfish=3)["targets"].numpy()
    is_learnt = ~is_dropped(example.ids, 3) & (np.arange(90) >= 5)
    assert 0 < is_learnt.sum() < 80
    assert found.tolist() == [*np.where(is_learnt, example.ids, IGNORED)[1:], IGNORED]
    (plain,) = collate([(0, 0, example)], CAUSAL)["targets"].numpy()
    assert np.array_equal(plain[4:-1], example.ids[5:])
    assert (plain[:4] == IGNORED).all()
