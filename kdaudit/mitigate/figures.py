"""The figures of every student: what it is worth, how much it leaks, where it lies beside the frontier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdaudit.audit.assess import Judging, kept_parts
from kdaudit.draws import generator
from kdaudit.errors import ModelError
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.frontier import Frontier, Trained, place
from kdaudit.metrics.ratios import ratio_estimate
from kdaudit.metrics.replicates import Metric
from kdaudit.metrics.roc import auc_difference, auc_estimate
from kdaudit.metrics.scores import Floats, Integers
from kdaudit.metrics.thresholds import threshold_metrics
from kdaudit.mitigate.scoring import Scored, is_scored, split
from kdaudit.results.mitigation import Leak

METRICS: tuple[Metric, ...] = ("auc", "tpr@0.01")
RATE = "0.01"


@dataclass(frozen=True, slots=True)
class Roster:
    """The folders of all students."""

    plain: tuple[tuple[Path, ...], ...]
    """By seed: the plain run after every epoch, the last one its finished student."""
    arms: Mapping[str, tuple[Path, ...]]
    """By seed."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """All of them, the first with a manifest."""
        finished = [run[-1] for run in self.plain]
        epochs = [folder for run in self.plain for folder in run[:-1]]
        return (*finished, *epochs, *(folder for run in self.arms.values() for folder in run))


def utility(scored: Scored, folder: Path, seed: int) -> tuple[Estimate, Estimate]:
    """Held-out loss in nats per token, and bits per byte.

    Raises:
        ModelError: the loss of a held-out record is not finite.
    """
    facts, n_members = scored.facts(folder), len(scored.data.members)
    nll, n_tokens, n_bytes = (values[n_members:] for values in (facts.nll, facts.n_tokens, facts.n_bytes))
    has_tokens = n_tokens > 0
    if n_broken := int((~np.isfinite(nll[has_tokens])).sum()):
        raise ModelError(
            f"{folder}: the loss of {n_broken} held-out records is not finite", hint="lower --lr, or leave the arm out"
        )

    def ratio(above: Floats, below: Floats) -> Estimate:
        return ratio_estimate(above[has_tokens], below[has_tokens], rng=generator(seed, "utility nll"))

    return ratio(nll, n_tokens), ratio(nll / math.log(2), n_bytes)


def leaks(scored: Scored, roster: Roster, judging: Judging) -> dict[Path, dict[str, Leak]]:
    """By student and attack: level with interval, and the paired difference to the finished plain student."""
    found: dict[Path, dict[str, Leak]] = {folder: {} for folder in roster.folders}
    for attack in scored.attacks:
        is_kept = is_scored(scored, attack)
        parts = kept_parts(judging, is_kept)
        for k, run in enumerate(roster.plain):
            folders = [*run, *(students[k] for students in roster.arms.values())]
            pairs = {
                str(folder): split(_scores(scored, attack, folder), judging.n_members, is_kept) for folder in folders
            }
            rng = generator(judging.seed, f"mitigation {attack} {k}")
            plain = str(run[-1])
            measured = threshold_metrics(pairs, parts, rng=rng, baseline=plain)
            for folder in folders:
                name = str(folder)
                is_plain = name == plain
                found[folder][attack] = Leak(
                    auc=auc_estimate(*pairs[name]),
                    tpr_at_fpr={RATE: measured.models[name].tpr_at_fpr[RATE]},
                    auc_change=None if is_plain else auc_difference(*pairs[name], *pairs[plain]),
                    tpr_change={} if is_plain else {RATE: measured.differences[name].tpr_at_fpr[RATE]},
                )
    return found


def frontiers(
    scored: Scored, roster: Roster, judging: Judging, controls: Mapping[str, str]
) -> dict[str, dict[Metric, Frontier]]:
    """By attack and metric: every arm beside the plain run at the same held-out loss.

    Args:
        scored: all students.
        roster: their folders.
        judging: of all records.
        controls: by arm the one that does at random what it does by choice.
    """
    return {
        attack: {metric: _frontier(scored, roster, judging, attack, metric, controls) for metric in METRICS}
        for attack in scored.attacks
    }


def subset_aucs(
    scored: Scored, folder: Path, plain: Path, members: Integers, judging: Judging
) -> dict[str, tuple[Estimate, Estimate, Difference]]:
    """By attack the AUC of some members alone against all held-out records: a student's, the plain one's, the change.

    Args:
        scored: all students.
        folder: of the student.
        plain: of the plain student.
        members: indices.
        judging: of all records.
    """
    found = {}
    for attack in scored.attacks:
        is_chosen = is_scored(scored, attack)
        is_chosen[: judging.n_members] &= np.isin(np.arange(judging.n_members), members)
        own, other = (split(_scores(scored, attack, one), judging.n_members, is_chosen) for one in (folder, plain))
        found[attack] = auc_estimate(*own), auc_estimate(*other), auc_difference(*own, *other)
    return found


def _frontier(
    scored: Scored, roster: Roster, judging: Judging, attack: str, metric: Metric, controls: Mapping[str, str]
) -> Frontier:
    is_kept = is_scored(scored, attack)

    def trained(folders: Sequence[Path]) -> list[Trained]:
        return [_trained(scored, attack, folder, judging.n_members, is_kept) for folder in folders]

    return place(
        [trained(run) for run in roster.plain],
        {name: trained(run) for name, run in roster.arms.items()},
        kept_parts(judging, is_kept),
        metric=metric,
        controls=controls,
        rng=generator(judging.seed, f"frontier {attack} {metric}"),
    )


def _trained(
    scored: Scored, attack: str, folder: Path, n_members: int, is_kept: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> Trained:
    facts = scored.facts(folder)
    members, nonmembers = split(_scores(scored, attack, folder), n_members, is_kept)
    is_held = is_kept[n_members:]
    return Trained(members, nonmembers, facts.nll[n_members:][is_held], facts.n_tokens[n_members:][is_held])


def _scores(scored: Scored, attack: str, folder: Path) -> Floats:
    return scored.scores.by_attack[attack][scored.subject_of[folder]]
