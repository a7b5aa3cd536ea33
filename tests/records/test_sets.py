"""Sets beside each other."""

from itertools import starmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.errors import RecordsError
from kdaudit.records import Record, RecordSet, check_disjoint, draw_shots, sample
from kdaudit.records.sets import digest


def record_set(option: str, *rows: tuple[str, str]) -> RecordSet:
    records = tuple(starmap(Record, ((own_id, text, line) for line, (own_id, text) in enumerate(rows, start=1))))
    return RecordSet(option, f"{option[2:]}.txt", records, 0, digest(records))


MEMBERS = record_set("--members", ("a", "one"), ("b", "two"), ("c", "three"))


def test_disjoint_sets_pass() -> None:
    check_disjoint([MEMBERS, record_set("--nonmembers", ("d", "four")), record_set("--shots", ("e", "five"))])


def test_texts_in_two_sets_are_refused_with_their_count_and_lines() -> None:
    others = record_set("--nonmembers", ("x", "four"), ("y", "three"), ("z", "one"))
    with pytest.raises(RecordsError) as caught:
        check_disjoint([MEMBERS, others])
    assert str(caught.value) == (
        "2 texts stand in both --members members.txt and --nonmembers nonmembers.txt: lines 1 and 3, 3 and 2"
    )


def test_one_id_on_two_texts_of_two_sets_is_refused() -> None:
    with pytest.raises(RecordsError, match=r"one id stands for different texts in both .* lines 2 and 1") as caught:
        check_disjoint([MEMBERS, record_set("--nonmembers", ("b", "four"))])
    assert "unique" in caught.value.hint


def test_every_pair_of_sets_is_checked_and_many_lines_are_cut() -> None:
    many = [(f"s{i}", f"text {i}") for i in range(8)]
    others = record_set("--nonmembers", *many)
    shots = record_set("--shots", *many, ("a", "one more"))
    with pytest.raises(RecordsError) as caught:
        check_disjoint([MEMBERS, others, shots])
    first, second = str(caught.value).splitlines()
    assert first.startswith("8 texts stand in both --nonmembers")
    assert first.endswith("5 and 5 and 3 more")
    assert second.endswith("lines 1 and 9")


@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_a_sample_is_a_seeded_subset_in_order(count: int, seed: int) -> None:
    records = [Record(str(i), f"text {i}", i) for i in range(10)]
    drawn = sample(records, count, rng=np.random.default_rng(seed))
    assert drawn == sample(records, count, rng=np.random.default_rng(seed))
    assert len(drawn) == min(count, 10)
    assert [r.line for r in drawn] == sorted({r.line for r in drawn})


def test_shots_leave_the_evaluated_set() -> None:
    shots, rest = draw_shots(MEMBERS, 2, rng=np.random.default_rng(0))
    assert len(shots) == 2
    assert {*shots, *rest.records} == set(MEMBERS.records)
    assert len(rest.records) == 1
    assert rest.sha256 == digest(rest.records)
    check_disjoint([rest, RecordSet("--shots", "drawn", shots, 0, digest(shots))])


def test_shots_that_leave_nothing_are_refused() -> None:
    with pytest.raises(RecordsError, match="3 shots would leave none of its 3 records"):
        draw_shots(MEMBERS, 3, rng=np.random.default_rng(0))
