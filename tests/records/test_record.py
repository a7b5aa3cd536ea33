"""The digests that stand for a set of records."""

from hypothesis import given
from hypothesis import strategies as st

from kdaudit.records import Record
from kdaudit.records.sets import digest, keyed_ids


def test_the_id_of_a_text_depends_on_the_whole_set() -> None:
    assert keyed_ids(["x", "y"])[0] != keyed_ids(["x", "z"])[0]
    assert keyed_ids(["x", "y"]) == keyed_ids(["x", "y"])


pairs = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=4)


@given(pairs, pairs)
def test_the_digest_tells_any_two_sequences_of_records_apart(
    a: list[tuple[str, str]], b: list[tuple[str, str]]
) -> None:
    first, second = ([Record(own_id, text, 1) for own_id, text in rows] for rows in (a, b))
    assert (digest(first) == digest(second)) == (a == b)
