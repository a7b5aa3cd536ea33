"""What is scored: limits, shots and cuts, drawn by the seed."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kdaudit.audit.data import AuditData, read_data
from kdaudit.audit.lineage import Lineage
from kdaudit.config import AuditConfig
from kdaudit.errors import RecordsError
from tests import tiny
from tests.commands import Given, check_refused, halves, read_texts, results, texts


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., AuditData]:
    """Reads 40 members and 40 non-members under changed options."""
    members, nonmembers = halves(tmp_path, 40)

    def read(*, needs_shots: bool = True, **options: object) -> AuditData:
        config = AuditConfig(
            **{
                "teacher": "t",
                "students": ("s",),
                "members": (str(members),),
                "nonmembers": (str(nonmembers),),
                **options,
            }  # type: ignore[arg-type]
        )
        return read_data(config, Lineage({}), needs_shots=needs_shots)

    return read


def test_shots_come_from_the_nonmembers_and_are_not_scored(drawn: Callable[..., AuditData]) -> None:
    data = drawn(n_shots=5)
    assert (len(data.members), len(data.nonmembers), len(data.shots)) == (40, 35, 5)
    scored = {record.text for record in data.records}
    assert not scored & set(data.shots)
    assert set(data.shots) <= {record.text for record in data.sets[1].records}
    assert data.is_member.tolist() == [True] * 40 + [False] * 35


def test_drawn_shots_leave_three_quarters_of_the_nonmembers(drawn: Callable[..., AuditData]) -> None:
    assert len(drawn(n_shots=12).shots) == 10


def test_without_a_prefix_attack_no_nonmember_is_given_up(drawn: Callable[..., AuditData]) -> None:
    data = drawn(needs_shots=False)
    assert (len(data.nonmembers), data.shots, data.is_shots_drawn) == (40, (), False)


def test_limit_draws_both_classes_by_the_seed(drawn: Callable[..., AuditData]) -> None:
    first, again, other = (drawn(limit=9, seed=seed) for seed in (0, 0, 1))
    assert (len(first.members), len(first.nonmembers)) == (9, 9)
    assert first.records == again.records
    assert first.records != other.records
    assert first.sha256 == other.sha256, "the digest is of the files, not of the draw"


def test_another_draw_does_not_move_with_the_number_of_shots(drawn: Callable[..., AuditData]) -> None:
    assert drawn(limit=9, n_shots=2).members == drawn(limit=9, n_shots=7).members


def test_shots_of_the_users_own_may_not_be_records(drawn: Callable[..., AuditData], tmp_path: Path) -> None:
    own = tiny.write_jsonl(tmp_path / "shots.jsonl", texts(3, seed=9), prefix="s")
    data = drawn(shots=(str(own),), n_shots=2)
    assert list(data.shots) == texts(3, seed=9)[:2]
    assert len(data.nonmembers) == 40
    assert not data.is_shots_drawn
    for taken in ("members", "nonmembers"):
        with pytest.raises(RecordsError, match="40 texts stand in both"):
            drawn(shots=(str(tmp_path / f"{taken}.jsonl"),))


def test_shots_that_are_also_records_are_refused_by_the_command(given: Given, tmp_path: Path) -> None:
    (line, *_) = given.nonmembers.read_text(encoding="utf-8").splitlines()
    shots = tmp_path / "shots.jsonl"
    shots.write_text(json.dumps({"text": json.loads(line)["text"]}), encoding="utf-8")
    done = given.attack(tmp_path / "run", "--shots", shots)
    check_refused(done, "one text stands in both --nonmembers", "lines 1 and 1")


def test_drawn_shots_are_in_no_scored_row(given: Given, tmp_path: Path) -> None:
    done = given.attack(tmp_path, "--attack", "recall", "--n-shots", 2, "--limit", 20)
    assert done.code == 0, done.err
    found = results(tmp_path)["data"]
    assert (found["members"], found["nonmembers"], found["shots"], found["shots_used"]) == (20, 20, 2, 2)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    scored = {row["id"] for row in rows if not row["member"]}
    assert len(scored) == 20
    assert scored <= read_texts(given.nonmembers).keys()


def test_a_cut_longer_than_the_smallest_context_is_refused(
    given: Given, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    done = given.attack(tmp_path / "run", "--max-tokens", 129)
    check_refused(done, "--max-tokens: 129 is more than", "(128)", "at most 128")
    short = given.having(student=checkpoint(seed=2, context=64))
    check_refused(short.attack(tmp_path / "run", "--max-tokens", 65), str(short.student), "(64)")


def test_the_seed_alone_decides_every_draw_and_every_byte(given: Given, tmp_path: Path) -> None:
    options = ("--attack", "loss", "--attack", "recall", "--n-shots", 2)
    runs = [tmp_path / name for name in ("first", "again", "other")]
    for out, seed in zip(runs, (0, 0, 1), strict=True):
        assert given.attack(out, *options, "--seed", seed).code == 0
    first, again, other = ((out / "results.json", out / "scores.parquet") for out in runs)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    parts = [{row["id"]: row["part"] for row in pq.read_table(scores).to_pylist()} for scores in (first[1], other[1])]
    assert parts[0].keys() != parts[1].keys(), "other shots"
    both = parts[0].keys() & parts[1].keys()
    assert [parts[0][name] for name in both] != [parts[1][name] for name in both], "other parts"


def test_a_run_too_small_to_tell_anything_says_so(given: Given, tmp_path: Path) -> None:
    done = given.attack(tmp_path, "--attack", "loss", "--limit", 1)
    assert done.code == 0
    assert results(tmp_path)["power"]["smallest_detectable_auc"] is None
    assert "this run is too small to tell any" in done.out
