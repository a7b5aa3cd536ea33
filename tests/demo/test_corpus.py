import json
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdaudit.demo.corpus import generate, write

counts = st.integers(0, 20)


@settings(max_examples=25)
@given(st.integers(0, 2**31), counts, counts, counts)
def test_the_sets_have_the_sizes_asked_for_and_share_no_note(seed, n_members, n_nonmembers, n_public):
    corpus = generate(seed, n_members, n_nonmembers, n_public)
    assert tuple(map(len, astuple(corpus))) == (n_members, n_nonmembers, n_public)
    assert len(set().union(*astuple(corpus))) == n_members + n_nonmembers + n_public


def test_the_same_seed_gives_the_same_notes_and_another_seed_gives_others() -> None:
    assert generate(0, 30, 30, 30) == generate(0, 30, 30, 30)
    assert not set(generate(0, 30, 0, 0).members) & set(generate(1, 30, 0, 0).members)


def test_more_public_notes_do_not_change_the_members() -> None:
    assert generate(0, 10, 10, 50).members == generate(0, 10, 10, 0).members


def test_few_nonmembers_share_a_run_of_thirteen_words_with_a_member() -> None:
    corpus = generate(0, 800, 800, 0)
    known = set().union(*map(runs, corpus.members))
    assert sum(not known.isdisjoint(runs(note)) for note in corpus.nonmembers) < 0.02 * 800


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        generate(0, -1, 5, 5)


def test_written_sets_read_back_as_they_were(tmp_path: Path) -> None:
    corpus = generate(0, 5, 6, 7)
    paths = write(corpus, tmp_path / "new" / "data")
    for name, path in paths.items():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert tuple(row["text"] for row in rows) == getattr(corpus, name)
        assert len({row["id"] for row in rows}) == len(rows)
    assert {path.name for path in (tmp_path / "new" / "data").iterdir()} == {
        "members.jsonl", "nonmembers.jsonl", "public.jsonl",
    }  # fmt: skip


def runs(note: str) -> set[tuple[str, ...]]:
    words = note.split()
    return {tuple(words[start : start + 13]) for start in range(len(words) - 12)}
