"""Which of several processes one is: what launchers and people say, and what cannot be understood."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from kdaudit.errors import ConfigError
from kdaudit.ranks import ALONE, Rank, is_follower, launched, parse_shard
from tests.commands import check_refused, kdaudit

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_LOCALID": "0", "SLURM_NTASKS": "3"}


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, ALONE),
        (TORCHRUN, Rank(5, 8, 1)),
        (SRUN, Rank(2, 3, 0)),
        ({**SRUN, **TORCHRUN}, Rank(5, 8, 1)),  # torchrun started by srun on each host
        ({"RANK": "1", "WORLD_SIZE": "4"}, Rank(1, 4, 1)),  # set by hand
        ({"RANK": "0", "WORLD_SIZE": "1"}, ALONE),
        ({"SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, ALONE),  # a batch script, before any srun
    ],
)
def test_a_process_knows_its_place_from_what_its_launcher_set(environ: Mapping[str, str], rank: Rank) -> None:
    assert launched(environ) == rank


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"RANK": "8"}, "RANK to '8'"), ({"RANK": "-1"}, "RANK to '-1'"), ({"RANK": "one"}, "RANK to 'one'"),
        ({"RANK": ""}, "does not set RANK"), ({"WORLD_SIZE": "0"}, "WORLD_SIZE to '0'"),
        ({"WORLD_SIZE": ""}, "does not set WORLD_SIZE"), ({"WORLD_SIZE": "²"}, "WORLD_SIZE to '²'"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK to 'x'"),
    ],
)  # fmt: skip
def test_a_broken_variable_is_named(
    changed: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a whole number") as refused:
        launched({**TORCHRUN, **changed})
    assert named in str(refused.value)
    for name, value in {**TORCHRUN, **changed}.items():
        monkeypatch.setenv(name, value)
    assert not is_follower()  # so that somebody says it
    check_refused(kdaudit("report", tmp_path), named, "unset what is left of a launcher")


def test_of_slurm_too() -> None:
    with pytest.raises(ConfigError, match="SLURM_PROCID"):
        launched({"SLURM_STEP_NUM_TASKS": "3"})


@pytest.mark.parametrize("n_units", [1, 5, 12, 100])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_unit_has_one_taker_and_shares_differ_by_one(n: int, n_units: int) -> None:
    takers = [[rank for rank in range(n) if Rank(rank, n).takes(unit)] for unit in range(n_units)]
    assert all(len(found) == 1 for found in takers)
    sizes = [sum(Rank(rank, n).takes(unit) for unit in range(n_units)) for rank in range(n)]
    assert max(sizes) - min(sizes) <= 1


def test_shards_count_from_one() -> None:
    assert parse_shard("1/16") == Rank(0, 16, is_shard=True)
    assert str(parse_shard(" 16/16 ")) == "shard 16 of 16"


@pytest.mark.parametrize("text", ["0/16", "17/16", "a/b", "3", "1/0", "-1/4", "1/4/2", ""])
def test_other_shards_are_refused(text: str) -> None:
    check_refused(kdaudit("attack", "--model", "m", "--shard", text), "--shard: ", "--shard 1/16 to --shard 16/16")


@pytest.mark.parametrize("command", ["report RUN", "mitigate", "demo", "manifest X"])
def test_a_command_that_divides_nothing_refuses_several_processes(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {
        "mitigate": ["--teacher", "t", "--student", "s", "--train", "x", "--method", "goldfish", "--out", "o"],
        "manifest X": ["--from", "trl", "--train", "x", "--student", "s", "--nonmembers", "n"],
    }.get(command, [])
    for name, value in {**TORCHRUN, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    check_refused(kdaudit(*command.split(), *arguments), "8 processes were started", "start one")
    monkeypatch.setenv("RANK", "1")
    done = kdaudit(*command.split(), *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rank 1 of 8: ")
    assert "error:" not in done.err, "rank 0 says it"
    assert list(tmp_path.iterdir()) == []


def test_the_pages_may_be_printed_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert kdaudit("docs").code == 0


def test_a_shard_is_no_part_of_what_a_launcher_divides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    check_refused(kdaudit("attack", "--model", "m", "--shard", "1/2"), "--shard", "has started 8 processes")


def test_a_shard_has_no_results_to_print() -> None:
    check_refused(kdaudit("attack", "--model", "m", "--shard", "1/2", "--json"), "--shard: it judges nothing", "--json")


def test_standard_input_is_not_for_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    given = ("--model", "m", "--members", "-", "--nonmembers", "n.txt")
    check_refused(kdaudit("attack", *given), "standard input", "write it to a file")
