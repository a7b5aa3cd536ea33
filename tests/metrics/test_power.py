"""The smallest detectable AUC."""

import numpy as np
import pytest
from scipy.special import ndtri

from kdaudit.metrics.estimate import lower_bound
from kdaudit.metrics.power import smallest_detectable_auc
from kdaudit.metrics.roc import auc_estimate


def test_more_records_detect_smaller_leaks():
    sizes = [10, 50, 200, 2000, 100_000]
    found = [smallest_detectable_auc(n, n) for n in sizes]
    assert found == sorted(found, reverse=True)
    assert 0.5 < found[-1] < 0.505
    assert smallest_detectable_auc(1, 1) == 1
    assert smallest_detectable_auc(300, 300, power=0.9) > smallest_detectable_auc(300, 300, power=0.8)
    assert smallest_detectable_auc(300, 300, level=0.99) > smallest_detectable_auc(300, 300, level=0.95)


def test_a_leak_of_that_size_is_detected_as_often_as_promised():
    shift = np.sqrt(2) * ndtri(smallest_detectable_auc(200, 300))
    rng = np.random.default_rng(0)
    bounds = [lower_bound(auc_estimate(rng.normal(shift, 1, 200), rng.normal(0, 1, 300)), 0.95) for _ in range(600)]
    detected = [bound is not None and bound > 0.5 for bound in bounds]
    assert np.mean(detected) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"level": 0.5}, {"power": 1.0}])
def test_what_cannot_be_asked_is_refused(arguments):
    n = arguments.pop("n", 10)
    with pytest.raises(ValueError, match="needs"):
        smallest_detectable_auc(n, 10, **arguments)
