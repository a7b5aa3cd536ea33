"""What masked models cost: a partition over bare forward passes, and `pll` over a loop of one token at a time.

Prints figures, asserts nothing. Run it on an idle machine: contended threads make small models several times slower.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

from kdaudit.signals.engine import measure
from kdaudit.targets.masked import Masking, masked_kind
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame, padded

CLS, SEP, MASK, N_SPECIAL = 2, 3, 4, 5
BATCH_TOKENS = 4096
AT_ONCE = 1024  # hidden positions that the head reads at one time


def main() -> None:
    """Measure both on a BERT with random weights; texts have between half and one and a half of --tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=30_522)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    config = transformers.BertConfig(
        vocab_size=options.vocabulary, hidden_size=options.width, intermediate_size=4 * options.width,
        num_hidden_layers=options.layers, num_attention_heads=options.width // 64,
    )  # fmt: skip
    model = transformers.BertForMaskedLM(config).eval().to(options.device)
    texts = passages(options.records, options.tokens, options.vocabulary)
    what = f"{options.records} texts of about {options.tokens} tokens, {options.layers} layers of {options.width}"
    ratio, seconds = alternate(lambda: engine(model, texts, "partition"), lambda: bare(model, texts), options.pairs)
    print(f"partition of 7 / seven bare forward passes with the head on hidden positions: {ratio:.3f} ({what})")
    print(f"partition of 7: {options.records / seconds:.1f} texts/s")
    few = texts[: max(1, options.records // 8)]
    ratio, _ = alternate(lambda: one_at_a_time(model, few), lambda: engine(model, few, "pll"), options.pairs)
    print(f"a loop of one token at a time / pll: {ratio:.2f} ({len(few)} of these texts)")


def passages(n: int, n_tokens: int, vocabulary: int) -> list[Passage]:
    """Random tokens, two of them to a word on average."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(n):
        size = int(rng.integers(n_tokens // 2, n_tokens * 3 // 2))
        ids = rng.integers(N_SPECIAL, vocabulary, size).astype(np.int32)
        ends = np.arange(1, size + 1, dtype=np.int32)
        words = np.cumsum(rng.random(size) < 0.5).astype(np.int32)
        found.append(Passage(ids, ends, ends, 0, words, str(number)))
    return found


def frame_of_plan(plan: str) -> Frame:
    """[CLS] text [SEP]."""
    return Frame(masked_kind(Masking(plan)), (CLS,), tail=(SEP,), mask=MASK)


def engine(model: Any, texts: list[Passage], plan: str) -> None:
    """What an audit does."""
    list(measure(model, [texts], frame_of_plan(plan), batch_tokens=BATCH_TOKENS))


@torch.inference_mode()
def bare(model: Any, texts: list[Passage]) -> None:
    """The same rows in batches of the same size, longest first: body and head, and nothing of the logits."""
    frame = frame_of_plan("partition")
    rows = sorted((one for text in texts for one in frame.plan(text).showings), key=lambda one: -one.size)
    while rows:
        n_rows = max(1, BATCH_TOKENS // rows[0].size)
        batch, rows = rows[:n_rows], rows[n_rows:]
        ids = torch.from_numpy(padded([one.ids for one in batch])).to(model.device)
        mask = torch.from_numpy(padded([np.ones(one.size, dtype=np.int32) for one in batch])).to(model.device)
        row = np.repeat(np.arange(len(batch)), [one.columns.size for one in batch])
        column = np.concatenate([one.columns for one in batch])
        states = model.bert(input_ids=ids, attention_mask=mask).last_hidden_state[row, column]
        for some in states.split(AT_ONCE):
            model.cls(some)


@torch.inference_mode()
def one_at_a_time(model: Any, texts: list[Passage]) -> None:
    """How `pll` is written down in a few lines: a forward pass for each token."""
    for text in texts:
        ids = torch.tensor([[CLS, *text.ids.tolist(), SEP]], device=model.device)
        for place in range(1, ids.shape[1] - 1):
            shown = ids.clone()
            shown[0, place] = MASK
            scores = model(input_ids=shown).logits[0, place].log_softmax(-1)
            float(scores[ids[0, place]])


def alternate(one: Callable[[], None], other: Callable[[], None], n_pairs: int) -> tuple[float, float]:
    """The median ratio of their times in turn, and the median seconds of `one`."""
    one()
    other()
    ratios, seconds = [], []
    for _ in range(n_pairs):
        times = []
        for what in (one, other):
            start = time.perf_counter()
            what()
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
        seconds.append(times[0])
    return statistics.median(ratios), statistics.median(seconds)


if __name__ == "__main__":
    main()
