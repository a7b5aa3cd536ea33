"""How sure a mean over training seeds is."""

from __future__ import annotations

import numpy as np

from kdaudit.metrics.scores import Floats


def seed_weights(n_seeds: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Weights of the seeds in every replicate, (R + 1, S), each row of sum 1, the first row 1/S each.

    A mean under them lies t standard errors from the mean, t of Student's distribution with S - 1 degrees of freedom:
    its quantiles are the usual confidence bounds of a mean of S normal values.
    """
    weights = np.full((resamples + 1, n_seeds), 1 / n_seeds)
    if n_seeds > 1:
        normal = rng.normal(size=(resamples, n_seeds))
        centred = normal - normal.mean(axis=1, keepdims=True)
        heavy = np.sqrt((n_seeds - 1) / rng.chisquare(n_seeds - 1, size=(resamples, 1)))
        weights[1:] += centred * heavy / np.sqrt(n_seeds * (n_seeds - 1))
    return weights
