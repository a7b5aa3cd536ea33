"""When a process that waits gives another one up, by a clock of the test's own."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kdaudit.audit import heartbeat
from kdaudit.audit.heartbeat import (
    DONE,
    FAILED,
    GONE,
    LATE,
    LOST,
    STOPPED,
    Beat,
    Heart,
    Share,
    Sighting,
    beating,
    disband,
    gather,
    read,
    sight,
    trouble,
)  # fmt: skip
from kdaudit.errors import ConfigError
from kdaudit.ranks import Rank

HERE = socket.gethostname()
OWN = Beat(HERE, os.getpid(), units="abc", runs_on="cpu, float32, torch 1")
THEIRS = Beat("elsewhere", 77, units="abc", runs_on="cpu, float32, torch 1", count=5)
SHARE = Share(Rank(2, 3), done=34, total=120)


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def told(seen: Sighting, *, after: float) -> str:
    error = trouble(seen, SHARE, OWN, seen.since + after)
    return f"{error} | {error.hint}" if error else ""


def test_a_counter_that_moves_is_alive_however_slowly_time_goes_there() -> None:
    seen = sight(None, THEIRS, now=1000.0)
    for k in range(1, 50):
        seen = sight(seen, replace(THEIRS, count=5 + k), now=1000.0 + k * (LOST - 1))
        assert trouble(seen, SHARE, OWN, 1000.0 + k * (LOST - 1)) is None


def test_a_counter_that_stands_still_is_dead_after_a_while() -> None:
    first = sight(None, THEIRS, now=5.0)
    seen = sight(first, replace(THEIRS), now=100.0)
    assert seen is first
    assert told(seen, after=LOST - 1) == ""
    found = told(seen, after=LOST)
    assert "rank 2 of 3 (elsewhere, process 77) stopped after 34 of 120 units" in found
    assert "run the same command again, with any number of processes" in found


def test_a_process_of_this_host_that_is_gone_is_known_to_be_dead_soon(dead: int) -> None:
    assert "stopped after 34" in told(Sighting(replace(THEIRS, host=HERE, process=dead), 0.0), after=GONE)
    assert told(Sighting(replace(THEIRS, host=HERE, process=dead), 0.0), after=GONE - 1) == "", "it may be a container"
    assert told(Sighting(replace(THEIRS, host=HERE, process=os.getpid()), 0.0), after=LOST - 1) == ""
    assert told(Sighting(replace(THEIRS, process=dead), 0.0), after=LOST - 1) == "", "ids of other hosts say nothing"


def test_a_process_that_never_comes_is_named_after_a_longer_wait() -> None:
    assert told(sight(None, None, now=3.0), after=LATE - 1) == ""
    found = told(sight(None, None, now=3.0), after=LATE)
    assert "rank 2 of 3 has not begun" in found
    assert "86 of its 120 units" in found
    assert "unset what a launcher left" in found


def test_what_a_process_failed_over_is_repeated_at_once() -> None:
    failed = replace(THEIRS, state=FAILED, error="no CUDA device", hint="give --device cpu")
    found = told(Sighting(failed, 0.0), after=0.0)
    assert "rank 2 of 3 (elsewhere, process 77) failed after 34 of 120 units: no CUDA device" in found
    assert "give --device cpu" in found
    assert "stopped after 34" in told(Sighting(replace(THEIRS, state=STOPPED), 0.0), after=0.0)


def test_a_process_that_measures_something_else_is_refused_at_once() -> None:
    other = replace(THEIRS, units="xyz")
    assert "other records, weights or settings" in told(Sighting(other, 0.0), after=0.0)
    found = told(Sighting(replace(other, runs_on="cuda T4, float16, torch 2"), 0.0), after=0.0)
    assert "on cuda T4, float16, torch 2, not on cpu, float32, torch 1" in found
    assert told(Sighting(replace(THEIRS, units=""), 0.0), after=0.0) == "", "it does not know yet"


def test_one_that_ended_is_believed_until_the_file_system_had_time_to_show_its_work() -> None:
    done = Sighting(replace(THEIRS, state=DONE), 0.0)
    assert told(done, after=LOST - 1) == ""
    assert "has ended, and rank 0 sees 34 of its 120 units" in told(done, after=LOST)


def test_beats_are_written_from_a_thread_into_a_place_that_rank_0_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    rank = Rank(1, 2)
    with beating(tmp_path, rank) as heart:
        time.sleep(0.05)
        assert list(tmp_path.iterdir()) == [], "nobody else makes the place"
        gather(tmp_path)
        heart.say(units="abc")
        first = read(tmp_path, 1)
        time.sleep(0.1)
        later = read(tmp_path, 1)
        assert first is not None
        assert later is not None
        assert later.count > first.count
        assert (later.units, later.state, later.process) == ("abc", heartbeat.RUNNING, os.getpid())
    assert (last := read(tmp_path, 1)) is not None
    assert last.state == DONE
    gather(tmp_path)
    assert read(tmp_path, 1) is None, "beats of an earlier start are gone"
    disband(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_how_a_process_ended_is_its_last_word(tmp_path: Path) -> None:
    def ended(error: BaseException) -> Beat:
        gather(tmp_path)
        with pytest.raises(type(error)), beating(tmp_path, Rank(1, 2)):
            raise error
        beat = read(tmp_path, 1)
        assert beat is not None
        return beat

    ours = ended(ConfigError("--x: no", hint="do y"))
    assert (ours.state, ours.error, ours.hint) == (FAILED, "--x: no", "do y")
    bug = ended(ZeroDivisionError("text of a record"))
    assert (bug.state, bug.error) == (FAILED, "ZeroDivisionError: its own output says more")
    assert ended(KeyboardInterrupt()).state == STOPPED


def test_a_process_that_failed_early_waits_a_little_for_somebody_to_hear_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart = Heart(tmp_path, Rank(1, 2))
    heart.start()
    monkeypatch.setattr(time, "sleep", lambda _: gather(tmp_path))
    heart.stop(FAILED, patience=5, error="no")
    beat = read(tmp_path, 1)
    assert beat is not None
    assert beat.error == "no"


def test_what_is_no_beat_is_none(tmp_path: Path) -> None:
    gather(tmp_path)
    for content in ("", "[]", '{"host": 1', '{"unknown": 1}'):
        (tmp_path / heartbeat.FOLDER / "1.json").write_text(content, encoding="utf-8")
        assert read(tmp_path, 1) is None
