"""How far an attack lies beyond a blind classifier, as every audit measures it."""

from kdaudit.metrics.auc import auc_difference
from kdaudit.metrics.estimate import Difference
from kdaudit.metrics.scores import Floats
from kdaudit.metrics.validity import FOLDS, training_variance


def beyond_blind(members: Floats, nonmembers: Floats, blind_members: Floats, blind_nonmembers: Floats) -> Difference:
    variance = training_variance(FOLDS)
    return auc_difference(members, nonmembers, blind_members, blind_nonmembers, training_variance_b=variance)
