"""What an audit says over all its attacks: the strongest on every model, and what its sizes could have told apart."""

from __future__ import annotations

from collections.abc import Mapping

from kdaudit.audit.assess import Judging
from kdaudit.audit.scoring import Scores
from kdaudit.draws import generator
from kdaudit.metrics.strongest import Strongest, smallest_detectable_auc, strongest_attack
from kdaudit.metrics.validity import FOLDS, training_variance
from kdaudit.results import AttackResult, Power, Verdict

LEVEL, POWER = 0.95, 0.8


def strongest_by_model(attacks: Mapping[str, AttackResult], scores: Scores, judging: Judging) -> dict[str, Strongest]:
    """The largest AUC of every model on which an attack was measured, with its simultaneous interval."""
    split = judging.n_members
    found = {}
    for model in dict.fromkeys(name for attack in attacks.values() for name in attack.cells):
        aucs = {name: attack.cells[model].auc for name, attack in attacks.items()}
        pairs = {
            name: (by_model[model][:split], by_model[model][split:])
            for name, by_model in scores.by_attack.items()
            if model in by_model
        }
        found[model] = strongest_attack(aucs, pairs, rng=generator(judging.seed, f"strongest {model}"), level=LEVEL)
    return {model: strongest for model, strongest in found.items() if strongest is not None}


def describe_power(attacks: Mapping[str, AttackResult], verdict: Verdict) -> Power:
    """What the attack with the most scored records could have told apart; null where no AUC is large enough.

    The level is shared among the cells of the gates, without gates among all measured AUCs, and the AUC must beat the
    blind classifier, as it must to fail a gate.
    """
    aucs = [cell.auc for attack in attacks.values() for cell in attack.cells.values() if cell.auc]
    n, m = max([(auc.n, auc.m) for auc in aucs], key=min, default=(0, 0))
    n_cells = verdict.n_cells if verdict.gates else sum(auc.value is not None for auc in aucs)
    cells, null_variance = max(n_cells, 1), 1 + training_variance(FOLDS)
    smallest = 1.0
    if min(n, m):
        smallest = smallest_detectable_auc(n, m, cells=cells, null_variance=null_variance, level=LEVEL, power=POWER)
    return Power(smallest if smallest < 1 else None, LEVEL, POWER, n, m, cells)
