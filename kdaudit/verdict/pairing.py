"""The rise of every AUC since a baseline, paired over records: for runs whose scores lie beside their results."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdaudit.errors import ConfigError
from kdaudit.metrics.auc import auc, auc_difference
from kdaudit.metrics.estimate import Difference
from kdaudit.results import AuditResult
from kdaudit.results.scores import HINT, RecordScores

SAME = 1e-9  # two ways to sum the same wins


def pair_rises(now: RecordScores, then: RecordScores) -> dict[tuple[str, str], Difference]:
    """By attack and model, for what both runs scored: the AUC now minus the AUC then, DeLong's paired error.

    Records that a model of either run did not score are left out for all of them. Where the records are other ones,
    every figure is missing and says so.

    Args:
        now: of the run.
        then: of the baseline.
    """
    shared = [cell for cell in now.by_cell if cell in then.by_cell]
    if now.ids != then.ids or not np.array_equal(now.is_member, then.is_member):
        return dict.fromkeys(shared, Difference(None, reason="the baseline's scores.parquet is of other records"))
    found = {}
    for attack, model in shared:
        is_kept = _is_scored(now, attack) & _is_scored(then, attack)
        classes = [
            scores.by_cell[attack, model][is_kept & of_class]
            for scores in (now, then)
            for of_class in (now.is_member, ~now.is_member)
        ]
        found[attack, model] = auc_difference(*classes)
    return found


def check_scores(scores: RecordScores, result: AuditResult, path: str) -> None:
    """Refuse scores that are not those behind a result.

    Raises:
        ConfigError: an AUC of the result is not that of the scores.
    """
    for attack, found in result.attacks.items():
        for model, cell in found.cells.items():
            if cell.auc is None or cell.auc.value is None:
                continue
            values = scores.by_cell.get((attack, model))
            is_kept = _is_scored(scores, attack)
            classes = (
                [] if values is None else [values[is_kept & scores.is_member], values[is_kept & ~scores.is_member]]
            )
            is_whole = bool(classes) and min(map(len, classes)) > 0
            if not is_whole or abs(auc(*classes) - cell.auc.value) > SAME:
                raise ConfigError(
                    f"{path}: its {attack} scores of {model} are not those of the results.json beside it", hint=HINT
                )


def _is_scored(scores: RecordScores, attack: str) -> NDArray[np.bool_]:
    """(n,), True where every model has a score of this attack: the records that an audit judges."""
    columns = [values for (name, _), values in scores.by_cell.items() if name == attack]
    is_scored = np.ones(len(scores.ids), dtype=bool)
    for values in columns:
        is_scored &= np.isfinite(values)
    return is_scored
