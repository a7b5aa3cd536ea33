"""Records in columns are the records that were put in, wherever the columns lie."""

import errno
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.errors import DiskFullError
from kdaudit.records import Chat, Record, chosen, column, held, store, texts_of

TEXTS = st.text(st.characters(), max_size=20)  # halves of surrogate pairs too
RECORDS = st.lists(
    st.builds(
        Record, st.text(st.characters(exclude_categories=["Cs"]), max_size=5), TEXTS, st.integers(1, 2**40),
        st.integers(0, 5), TEXTS, st.sampled_from(["text", "chat"]),
        st.none() | st.builds(Chat, st.lists(st.dictionaries(TEXTS, TEXTS, max_size=2), max_size=3)),
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2).map(tuple),
    ),
    max_size=12,
)  # fmt: skip


def many(n: int, name: str = "r") -> list[Record]:
    return [Record(f"{name}{i}", f"{name} text {i}", i + 1, file=f"{name}.txt") for i in range(n)]


@pytest.fixture(params=[2**26, 0], ids=["in memory", "in a file"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(store, "IN_MEMORY", request.param)
    monkeypatch.setattr(store, "ROWS", 7)
    return int(request.param)


@given(RECORDS, RECORDS)
def test_what_comes_out_is_what_was_put_in(some: list[Record], others: list[Record]) -> None:
    both = held(some) + held(others)
    assert list(both) == [*some, *others]
    assert [both[i] for i in range(len(both))] == [*some, *others]
    assert list(texts_of(both)) == [one.text for one in both]
    for name in ("id", "text", "line", "n_prompt", "file", "form"):
        assert list(column(both, name)) == [getattr(one, name) for one in [*some, *others]]


@given(st.lists(st.integers(0, 39)), st.integers(-45, 45), st.integers(-45, 45), st.sampled_from([1, 2, -1]))
def test_places_and_slices_are_those_of_a_list(places: list[int], start: int, end: int, step: int) -> None:
    records = many(40)
    whole = held(records)
    assert list(whole.take(places)) == [records[i] for i in places] == list(chosen(records, places))
    assert list(whole[start:end:step]) == records[start:end:step]
    assert list(texts_of(whole)[start:end:step]) == [one.text for one in records[start:end:step]]
    assert whole[-1] == records[-1]
    with pytest.raises(IndexError):
        whole[40]


@pytest.mark.usefixtures("limit")
def test_columns_in_a_nameless_file_are_those_in_memory() -> None:
    records, others = many(50), many(20, "s")
    both = held(records).take(np.arange(0, 50, 3)) + held(others)[5:]
    assert both == [*records[::3], *others[5:]]
    assert both != [*records[::3], *others[4:-1]]
    assert both != records


def test_a_full_disk_is_named_with_the_way_out(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    opened: Callable[..., Any] = full
    monkeypatch.setattr(tempfile, "TemporaryFile", opened)
    if limit:
        assert len(held(many(20))) == 20
        return
    with pytest.raises(DiskFullError, match="do not fit into the folder for temporary files") as caught:
        held(many(20))
    assert "TMPDIR" in caught.value.hint
