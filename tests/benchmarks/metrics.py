"""Time of all metrics of an audit: `python tests/benchmarks/metrics.py [--members N] [--attacks N]`.

Every model is held against its start and all against a blind classifier, as in an audit with references.

The target is 45 s for 100,000 + 100,000 records, ten attacks and two models on two cores.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from kdaudit.metrics.auc import auc_difference, auc_estimate
from kdaudit.metrics.distributions import histogram, roc_curve
from kdaudit.metrics.scores import Floats, split_parts
from kdaudit.metrics.thresholds import threshold_metrics

MODELS = ("teacher", "student", "student-2", "student-3")


def simulated(n: int, m: int, n_models: int, rng: np.random.Generator) -> dict[str, tuple[Floats, Floats]]:
    """Correlated binormal scores of `n_models` models; the AUCs are about 0.76."""
    shared = rng.normal(size=n + m)
    scores = {}
    for name in MODELS[:n_models]:
        score = 0.8 * shared + 0.6 * rng.normal(size=n + m)
        scores[name] = (score[:n] + 1.0, score[n:])
    return scores


def nulls_of(n: int, m: int, models: Sequence[str], rng: np.random.Generator) -> dict[str, tuple[Floats, Floats]]:
    """Scores that know nothing: of each model's start, and of one blind classifier."""
    return {
        name: (rng.normal(size=n), rng.normal(size=m)) for name in (*(f"start of {one}" for one in models), "blind")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--nonmembers", type=int, default=100_000)
    parser.add_argument("--attacks", type=int, default=10)
    parser.add_argument("--models", type=int, default=2, choices=range(1, len(MODELS) + 1))
    options = parser.parse_args()
    seconds: dict[str, float] = defaultdict(float)
    for attack in range(options.attacks):
        rng = np.random.default_rng([0, attack])
        scores = simulated(options.members, options.nonmembers, options.models, rng)
        nulls = nulls_of(options.members, options.nonmembers, list(scores), rng)
        held_against = {name: (f"start of {name}", "blind") for name in scores}
        parts = split_parts(options.members, options.nonmembers, share=0.3, rng=rng)
        started = time.perf_counter()
        for pair in scores.values():
            auc_estimate(*pair)
        seconds["auc_estimate"] += time.perf_counter() - started
        started = time.perf_counter()
        for name in MODELS[1 : options.models]:
            auc_difference(*scores[name], *scores["teacher"])
        for name, of_model in held_against.items():
            for null in of_model:
                auc_difference(*scores[name], *nulls[null])
        seconds["auc_difference"] += time.perf_counter() - started
        started = time.perf_counter()
        threshold_metrics(scores, parts, rng=rng, baseline="teacher", nulls=nulls, held_against=held_against)
        seconds["threshold_metrics"] += time.perf_counter() - started
        started = time.perf_counter()
        for pair in scores.values():
            roc_curve(*pair)
            histogram(*pair)
        seconds["roc_curve, histogram"] += time.perf_counter() - started
    print(f"{options.members} + {options.nonmembers} records, {options.attacks} attacks, {options.models} models")
    for name, taken in seconds.items():
        print(f"{name:<22}{taken:8.2f} s")
    print(
        f"{'all':<22}{sum(seconds.values()):8.2f} s, {time.process_time():.2f} s of CPU time with the simulated scores"
    )


if __name__ == "__main__":
    main()
