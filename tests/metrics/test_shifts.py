"""Sets that differ in some way that says nothing about membership are refused; random halves of one set are not.

The texts are prose that people wrote, the docstrings of libraries; the start is a small model trained on other
docstrings for a minute. Every shift is applied to all non-members. `pytest -m slow -s tests/metrics/test_shifts.py`
prints the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from kdaudit.attacks import ATTACKS
from kdaudit.attacks.base import Sample
from kdaudit.audit.validity import BLIND_LIMIT, NULL_ATTACKS, blind_reasons, start_reasons
from kdaudit.demo.models import new_model, new_tokenizer
from kdaudit.metrics.auc import auc_estimate
from kdaudit.metrics.estimate import Estimate, lower_bound
from kdaudit.metrics.validity import blind_baseline, near_duplicate_groups
from kdaudit.targets.script import Script
from kdaudit.views.view import PLAIN
from tests.metrics.shifts import FOUND, NAMED, Shift, prose

N = 1000
"""Members, and as many non-members, of one replicate."""
N_PUBLIC, N_POOL = 1500, 3000
"""Texts that the start learns, and texts that replicates are drawn from, without replacement within one."""
MODEL_REPLICATES, BLIND_REPLICATES, CLEAN_REPLICATES = 500, 5, 20
"""A blind replicate takes seconds, so its few bounds are also held against the limit as a normal distribution."""
EPOCHS, BATCH, WINDOW = 4, 16, 256

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@dataclass(frozen=True)
class Bench:
    """Texts that no model saw, and a model that saw others."""

    pool: list[str]
    model: Any
    tokenizer: Any

    def scores(self, texts: list[str]) -> dict[str, np.ndarray]:
        """What each attack of the null finds in the start, by text."""
        from kdaudit.signals.engine import measure
        from kdaudit.targets.causal import causal_frame
        from kdaudit.views.build import build

        frame = causal_frame(self.tokenizer)
        passages = build([*map(Script, texts)], [self.tokenizer], [frame], views=[PLAIN], shots=(), window=WINDOW)
        shards = passages.shards()
        found = {name: np.full(len(texts), np.nan) for name in NULL_ATTACKS}
        read = (passages.read(shard, PLAIN, 0) for shard in shards)
        for shard, signals in zip(shards, measure(self.model, read, frame, batch_tokens=4096), strict=True):
            for index, one in zip(shard, signals, strict=True):
                sample = Sample(passages.scored_text(index), {PLAIN: one})
                for name in NULL_ATTACKS:
                    found[name][index] = ATTACKS[name].score(sample)
        return found


@pytest.fixture(scope="module")
def bench() -> Bench:
    texts = prose()
    _, first = np.unique(near_duplicate_groups(texts), return_index=True)
    order = np.random.default_rng(0).permutation(first)
    texts = [texts[i] for i in order]
    assert len(texts) >= N_PUBLIC + N_POOL
    public, pool = texts[:N_PUBLIC], texts[N_PUBLIC : N_PUBLIC + N_POOL]
    tokenizer = new_tokenizer("causal", public)
    return Bench(pool, _trained(new_model("causal", tokenizer, n_layers=2, seed=0), tokenizer, public), tokenizer)


def _trained(model: Any, tokenizer: Any, texts: list[str]) -> Any:
    import torch

    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(EPOCHS):
        order = rng.permutation(len(texts))
        for start in range(0, len(texts), BATCH):
            some = [texts[i] for i in order[start : start + BATCH]]
            batch = tokenizer(some, return_tensors="pt", padding=True, truncation=True, max_length=WINDOW)
            labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
            loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def _halves(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    drawn = rng.permutation(n)[: 2 * N]
    return drawn[:N], drawn[N:]


def _refused_by_model(clean: dict[str, np.ndarray], shifted: dict[str, np.ndarray]) -> float:
    """Share of the replicates; each draws members and other texts' shifted versions from the pool anew."""
    n_refused = 0
    for replicate in range(MODEL_REPLICATES):
        members, others = _halves(clean["loss"].size, np.random.default_rng([1, replicate]))
        alone = {name: auc_estimate(clean[name][members], shifted[name][others]) for name in NULL_ATTACKS}
        n_refused += bool(start_reasons({"student": alone}))
    return n_refused / MODEL_REPLICATES


def _bounds(pool: list[str], shifted: list[str], n_replicates: int) -> Iterator[tuple[bool, float]]:
    """Whether the blind classifiers refuse a replicate, and their highest lower bound."""
    for replicate in range(n_replicates):
        rng = np.random.default_rng([2, replicate])
        members, others = _halves(len(pool), rng)
        blind = blind_baseline([pool[i] for i in members], [shifted[i] for i in others], rng=rng)
        level = 1 - 0.05 / len(blind.by_name)
        yield bool(blind_reasons(blind)), max(lower_bound(found, level) or 0.0 for found in blind.by_name.values())


def _chance_above_limit(bounds: list[float]) -> float:
    """Of a normal distribution with the bounds' mean and, with few of them, a standard deviation of at least 0.012."""
    return float(norm.sf(BLIND_LIMIT, np.mean(bounds), max(float(np.std(bounds, ddof=1)), 0.012)))


def _largest(clean: dict[str, np.ndarray], shifted: dict[str, np.ndarray]) -> tuple[str, Estimate]:
    aucs = {name: auc_estimate(clean[name], shifted[name]) for name in NULL_ATTACKS}
    return max(aucs.items(), key=lambda item: item[1].value or 0.0)


def test_shifted_sets_are_refused_and_clean_ones_are_not(bench: Bench) -> None:
    clean = bench.scores(bench.pool)
    shifts: dict[str, Shift] = {**NAMED, **FOUND}
    print(f"\n{N} + {N} texts: share refused by {MODEL_REPLICATES} and {BLIND_REPLICATES} replicates")
    print(f"{'shift':<38}{'blind':>8}{'model':>8}{'either':>8}   AUC of a model that saw nothing")
    too_few = {}
    for name, shift in shifts.items():
        rng = np.random.default_rng(0)
        shifted = [shift(text, rng) for text in bench.pool]
        scores = bench.scores(shifted)
        by_model = _refused_by_model(clean, scores)
        outcomes = list(_bounds(bench.pool, shifted, BLIND_REPLICATES))
        by_blind = np.mean([is_refused for is_refused, _ in outcomes])
        either = max(by_model, min(float(by_blind), _chance_above_limit([bound for _, bound in outcomes])))
        attack, auc = _largest(clean, scores)
        print(f"{name:<38}{by_blind:>8.3f}{by_model:>8.3f}{either:>8.3f}   {auc.value:.3f} {attack}", flush=True)
        if either < 0.99:
            too_few[name] = either
    outcomes = list(_bounds(bench.pool, bench.pool, CLEAN_REPLICATES))
    by_model, by_blind = _refused_by_model(clean, clean), np.mean([is_refused for is_refused, _ in outcomes])
    either = by_model + max(float(by_blind), _chance_above_limit([bound for _, bound in outcomes]))
    print(f"{'no shift':<38}{by_blind:>8.3f}{by_model:>8.3f}{either:>8.3f}", flush=True)
    assert too_few == {}
    assert either <= 0.01
