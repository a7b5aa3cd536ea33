"""Time and peak memory of every stage of an audit by the number of records; the models are stubs.

`python tests/benchmarks/scale.py --records 10000 100000`: half of the records are members. Signals come from a formula,
so that all is measured except the forward passes; what the formula takes is printed by itself. Every size runs in a
process of its own. Prints figures, asserts nothing. Linux alone can reset a peak.
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
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

MODELS = ("teacher", "student", "start")
SIGMA = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000])
    parser.add_argument("--attacks", default="loss,zlib,min-k,min-k++,gap-k,reference")
    parser.add_argument("--words", type=int, default=30, help="of a text, of five letters each: three tokens or so")
    parser.add_argument("--profile", metavar="STAGE", help="also print what takes the time of one stage")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measure(options.records[0], options.words, options.attacks, options.profile)
        return
    for n in options.records:
        more = ["--profile", options.profile] if options.profile else []
        more += ["--words", str(options.words)]
        command = [sys.executable, __file__, "--here", "--records", str(n), "--attacks", options.attacks, *more]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        subprocess.run(command, check=True, env=environment)


def measure(n: int, n_words: int, attacks: str, profiled: str | None) -> None:
    """One line for each stage of an audit of `n` records."""
    print(f"{n:,} records of {n_words} words", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_inputs(folder, n, n_words, attacks)
        run(config, folder, n, profiled)


def write_inputs(folder: Path, n: int, n_words: int, attacks: str) -> object:
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
                text = " ".join(known[rng.integers(known.size, size=n_words)])
                file.write(json.dumps({"id": f"{part}-{i}", "text": text}) + "\n")
    return AuditConfig(
        teacher=str(folder / "teacher"), students=(str(folder / "student"),),
        student_references=(str(folder / "start"),), teacher_reference=str(folder / "start"),
        members=(str(folder / "members.jsonl"),), nonmembers=(str(folder / "nonmembers.jsonl"),),
        attacks=tuple(attacks.split(",")), out=folder / "run", device="cpu",
    )  # fmt: skip


def run(config: object, folder: Path, n: int, profiled: str | None) -> None:
    """All stages of an audit, in their order."""
    from kdaudit import records
    from kdaudit.audit import measure as passes
    from kdaudit.audit.assess import adjust_for_many, assess_attacks
    from kdaudit.audit.folder import RunFolder, write_scores
    from kdaudit.audit.request import read_request
    from kdaudit.audit.stages import compare_sets, plan_audit, score_plan, split_records
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
    stub = Stub()
    setattr(passes, "loaded", stub.loaded)  # noqa: B010
    setattr(passes, "measure", stub.measure)  # noqa: B010
    with stage("passes and scores", n, profiled):
        scores = score_plan(plan, folder / "signals", on_progress=lambda *_: None)
    print(f"  of which the formula {stub.seconds:.2f} s")
    parts = split_records(data, share=config.calibration_share, seed=config.seed)
    run_folder = RunFolder(folder / "run")
    with stage("writing the scores", n, profiled):
        is_calibration = np.zeros(n, dtype=bool)
        attacks = [one.attack for one in plan.attacks]
        write_scores(run_folder, data, scores.by_attack, is_calibration=is_calibration, attacks=attacks)
    with stage("comparing the sets", n, profiled):
        judging, validity = compare_sets(plan, data, scores, parts, seed=config.seed)
    with stage("judging", n, profiled):
        found_of = zip(plan.attacks, assess_attacks(plan.attacks, scores, judging), strict=True)
        judged = adjust_for_many({one.attack.name: found for one, found in found_of})
    with stage("mixed supervision", n, profiled):
        describe_supervision(plan, scores, judged, n_members=judging.n_members, seed=config.seed)
    kept = {"signals": folder / "signals", "scores.parquet": run_folder.scores}
    for name, path in kept.items():
        n_bytes = sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*.safetensors")))
        print(f"  {name}: {n_bytes / n:.0f} bytes a record, {n_bytes / n / len(plan.attacks):.0f} of each attack")
    assert validity.blind_auc


class Stub:
    """What a model might say of each text, drawn by a formula, in the place of the models."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def loaded(self, checkpoint: object, **_: object) -> Iterator[int]:
        """The seed of a model, in its place."""
        yield zlib.crc32(str(checkpoint).encode())

    def measure(self, model: int, shards: Iterable[Sequence[object]], *_: object, **__: object) -> Iterator[object]:
        """Signals of every shard."""
        from kdaudit.signals.tokens import TokenSignals
        from kdaudit.targets.passage import Passage

        for k, passages in enumerate(shards):
            started = time.perf_counter()
            texts = [passage for passage in passages if isinstance(passage, Passage)]
            ends = np.cumsum([0, *(text.ids.size - 1 for text in texts)])
            drawn = np.random.default_rng([model, k]).normal(-3, SIGMA, size=int(ends[-1])).astype(np.float32)
            mean, ones, top = drawn - 1, np.ones_like(drawn), np.maximum(drawn, -1)
            self.seconds += time.perf_counter() - started
            yield [
                TokenSignals(drawn[i:j], mean[i:j], ones[i:j], top[i:j], text.byte_end[1:], int(text.byte_end[0]))
                for i, j, text in zip(ends[:-1], ends[1:], texts, strict=True)
            ]


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
