"""How much of a batch is padding, and what batches without padding save where flash attention computes.

Prints figures, asserts nothing. The lengths are those of a log-normal distribution at evenly spaced quantiles: "news"
has a median of 40 tokens and few long texts, "articles" a median of 700 cut to the window, "mixed" is half of each.
They go through the shards and the batches of an audit. The ratio needs a CUDA device and flash attention.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers
from scipy.stats import norm

from kdaudit.signals.engine import _batch_size, measure
from kdaudit.signals.running import Runner, settle
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame
from kdaudit.views import build

SHAPES = {"news": ((40, 0.45),), "articles": ((700, 0.7),), "mixed": ((40, 0.45), (700, 0.7))}
"""Medians in tokens, and deviations of the logarithm."""
CHARS = 4.3  # of a token of English text
VOCABULARY = 32_000
PAIRS = 5


def main() -> None:
    """Print the share of padding of each kind of text, and the ratio where it can be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--window", type=int, default=2048)
    options = parser.parse_args()
    print("texts     batch tokens   batches   padding of all tokens")
    for name in SHAPES:
        sizes = lengths(name, options.records, options.window)
        for budget in (4096, 16384):
            found = [*batches(shards(sizes), budget)]
            n_read = sum(len(batch) * max(batch) for batch in found)
            print(f"{name:9} {budget:12} {len(found):9} {1 - sum(map(sum, found)) / n_read:22.1%}")
    print()
    if not torch.cuda.is_available():
        print("padded against packed: not measured, there is no CUDA device here")
        return
    attention = next((name for name in ("flash_attention_3", "flash_attention_2") if is_there(name)), None)
    if attention is None:
        print("padded against packed: not measured, flash attention is not installed")
        return
    for name in SHAPES:
        ratio = time_ratio(lengths(name, min(options.records, 1000), options.window), attention)
        print(f"{name}: padded / packed {ratio:.2f} on {torch.cuda.get_device_name()} by {attention}")


def lengths(name: str, n: int, window: int) -> list[int]:
    """Tokens of each text."""
    parts = SHAPES[name]
    found = []
    for median, deviation in parts:
        quantiles = (np.arange(n // len(parts)) + 0.5) / (n // len(parts))
        found += [int(size) for size in np.clip(np.exp(np.log(median) + deviation * norm.ppf(quantiles)), 2, window)]
    return found


def shards(sizes: Sequence[int]) -> list[list[int]]:
    """The lengths as the shards of an audit hold them: longest first, about as many characters in each."""
    held: Any = SimpleNamespace(texts=["x" * round(CHARS * size) for size in sizes])
    return [[sizes[i] for i in shard] for shard in build.Passages.shards(held)]


def batches(of: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """The lengths of each batch that is padded."""
    runner = Runner(lambda _: torch.zeros(0), None)
    for shard in of:
        waiting = [frame_of(size) for size in sorted(shard, reverse=True)]
        while waiting:
            n = _batch_size(waiting, budget, runner)
            yield [one.size for one in waiting[:n]]
            waiting = waiting[n:]


def frame_of(size: int) -> Any:
    """A text of this many tokens, as a causal model is shown it."""
    return Frame(CAUSAL).plan(passage(size)).showings[0]


def passage(size: int, *, seed: int = 0) -> Passage:
    """A text of random tokens."""
    ids = np.random.default_rng([seed, size]).integers(0, VOCABULARY, size).astype(np.int32)
    ends = np.arange(1, size + 1, dtype=np.int32)
    return Passage(ids, ends, ends)


def is_there(attention: str) -> bool:
    """Whether transformers can compute so here."""
    return bool(getattr(transformers.utils, f"is_{attention.replace('attention', 'attn')}_available")())


def time_ratio(sizes: Sequence[int], attention: str) -> float:
    """Seconds of padded batches over those of packed ones, the median of alternating pairs."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12, num_attention_heads=16
    )
    config._attn_implementation = attention
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).to("cuda").eval()
    of = [[passage(size, seed=k) for k, size in enumerate(shard)] for shard in shards(sizes)]
    assert settle(model, of[0][:2], Frame(CAUSAL)).is_packed, "packed batches say something else"
    ratios = []
    for _ in range(PAIRS):
        seconds = []
        for is_packed in (False, True):
            started = time.perf_counter()
            with patch("kdaudit.signals.running.packs", lambda _, packed=is_packed: packed):
                for _signals in measure(model, of, Frame(CAUSAL), batch_tokens=16384):
                    pass
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


if __name__ == "__main__":
    main()
