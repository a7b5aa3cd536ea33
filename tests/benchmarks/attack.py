"""What the attack command costs over the bare forward passes.

Prints figures, asserts nothing. Run it on an idle machine: contended threads make small models several times slower.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kdaudit.cli.main import LARGE_PAGES

PAIRS = 5
SINGLE_PASS = ("loss", "zlib", "min-k", "min-k++", "gap-k")


def main() -> None:
    """Measure what was asked for, everything by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="also measure this checkpoint, on the texts of --texts")
    parser.add_argument("--texts", type=Path, help="JSONL of texts for --checkpoint")
    parser.add_argument("--only", choices=["help", "passes", "recall", "memory"], help="one part alone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of a text of the 124 M model")
    parser.add_argument("--records", type=int, default=64, help="texts of the 124 M model")
    options = parser.parse_args()
    os.environ.setdefault(LARGE_PAGES, "1")  # as the command sets it, for the bare passes too
    parts: dict[str, Callable[[], None]] = {
        "help": time_help,
        "passes": lambda: time_passes(options),
        "recall": lambda: time_recall(options),
        "memory": measure_memory,
    }
    for name, part in parts.items():
        if options.only in {None, name}:
            part()


def time_help() -> None:
    """Wall time of `kdaudit --help` in a fresh process."""
    seconds = []
    for _ in range(PAIRS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "kdaudit", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    print(f"kdaudit --help: median {statistics.median(seconds):.2f} s of {PAIRS}")


def time_passes(options: argparse.Namespace) -> None:
    """The scoring stage with every single-pass attack over the bare forward passes on the same batches."""
    with tempfile.TemporaryDirectory() as folder:
        if options.checkpoint:
            lines = options.texts.read_text(encoding="utf-8").splitlines()
            texts = [json.loads(line)["text"] for line in lines]
            _time_one(options.checkpoint.name, options.checkpoint, texts, Path(folder), options.device)
        large = save_gpt2(Path(folder) / "gpt2-124m", context=1024)
        _time_one("GPT-2 124 M", large, words(options.records, options.tokens), Path(folder), options.device)


def _time_one(label: str, checkpoint: Path, texts: list[str], folder: Path, device: str) -> None:
    import torch

    from kdaudit.audit.scoring import score_records
    from kdaudit.models.loading import loaded

    plan = _plan(checkpoint, texts, folder, device)
    (one,) = plan.passes
    shards = plan.passages.shards()
    with loaded(one.checkpoint, device=plan.device, dtype=plan.dtype) as model:
        batches: list[Any] = []
        body: Any = getattr(model, model.base_model_prefix)
        hook = body.register_forward_pre_hook(lambda *call: batches.append(call[2].get("input_ids")), with_kwargs=True)
        _measure_shards(plan, one, shards, model, folder / f"{label}-warm")
        hook.remove()
        # the model itself hands its body the ids by position: what came by name are the engine's own batches, the last
        # of them those of the texts, behind the tries that settle how the model is run
        own = [batch for batch in batches if batch is not None]
        first = next(i for i in range(len(own), -1, -1) if sum(len(batch) for batch in own[i:]) == len(texts))
        bare_batches = own[first:]
        n_tokens = sum(batch.numel() for batch in bare_batches)

        def stage(run: int) -> None:
            files = _measure_shards(plan, one, shards, model, folder / f"{label}-{run}")
            score_records(plan, shards, {(one.checkpoint.fingerprint, one.view): files}, with_paper=False)

        def bare(_: int) -> None:
            with torch.inference_mode():
                for batch in bare_batches:
                    logits = model(input_ids=batch).logits
                    if logits.is_cuda:
                        torch.cuda.synchronize()

        ratio, seconds = _alternate(stage, bare)
    print(
        f"{label} on {plan.device}: scoring stage / bare forward passes {ratio:.3f} (median of {PAIRS} pairs; "
        f"{len(texts)} texts, {n_tokens:,} tokens in {len(bare_batches)} batches, {len(texts) / seconds:.1f} texts/s)"
    )


def time_recall(options: argparse.Namespace) -> None:
    """The prefixed pass over the plain one: 12 shots of about 40 tokens, texts of about 128."""
    from kdaudit.models.loading import loaded
    from kdaudit.signals.engine import measure
    from kdaudit.targets.causal import CAUSAL
    from kdaudit.targets.passage import encode
    from kdaudit.targets.plan import Frame

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_gpt2(Path(folder) / "gpt2-124m", context=1024)
        plan = _plan(checkpoint, words(8, 128), Path(folder), options.device)
        tokenizer = plan.passages.tokenizers[0]
        texts = encode(tokenizer, words(options.records, 128))
        shots = encode(tokenizer, ["\n".join(words(12, 40, seed=1))])[0]
        fronts = {"prefixed": Frame(CAUSAL, (), tuple(shots.ids.tolist())), "plain": Frame(CAUSAL)}
        with loaded(plan.passes[0].checkpoint, device=plan.device, dtype=plan.dtype) as model:

            def run(name: str) -> None:
                list(measure(model, [texts], fronts[name], batch_tokens=plan.batch_tokens))

            ratio, _ = _alternate(lambda _: run("prefixed"), lambda _: run("plain"))
        print(
            f"recall on {plan.device}: prefixed / plain pass {ratio:.2f} (median of {PAIRS} pairs; GPT-2 124 M, "
            f"prefix of {shots.ids.size} tokens, {len(texts)} texts of {texts[0].ids.size})"
        )


def measure_memory() -> None:
    """Peak memory of the whole command at 20,000 records over that at 2,000, all attacks, small models."""
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {
            part: save_gpt2(folder / part, context=256, width=64, n_layers=2, seed=seed, vocabulary=1024)
            for seed, part in enumerate(("teacher", "student", "start"))
        }
        for n_records in (2_000, 20_000):
            texts = words(n_records, 40, seed=n_records)
            for part, lines in (("members", texts[::2]), ("nonmembers", texts[1::2])):
                (folder / f"{part}.txt").write_text("\n".join(lines), encoding="utf-8")
            command = [
                sys.executable, "-c", _PEAK, "attack", "--attack", "all", "--quiet",
                "--out", str(folder / f"run-{n_records}"),
                "--members", str(folder / "members.txt"), "--nonmembers", str(folder / "nonmembers.txt"),
                "--teacher", str(models["teacher"]), "--student", str(models["student"]),
                "--reference", str(models["start"]),
            ]  # fmt: skip
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks[n_records] = float(done.stderr.splitlines()[-1])
            print(f"{n_records} records: peak {peaks[n_records]:.0f} MB, {time.perf_counter() - start:.0f} s")
    print(f"peak memory at 20,000 records / at 2,000: {peaks[20_000] / peaks[2_000]:.3f}")


_PEAK = """
import resource, sys
from kdaudit.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)
"""


def _plan(checkpoint: Path, texts: list[str], folder: Path, device: str) -> Any:
    from kdaudit.audit.data import AuditData
    from kdaudit.audit.plan import Subject, make_plan
    from kdaudit.config import AuditConfig
    from kdaudit.models.checkpoint import find
    from kdaudit.records import Record

    config = AuditConfig(
        teacher=str(checkpoint), students=(str(checkpoint),), attacks=SINGLE_PASS, out=folder / "out", device=device
    )
    records = tuple(Record(str(i), text, i + 1) for i, text in enumerate(texts))
    half = len(records) // 2
    data = AuditData(records[:half], records[half:], (), (), is_shots_drawn=False)
    return make_plan(config, (Subject("teacher", find(str(checkpoint), option="--teacher"), None),), data)


def _measure_shards(plan: Any, one: Any, shards: list[list[int]], model: Any, folder: Path) -> tuple[Path, ...]:
    from kdaudit.signals import store
    from kdaudit.signals.engine import measure

    paths = tuple(folder / f"{i}.safetensors" for i in range(len(shards)))
    passages = (plan.passages.read(shard, one.view, one.tokenizer) for shard in shards)
    frame = plan.passages.frame(one.view, one.tokenizer)
    measured = measure(model, passages, frame, batch_tokens=plan.batch_tokens)
    for path, signals in zip(paths, measured, strict=True):
        store.write(path, signals)
    return paths


def _alternate(first: Callable[[int], None], second: Callable[[int], None]) -> tuple[float, float]:
    """Median of the ratios of alternating pairs, after one warm-up of each, and the first's median seconds."""
    first(-1)
    second(-1)
    ratios, seconds = [], []
    for run in range(PAIRS):
        start = time.perf_counter()
        first(run)
        middle = time.perf_counter()
        second(run)
        end = time.perf_counter()
        ratios.append((middle - start) / (end - middle))
        seconds.append(middle - start)
    return statistics.median(ratios), statistics.median(seconds)


def words(n: int, n_tokens: int, *, seed: int = 0) -> list[str]:
    """Distinct texts of about `n_tokens` tokens each."""
    rng = np.random.default_rng(seed)
    vocabulary = [f"w{i:03}" for i in range(1000)]
    return [" ".join(rng.choice(vocabulary, n_tokens)) for _ in range(n)]


def save_gpt2(
    folder: Path, *, context: int, width: int = 768, n_layers: int = 12, seed: int = 0, vocabulary: int = 50257
) -> Path:
    """A GPT-2 with random weights and a tokenizer of one token a word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=vocabulary, n_positions=context, n_embd=width, n_layer=n_layers, n_head=width // 64)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokens = {"<unk>": 0, **{f"w{i:03}": i + 1 for i in range(1000)}}
    backend = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>").save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
