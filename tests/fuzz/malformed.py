"""Malformed inputs thrown at the real command line: exit codes, the slowest, the largest, every traceback.

Run it by `python -W ignore -m tests.fuzz.malformed [SECONDS] [KIND...]`; it needs no network. Every case is a process
of its own that is forked after the libraries were loaded, so that its time and memory can be measured, and that can be
killed.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests import tiny
from tests.fuzz.inputs import AGAIN, Case, cases

LIMIT = 60  # seconds of a case
MOST = 40  # cases of a kind, where no kind is named


@dataclass(frozen=True)
class Outcome:
    """What a case ended with; `code` is None where it had to be killed."""

    case: Case
    code: int | None
    seconds: float
    """On the clock; on a busy machine those of the processor say more."""
    busy_seconds: float
    megabytes: float
    error: str

    @property
    def is_bad(self) -> bool:
        """Whether it hung, crashed, looked like a finding, or showed a traceback."""
        return self.code not in {0, 2, 3, 4} or "Traceback" in self.error or "\x1b" in self.error


def run(case: Case, folder: Path, good: Path) -> Outcome:
    """Fork, apply the change to a copy of the good folder, run the command there, and watch."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder, symlinks=True)
    case.change(folder)
    log, started = folder.parent / "log", time.monotonic()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from kdaudit.cli.main import main
        from tests.commands import fewer_resamples

        code: int = 99
        try:
            with fewer_resamples():
                main([part.replace("\0", "") for part in case.command])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    status, usage = None, None
    while time.monotonic() - started < LIMIT and not status:
        pid, found, usage = os.wait4(child, os.WNOHANG)
        status = (found,) if pid else None
        time.sleep(0.01)
    if status is None:
        os.kill(child, signal.SIGKILL)
        _, _, usage = os.wait4(child, 0)
    seconds = time.monotonic() - started
    megabytes = (usage.ru_maxrss if usage else 0) / 1024
    ended = None if status is None else os.waitstatus_to_exitcode(status[0])
    busy = usage.ru_utime + usage.ru_stime if usage else 0.0
    return Outcome(case, ended, seconds, busy, megabytes, log.read_text(errors="replace"))


def make_good(folder: Path) -> None:
    """Two checkpoints, records, a student distilled from the first, and a finished run."""
    from tests.commands import kdaudit

    folder.mkdir()
    tiny.save(folder / "teacher", seed=1)
    tiny.save(folder / "other", seed=2)
    for name, seed, n in (("m", 1, 8), ("n", 2, 8), ("train", 3, 30)):
        tiny.write_jsonl(folder / f"{name}.jsonl", tiny.texts(n, seed=seed), prefix=name)
    os.chdir(folder)
    distilled = kdaudit(
        "distill", "--teacher", "teacher", "--student", "other", "--train", "train.jsonl", "--out", "student",
        "--epochs", 1, "--batch-tokens", 200, "--teacher-saw", "none", "--quiet",
    )  # fmt: skip
    attacked = kdaudit(*AGAIN)
    if distilled.code or attacked.code:
        raise RuntimeError(distilled.err + attacked.err)


def main() -> None:
    """Run the cases of the kinds that are named, or all, and print the table."""
    budget = float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    os.environ["HF_HUB_OFFLINE"] = "1"
    outcomes = []
    chosen = [case for case in cases() if len(sys.argv) < 3 or case.kind in sys.argv[2:]]
    random.Random(0).shuffle(chosen)  # some of every kind, where the time is short
    if len(sys.argv) < 3:
        chosen = [case for i, case in enumerate(chosen) if sum(one.kind == case.kind for one in chosen[:i]) < MOST]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "here"
        make_good(folder)
        os.chdir(place)
        good = folder.rename(Path(place) / "good")
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for case in chosen:
            if time.monotonic() - started > budget:
                break
            outcomes.append(run(case, folder, good))
            show(outcomes[-1])
    print(f"the libraries alone take {before:.0f} MB")
    summarise(outcomes)


def show(one: Outcome) -> None:
    """What a reader must look at: a fault of ours, a failure, and what went well although it should not."""
    last = " | ".join((one.error.strip().splitlines() or [""])[-3:])[-300:]
    if one.is_bad or one.code not in {0, 2} or (one.code == 0 and one.case.kind.startswith("manifest")):
        mark = "BAD " if one.is_bad else ""
        print(f"{mark}{one.case.kind}, {one.case.name}: exit {one.code}, {one.seconds:.1f} s: {last}", flush=True)


def summarise(outcomes: list[Outcome]) -> None:
    """The table."""
    for kind in dict.fromkeys(one.case.kind for one in outcomes):
        found = [one for one in outcomes if one.case.kind == kind]
        codes = ", ".join(f"{code}: {count}" for code, count in Counter(str(one.code) for one in found).items())
        slow, large = max(found, key=lambda one: one.busy_seconds), max(found, key=lambda one: one.megabytes)
        print(f"{kind:17} {len(found):4} cases; exit codes {codes}; slowest {slow.busy_seconds:.1f} s of the "
              f"processor, {max(one.seconds for one in found):.1f} s on the clock ({slow.case.name}); "
              f"largest {large.megabytes:.0f} MB ({large.case.name})")  # fmt: skip
    print(f"{len(outcomes)} cases, {sum(one.is_bad for one in outcomes)} bad")


if __name__ == "__main__":
    main()
