"""The split into calibration and evaluation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.metrics.scores import split_parts


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0.05, 0.95), st.integers(0, 9))
def test_every_record_is_in_exactly_one_part(n, m, share, seed):
    parts = split_parts(n, m, share=share, rng=np.random.default_rng(seed))
    for size, calibration, evaluation in (
        (n, parts.calibration_members, parts.evaluation_members),
        (m, parts.calibration_nonmembers, parts.evaluation_nonmembers),
    ):
        assert sorted([*calibration, *evaluation]) == list(range(size))
        assert calibration.size == round(share * size)
        assert calibration.dtype == evaluation.dtype == np.intp


def test_one_seed_gives_one_split():
    first, again = (split_parts(50, 50, share=0.3, rng=np.random.default_rng(7)) for _ in range(2))
    assert first.calibration_members.tolist() == again.calibration_members.tolist()


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_without_a_rest_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        split_parts(5, 5, share=share, rng=np.random.default_rng(0))
