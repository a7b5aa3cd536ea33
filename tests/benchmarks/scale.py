"""Time and peak memory of every stage of an audit by the number of records; the models are stubs.

`python tests/benchmarks/scale.py --records 10000 100000`: half of the records are members. Signals come from a formula,
so that all is measured except the forward passes. Every size runs in a process of its own. Prints figures, asserts
nothing. Linux alone can reset a peak.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

MODELS = ("teacher", "student", "start")
WORDS = 30  # of a text
SIGMA = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000])
    parser.add_argument("--attacks", default="loss,zlib,min-k,min-k++,gap-k,reference")
    parser.add_argument("--profile", metavar="STAGE", help="also print what takes the time of one stage")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measure(options.records[0], options.attacks, options.profile)
        return
    for n in options.records:
        more = ["--profile", options.profile] if options.profile else []
        command = [sys.executable, __file__, "--here", "--records", str(n), "--attacks", options.attacks, *more]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        subprocess.run(command, check=True, env=environment)


def measure(n: int, attacks: str, profiled: str | None) -> None:
    """One line for each stage of an audit of `n` records."""
    print(f"{n:,} records")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_inputs(folder, n, attacks)
        run(config, folder, n, profiled)


def write_inputs(folder: Path, n: int, attacks: str) -> object:
    """Three checkpoints and two files, and the audit of them."""
    from kdaudit.config import AuditConfig
    from tests import tiny

    for seed, model in enumerate(MODELS):
        tiny.save(folder / model, seed=seed, context=256)
    rng = np.random.default_rng(0)
    known = np.array(["".join(rng.choice(list("abcdefghijklmnop"), 5)) for _ in range(5000)])
    for part, n_part in (("members", n // 2), ("nonmembers", n - n // 2)):
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(n_part):
                text = " ".join(known[rng.integers(known.size, size=WORDS)])
                file.write(json.dumps({"id": f"{part}-{i}", "text": text}) + "\n")
    return AuditConfig(
        teacher=str(folder / "teacher"), students=(str(folder / "student"),),
        student_references=(str(folder / "start"),), teacher_reference=str(folder / "start"),
        members=(str(folder / "members.jsonl"),), nonmembers=(str(folder / "nonmembers.jsonl"),),
        attacks=tuple(attacks.split(",")), out=folder / "run", device="cpu",
    )  # fmt: skip


def run(config: object, folder: Path, n: int, profiled: str | None) -> None:
    """All stages of an audit, in their order."""
    from kdaudit import records, results
    from kdaudit.audit.assess import adjust_for_many, assess_attack
    from kdaudit.audit.measure import signal_files
    from kdaudit.audit.request import read_request
    from kdaudit.audit.scoring import score_records
    from kdaudit.audit.stages import compare_sets, plan_audit, split_records
    from kdaudit.audit.supervision import describe_supervision
    from kdaudit.config import AuditConfig

    assert isinstance(config, AuditConfig)
    with stage("reading", n, profiled):
        found = [records.read(str(folder / f"{part}.jsonl"), option=f"--{part}") for part in ("members", "nonmembers")]
    del found
    asked = [attack for attack, _ in read_request(config).attacks]
    with stage("reading and plan", n, profiled):
        planned = plan_audit(config, asked)
    plan, data = planned.plan, planned.data
    with stage("shards", n, profiled):
        shards = plan.passages.shards()
        files = signal_files(plan, shards, folder / "signals")
    with stage("signals (a formula)", n, profiled):
        for k, one in enumerate(plan.passes):
            for shard, path in zip(shards, files[one.checkpoint.fingerprint, one.view], strict=True):
                write_signals(path, plan.passages.read(shard, one.view, one.tokenizer), k)
    with stage("scores", n, profiled):
        scores = score_records(plan, shards, files, with_paper=False)
    with stage("comparing the sets", n, profiled):
        parts = split_records(data, share=config.calibration_share, seed=config.seed)
        judging, validity = compare_sets(plan, data, scores, parts, seed=config.seed)
    with stage("judging", n, profiled):
        judged = adjust_for_many({one.attack.name: assess_attack(one, scores, judging) for one in plan.attacks})
    with stage("mixed supervision", n, profiled):
        describe_supervision(plan, scores, judged, n_members=judging.n_members, seed=config.seed)
    on_disk = sum(path.stat().st_size for path in (folder / "signals").rglob("*.safetensors"))
    print(f"  signals on disk: {on_disk / n / len(plan.passes):.0f} bytes a record and pass; {results.__name__} apart")
    assert validity.blind_auc


def write_signals(path: Path, passages: Sequence[object], k: int) -> None:
    """What a model might say of each text: drawn around a mean that depends on the text and the model."""
    from kdaudit.signals import store
    from kdaudit.signals.tokens import TokenSignals
    from kdaudit.targets.passage import Passage

    signals = []
    for passage in passages:
        assert isinstance(passage, Passage)
        rng = np.random.default_rng([k, int(passage.ids.sum())])
        mean = -3 + SIGMA * rng.normal(size=passage.ids.size - 1).astype(np.float32)
        top = np.maximum(mean, -1).astype(np.float32)
        signals.append(
            TokenSignals(mean, mean - 1, np.ones_like(mean), top, passage.byte_end[1:], int(passage.byte_end[0]))
        )
    store.write(path, signals)


@contextmanager
def stage(name: str, n: int, profiled: str | None) -> Iterator[None]:
    """Print time and peak memory of what stands in the block."""
    reset_peak()
    profile = cProfile.Profile() if name == profiled else None
    started = time.perf_counter(), time.process_time()
    if profile:
        profile.enable()
    yield
    if profile:
        profile.disable()
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    held, peak = memory()
    print(
        f"  {name:22} {wall:8.2f} s wall {cpu:8.2f} s CPU {1e6 * cpu / n:8.1f} µs a record; peak {peak:6.0f} MB, "
        f"held {held:6.0f} MB",
        flush=True,
    )
    if profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(35)


def reset_peak() -> None:
    """From here on the peak is a new one."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory() -> tuple[float, float]:
    """Megabytes that this process holds, and held at most since the last reset."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    held, peak = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return held, peak


if __name__ == "__main__":
    main()
