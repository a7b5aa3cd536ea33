"""How the process that judges learns that another one has died, failed or never came: small files that change.

No clocks of different hosts are compared: who waits looks whether a counter moves, by its own clock.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kdaudit.artefacts import is_alive
from kdaudit.errors import KdauditError, RankError
from kdaudit.ranks import Rank

FOLDER = ".kdaudit-ranks.tmp"
"""In the run folder, made by rank 0 once the folder is its own: nobody writes into one that is refused."""
BEAT = 1.0
"""Seconds between two beats."""
GONE = 5.0
"""Seconds without a beat after which a process of this host is looked for by its id."""
LOST = 180.0
"""Seconds without a beat after which a process is taken for dead: NFS may show what was there a minute ago."""
LATE = 600.0
"""Seconds in which every process must have begun: on some hosts it takes minutes to read a large checkpoint."""
LINGER = 10.0
"""Seconds for which a process that failed waits for a place to say so."""
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"
AGAIN = "run the same command again, with any number of processes: what was measured is kept"


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process says of itself."""

    host: str
    process: int
    state: str = RUNNING
    count: int = 0
    """Moves as long as the process lives."""
    units: str = ""
    """A hash of the names of all units: equal where the processes measure the same in the same way."""
    runs_on: str = ""
    """Device and versions, in words."""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """The last beat of a rank, if there was one, and since when it has been the last."""

    beat: Beat | None
    since: float


@dataclass(frozen=True, slots=True)
class Share:
    """How far a rank has come."""

    rank: Rank
    done: int
    total: int


def sight(before: Sighting | None, beat: Beat | None, now: float) -> Sighting:
    """What is known of a rank after another look at it; `now` is in seconds of any clock that never goes back."""
    return before if before is not None and before.beat == beat else Sighting(beat, now)


def trouble(seen: Sighting, share: Share, own: Beat, now: float) -> RankError | None:
    """Why not to wait any longer for a rank that still has units to measure; None where there is no reason.

    Args:
        seen: the last beat of the rank.
        share: how far it has come.
        own: what this process would say of itself.
        now: on the clock of `seen`.
    """
    beat, still = seen.beat, now - seen.since
    if beat is None:
        return None if still < LATE else RankError(
            f"{share.rank} has not begun after {still:.0f} s: {share.total - share.done} of its {share.total} units "
            "are not measured",
            hint=f"{AGAIN}. If no other process was started, unset what a launcher left in the environment",
        )  # fmt: skip
    who, so_far = _who(beat, share), f"after {share.done} of {share.total} units"
    if beat.state == FAILED:
        return RankError(f"{who} failed {so_far}: {beat.error}", hint=f"{beat.hint}\n{AGAIN}" if beat.hint else AGAIN)
    if beat.units and beat.units != own.units:
        is_elsewhere = beat.runs_on != own.runs_on
        differs = f"on {beat.runs_on}, not on {own.runs_on}" if is_elsewhere else "other records, weights or settings"
        return RankError(
            f"{who} measures {differs}: its numbers are not those that rank 0 waits for",
            hint="start all processes with the same files, libraries and kind of device",
        )
    if still >= LOST and beat.state == DONE:
        return RankError(f"{who} has ended, and rank 0 sees {share.done} of its {share.total} units", hint=AGAIN)
    if beat.state == STOPPED or still >= LOST or (still >= GONE and is_gone(beat)):
        return stopped(beat, share)
    return None


def stopped(beat: Beat, share: Share) -> RankError:
    """What to say of a process that ended before its work was done."""
    return RankError(f"{_who(beat, share)} stopped after {share.done} of {share.total} units", hint=AGAIN)


def _who(beat: Beat, share: Share) -> str:
    return f"{share.rank} ({beat.host}, process {beat.process})"


def is_gone(beat: Beat) -> bool:
    """Whether a process that said it was running is certainly not there; of another host nobody knows.

    In a container of the same host name an id means another process: only beats that stand still may be asked about.
    """
    return beat.state == RUNNING and beat.host == socket.gethostname() and not is_alive(beat.process)


def gather(out: Path) -> None:
    """Make the place for beats of this start; those of an earlier one are gone then.

    Args:
        out: the run folder, which is held.
    """
    disband(out)
    (out / FOLDER).mkdir(exist_ok=True)


def disband(out: Path) -> None:
    """Remove all beats from a run folder."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def read(out: Path, number: int) -> Beat | None:
    """The last beat of a rank; None where there is none."""
    try:
        return Beat(**json.loads((out / FOLDER / f"{number}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Heart:
    """Says from a thread of its own that this process lives, so that a long batch is not taken for death."""

    def __init__(self, out: Path, rank: Rank) -> None:
        self._folder, self._name = out / FOLDER, f"{rank.number}.json"
        self._beat = Beat(socket.gethostname(), os.getpid())
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def say(self, state: str = RUNNING, **said: Any) -> bool:
        """Write a beat; False where there is no place for it, or none yet."""
        with self._lock:
            self._beat = replace(self._beat, state=state, count=self._beat.count + 1, **said)
            if not self._folder.is_dir():
                return False
            waiting = self._folder / f"{self._name}.{os.getpid()}.tmp"
            try:
                waiting.write_text(json.dumps(asdict(self._beat)), encoding="utf-8")
                os.replace(waiting, self._folder / self._name)
            except OSError:  # the next beat may come through
                return False
        return True

    def _run(self) -> None:
        while not self._stop.wait(BEAT):
            self.say()

    def start(self) -> None:
        """Begin to beat."""
        self.say()
        self._thread.start()

    def stop(self, state: str, *, patience: float = 0.0, **said: Any) -> None:
        """Say the last word.

        Args:
            state: how it ended.
            patience: seconds to wait for a place to say it.
            **said: fields of the beat.
        """
        self._stop.set()
        self._thread.join()
        until = time.monotonic() + patience
        while not self.say(state, **said) and time.monotonic() < until:
            time.sleep(0.1)


@contextmanager
def beating(out: Path, rank: Rank) -> Iterator[Heart]:
    """Within it rank 0 can see that this process lives, and after it how it ended."""
    heart = Heart(out, rank)
    heart.start()
    try:
        yield heart
    except KdauditError as error:
        heart.stop(FAILED, patience=LINGER, error=str(error), hint=error.hint)
        raise
    except (KeyboardInterrupt, SystemExit):
        heart.stop(STOPPED)
        raise
    except BaseException as error:
        heart.stop(FAILED, error=f"{type(error).__name__}: its own output says more")
        raise
    else:
        heart.stop(DONE)
