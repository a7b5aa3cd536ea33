"""Small audits to be judged: intervals of a known width, and runs made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from scipy.stats import norm

from kdaudit.attacks import ATTACKS
from kdaudit.metrics.estimate import QUANTILE_GRID, Difference, Estimate
from kdaudit.results import AttackResult, Cell, Comparison, Overlap, Validity, Verdict
from kdaudit.verdict import judge, parse_gate

BLIND = Estimate(0.5, 0.47, 0.53, 2000, 2000)
METRICS = ("auc", "tpr@0.001", "tpr@0.01", "tpr@0.1", "balanced_accuracy")
VALID = Validity("ok", BLIND, "tf-idf", {"tf-idf": BLIND}, {}, Overlap(13), ())
INVALID = replace(VALID, status="failed", blind_auc=replace(BLIND, value=0.71, low=0.68, high=0.74))


def shares(value: float, *, spread: float = 0.01, n: int = 2000, m: int = 2000) -> Estimate:
    """An estimate whose bootstrap is normal around `value`: its bounds are value -+ z * spread, in [0, 1]."""
    quantiles = tuple(np.clip(value + norm.ppf(QUANTILE_GRID) * spread, 0, 1).tolist())
    return Estimate(value, quantiles[0], quantiles[-1], n, m, method="bootstrap", quantiles=quantiles)


def exactly(value: float) -> Estimate:
    """An estimate whose every bound is `value`."""
    return replace(shares(value), quantiles=(value,) * len(QUANTILE_GRID))


def gain(value: float, *, se: float = 0.01, n: int = 2000, m: int = 2000) -> Difference:
    return Difference(value, n=n, m=m, se=se)


CONSTANT = Estimate(None, n=2000, m=2000, reason="scores do not vary")
NO_REFERENCE = Cell("not_applicable", "no reference was given")


def beyond(figure: Difference) -> dict[str, Difference]:
    """How far a cell lies above a null, the same in every metric."""
    return dict.fromkeys(METRICS, figure)


def cell(
    auc: Estimate,
    *,
    beyond_blind: float = 0.2,
    unscored: int = 0,
    others: Mapping[str, Estimate] = MappingProxyType({}),
    nulls: Mapping[str, Mapping[str, Difference]] | None = None,
) -> Cell:
    held_against = {"blind": beyond(gain(beyond_blind))} if nulls is None else nulls
    return Cell("ok", figures={"auc": auc, **others}, unscored=unscored, nulls=held_against)


def attack(
    student: Cell,
    *,
    teacher: Cell | None = None,
    requested: bool = False,
    comparison: Mapping[str, Comparison] | None = None,
) -> AttackResult:
    cells = {"teacher": teacher or cell(shares(0.5)), "student": student}
    return AttackResult(1, requested, cells, comparison or {}, {}, {}, {})


def judged(gates: Sequence[str], attacks: Mapping[str, AttackResult], validity: Validity = VALID) -> Verdict:
    return judge(attacks, validity, [parse_gate(gate) for gate in gates])


def of_aucs(*aucs: Estimate | float, gates: Sequence[str] = ("student.auc <= 0.6",), **options: float) -> Verdict:
    """The verdict on a run whose n-th attack has the n-th AUC on the student."""
    figures = [shares(auc) if isinstance(auc, float) else auc for auc in aucs]
    cells = [cell(figure, **options) for figure in figures]  # type: ignore[arg-type]
    return judged(gates, dict(zip(ATTACKS, map(attack, cells), strict=False)))
