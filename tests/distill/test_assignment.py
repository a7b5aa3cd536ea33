"""Who is a member: by the seed alone, before any training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdaudit.distill.data import assign, parse_holdout
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import RecordsError
from kdaudit.records import Record, RecordSet
from kdaudit.records.sets import digest

CONFIG = DistillConfig(teacher="t", train=("d.jsonl",), out=Path("o"), student="s", teacher_saw="none")


def record_set(n: int, *, name: str = "train") -> RecordSet:
    records = tuple(Record(f"{name}{i}", f"{name} text {i}", i) for i in range(1, n + 1))
    return RecordSet(f"--{name}", f"{name}.jsonl", records, 0, digest(records))


def ids(records: Sequence[Record]) -> list[str]:
    return [record.id for record in records]


@pytest.mark.parametrize(("rule", "n_held"), [("0.2", 20), ("0.5", 50), ("7", 7), ("1e-1", 10), ("99", 99)])
def test_a_share_or_a_count_is_held_out(rule: str, n_held: int) -> None:
    found = assign(replace(CONFIG, holdout=rule), record_set(100), None)
    assert len(found.held_out) == n_held
    assert sorted(ids(found.members) + ids(found.held_out)) == sorted(ids(record_set(100).records))


def test_the_seed_alone_decides_who_is_held_out() -> None:
    held = [ids(assign(replace(CONFIG, seed=seed), record_set(100), None).held_out) for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_coins_are_fair_and_independent() -> None:
    n, draws = 400, []
    for seed in range(40):
        kept = set(ids(assign(replace(CONFIG, coins=True, seed=seed), record_set(n), None).members))
        draws.append([record.id in kept for record in record_set(n).records])
    shares = np.array(draws, dtype=float)
    assert abs(shares.mean() - 0.5) < 5 * 0.5 / np.sqrt(shares.size)
    # a fixed number of members would make the counts vary too little: n/4 is what independent coins give
    assert 0.4 < shares.sum(axis=1).var(ddof=1) / (n / 4) < 2.0


def test_nonmembers_of_their_own_leave_every_record_a_member() -> None:
    config = replace(CONFIG, nonmembers=("n.jsonl",), teacher_saw=None)
    found = assign(config, record_set(9), record_set(5, name="nonmembers"))
    assert (len(found.members), len(found.held_out)) == (9, 5)
    with pytest.raises(RecordsError, match="in both"):
        assign(config, record_set(9), record_set(3))


def test_a_limit_draws_from_the_file_before_anything_is_held_out() -> None:
    found = assign(replace(CONFIG, limit=50), record_set(100), None)
    assert (len(found.members), len(found.held_out)) == (40, 10)
    assert len(assign(replace(CONFIG, limit=1000), record_set(100), None).members) == 80


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("0", "no record is held out"),
        ("0.0", "no record is held out"),
        ("0.01", "no record is held out"),
        ("1.0", "all 10 records are held out"),
        ("10", "all 10 records are held out"),
        ("11", "more than its 10 records"),
        ("1.5", "neither a share nor a count"),
        ("-1", "neither a share nor a count"),
        ("some", "neither a share nor a count"),
        ("nan", "neither a share nor a count"),
    ],
)
def test_a_side_that_would_be_empty_is_refused(rule: str, words: str) -> None:
    with pytest.raises(RecordsError, match=words):
        assign(replace(CONFIG, holdout=rule), record_set(10), None)


@pytest.mark.parametrize(("text", "found"), [("1", 1), ("1.0", 1.0), ("0.5", 0.5), ("500", 500)])
def test_a_point_makes_a_share(text: str, found: Any) -> None:
    assert parse_holdout(text) == found
    assert type(parse_holdout(text)) is type(found)
