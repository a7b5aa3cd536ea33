"""Time of all metrics of an audit: `python tests/benchmarks/metrics.py [--members N] [--attacks N] [--threads N]`.

Every model is held against its start and all against a blind classifier, as in an audit with references. The target on
two idle cores is 60 s for 100,000 + 100,000 records, ten attacks and two models, and 5 min and 2 GB for ten times as
many records.
"""

import argparse
import resource
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kdaudit.audit.assess import MAX_THREADS
from kdaudit.metrics import auc, thresholds
from kdaudit.metrics.calibration import best_in_sample
from kdaudit.metrics.distributions import histogram, roc_curve
from kdaudit.metrics.metric import Case
from kdaudit.metrics.scores import Floats, split_parts

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


def judge(attack: int, n: int, m: int, n_models: int) -> Mapping[str, float]:
    """Seconds of CPU time of every part of the figures of one attack."""
    rng = np.random.default_rng([0, attack])
    scores = simulated(n, m, n_models, rng)
    nulls = nulls_of(n, m, list(scores), rng)
    held_against = {name: (f"start of {name}", "blind") for name in scores}
    parts = split_parts(n, m, share=0.3, rng=rng)
    case = Case(scores, parts, 0, str(attack), "teacher", nulls, held_against)
    seconds = {}
    for name, family in (("AUC and differences", auc.FAMILY), ("thresholds", thresholds.FAMILY)):
        started = time.thread_time()
        family.measure(case)
        seconds[name] = time.thread_time() - started
    started = time.thread_time()
    for pair in scores.values():
        roc_curve(*pair)
        histogram(*pair)
        best_in_sample(*pair)
    seconds["curves, histograms, in-sample"] = time.thread_time() - started
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--nonmembers", type=int, default=100_000)
    parser.add_argument("--attacks", type=int, default=10)
    parser.add_argument("--models", type=int, default=2, choices=range(1, len(MODELS) + 1))
    parser.add_argument("--threads", type=int, default=MAX_THREADS)
    options = parser.parse_args()
    seconds: Counter[str] = Counter()
    started = time.perf_counter()
    with ThreadPoolExecutor(options.threads) as pool:
        sizes = options.members, options.nonmembers, options.models
        for found in pool.map(lambda attack: judge(attack, *sizes), range(options.attacks)):
            seconds.update(found)
    wall = time.perf_counter() - started
    print(f"{options.members} + {options.nonmembers} records, {options.attacks} attacks, {options.models} models")
    for name, taken in seconds.items():
        print(f"{name:<30}{taken:8.2f} s of CPU time")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{'all':<30}{sum(seconds.values()):8.2f} s of CPU time; with the simulated scores {wall:.2f} s by the clock "
        f"on {options.threads} threads, peak {peak:.0f} MB"
    )


if __name__ == "__main__":
    main()
