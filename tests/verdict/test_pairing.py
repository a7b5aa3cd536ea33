"""Rises paired over records: agreement with an audit's own pairing, and scores that do not belong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdaudit.errors import ConfigError
from kdaudit.results import AuditResult, load
from kdaudit.results.scores import RecordScores, load_scores
from kdaudit.verdict.pairing import check_scores, pair_rises


@pytest.fixture(scope="module")
def audit(finished: Path) -> AuditResult:
    return load(finished / "results.json")


@pytest.fixture(scope="module")
def scores(finished: Path) -> RecordScores:
    return load_scores(finished / "scores.parquet")


def test_the_scores_of_a_run_are_those_behind_its_results(audit: AuditResult, scores: RecordScores) -> None:
    assert set(scores.by_cell) == {(attack, model) for attack in audit.attacks for model in audit.models}
    assert len(scores.ids) == audit.data.members + audit.data.nonmembers
    assert scores.is_member.sum() == audit.data.members
    check_scores(scores, audit, "scores.parquet")


def test_a_student_against_its_teacher_as_the_baseline_is_what_the_audit_compared(
    audit: AuditResult, scores: RecordScores
) -> None:
    teacher_as_student = {(name, "student"): scores.by_cell[name, "teacher"] for name in audit.attacks}
    found = pair_rises(scores, replace(scores, by_cell=teacher_as_student))
    assert set(found) == set(teacher_as_student)
    for (name, _), rise in found.items():
        compared = audit.attacks[name].comparison["student"].auc
        assert compared is not None
        assert (rise.value, rise.se, rise.p_value) == (compared.value, compared.se, compared.p_value)


def test_records_without_a_score_in_either_run_are_left_out_of_both(scores: RecordScores) -> None:
    cell = ("loss", "student")
    changed = scores.by_cell[cell].copy()
    changed[[0, -1]] = np.nan
    rise = pair_rises(scores, replace(scores, by_cell={cell: changed}))[cell]
    assert (rise.n, rise.m) == (scores.is_member.sum() - 1, (~scores.is_member).sum() - 1)
    assert rise.value == 0


def test_scores_of_other_records_give_no_figure(scores: RecordScores) -> None:
    others = replace(scores, ids=(*scores.ids[:-1], "another"))
    flipped = replace(scores, is_member=~scores.is_member)
    for then in (others, flipped):
        found = pair_rises(scores, then)
        assert {figure.value for figure in found.values()} == {None}
        assert all("other records" in figure.reason for figure in found.values())


@pytest.mark.parametrize("change", ["moved", "missing"])
def test_scores_of_another_run_are_refused(change: str, audit: AuditResult, scores: RecordScores) -> None:
    by_cell = dict(scores.by_cell)
    if change == "moved":
        by_cell["loss", "student"] = -by_cell["loss", "student"]
    else:
        del by_cell["loss", "student"]
    with pytest.raises(ConfigError, match=r"run/scores\.parquet: its loss scores of student are not those"):
        check_scores(replace(scores, by_cell=by_cell), audit, "run/scores.parquet")


def test_a_file_that_holds_no_scores_is_refused(tmp_path: Path, finished: Path) -> None:
    path = tmp_path / "scores.parquet"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scores(path)
    path.write_bytes((finished / "scores.parquet").read_bytes()[:-20])
    with pytest.raises(ConfigError, match="not a scores file"):
        load_scores(path)
    table = pq.read_table(finished / "scores.parquet")
    pq.write_table(table.drop_columns(["score"]), path)
    with pytest.raises(ConfigError, match="not a scores file"):
        load_scores(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)
    with pytest.raises(ConfigError, match="not all of the same records"):
        load_scores(path)
    pq.write_table(table.set_column(1, "member", pa.array(["yes"] * table.num_rows)).slice(0, 0), path)
    with pytest.raises(ConfigError, match=r"scores\.parquet"):
        load_scores(path)


def test_scores_are_read_a_few_rows_at_a_time_in_any_order_of_their_cells(
    tmp_path: Path, finished: Path, scores: RecordScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdaudit.results.scores.BATCH_ROWS", 7)
    path = tmp_path / "scores.parquet"
    table = pq.read_table(finished / "scores.parquet")
    record = np.tile(np.arange(len(scores.ids)), len(scores.by_cell))
    for order in (np.arange(table.num_rows), np.argsort(record, kind="stable")):
        pq.write_table(table.take(pa.array(order)), path)
        again = load_scores(path)
        assert again.ids == scores.ids
        assert np.array_equal(again.is_member, scores.is_member)
        assert list(again.by_cell) == list(scores.by_cell)
        assert all(np.array_equal(again.by_cell[cell], scores.by_cell[cell], equal_nan=True) for cell in scores.by_cell)
    swapped = np.arange(table.num_rows)
    swapped[-2:] = swapped[-2:][::-1]
    pq.write_table(table.take(pa.array(swapped)), path)
    with pytest.raises(ConfigError, match="not all of the same records"):
        load_scores(path)


@pytest.mark.parametrize("name", ["id", "member", "attack"])
def test_scores_of_nothing_that_is_named_are_refused(tmp_path: Path, finished: Path, name: str) -> None:
    table = pq.read_table(finished / "scores.parquet")
    holed = [None, *table[name].to_pylist()[1:]]
    path = tmp_path / "scores.parquet"
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(holed)), path)
    with pytest.raises(ConfigError, match=f"a row without {name}"):
        load_scores(path)
