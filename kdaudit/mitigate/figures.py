"""The figures of every student: what it is worth, how much it leaks, where it lies beside the frontier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdaudit.audit.assess import Judging, kept_parts
from kdaudit.draws import generator
from kdaudit.errors import ModelError
from kdaudit.metrics import measure
from kdaudit.metrics.association import ratio_estimate
from kdaudit.metrics.auc import auc_difference, auc_estimate
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.excess import SupervisionEffect, supervision_effect
from kdaudit.metrics.frontier import Candidate, Frontier, PlainCheckpoint, Trained, place
from kdaudit.metrics.metric import Case
from kdaudit.metrics.replicates import PLACED_BY
from kdaudit.metrics.scores import Floats, Integers
from kdaudit.mitigate import hard_only
from kdaudit.mitigate.scoring import Scored, is_scored, split
from kdaudit.results.mitigation import Leak
from kdaudit.signals.likelihoods import Likelihoods

MIN_GROUP = 20
"""Members of the smallest group that a finding may rest on."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Whom the teacher gives away: fixed before any arm is trained."""

    is_vulnerable: NDArray[np.bool_] | None
    """(n,), members; None: findings rest on all members together."""
    reason: str = ""
    """Why it is None."""


@dataclass(frozen=True, slots=True)
class Roster:
    """The folders of all students."""

    plain: tuple[Mapping[float, Path], ...]
    """By seed: copies of the plain run by the epochs that are done, rising, the last one its finished student."""
    further: Mapping[int, tuple[Path, ...]]
    """Further plain runs by their epochs: the finished student of every seed."""
    arms: Mapping[str, tuple[Path, ...]]
    """By seed."""
    start: Path | None
    """The untrained start, where it is scored like a student."""

    @property
    def n_epochs(self) -> int:
        """Epochs of the plain run."""
        return int(max(self.plain[0]))

    @property
    def whole_epochs(self) -> tuple[tuple[Path, ...], ...]:
        """By seed: the plain run after every whole epoch."""
        return tuple(tuple(run[moment] for moment in run if moment == int(moment)) for run in self.plain)

    @property
    def finished(self) -> tuple[Path, ...]:
        """By seed: the plain run's finished student."""
        return tuple(run[self.n_epochs] for run in self.plain)

    @property
    def folders(self) -> tuple[Path, ...]:
        """All of them, the first with a manifest."""
        copies = [folder for run in self.plain for folder in list(run.values())[:-1]]
        further = [folder for run in self.further.values() for folder in run]
        arms = [folder for run in self.arms.values() for folder in run]
        return (*self.finished, *copies, *further, *arms, *([self.start] if self.start else []))


def utility(scored: Scored, folder: Path, seed: int) -> tuple[Estimate, Estimate]:
    """Held-out loss in nats per token, and bits per byte.

    Raises:
        ModelError: the loss of a held-out record is not finite.
    """
    facts, n_members = scored.likelihoods(folder), len(scored.data.members)
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
    told = [folder for run in roster.whole_epochs for folder in run]
    told += [folder for runs in (roster.further, roster.arms) for run in runs.values() for folder in run]
    found: dict[Path, dict[str, Leak]] = {folder: {} for folder in told}
    for attack in scored.attacks:
        is_kept = is_scored(scored, attack)
        parts = kept_parts(judging, is_kept)
        for k, run in enumerate(roster.whole_epochs):
            others = [students[k] for runs in (roster.further, roster.arms) for students in runs.values()]
            folders = [*run, *others]
            pairs = {
                str(folder): split(_scores(scored, attack, folder), judging.n_members, is_kept) for folder in folders
            }
            name = f"mitigation {attack} {k}"
            measured = measure(Case(pairs, parts, judging.seed, name, baseline=str(run[-1])))
            for folder in folders:
                changes = measured.differences.get(str(folder), {})
                found[folder][attack] = Leak(
                    {metric: measured.models[str(folder)][metric] for metric in PLACED_BY},
                    {metric: changes[metric] for metric in PLACED_BY if metric in changes},
                )
    return found


def frontiers(
    scored: Scored,
    roster: Roster,
    judging: Judging,
    groups: Mapping[str, Mapping[str, Integers]],
    controls: Mapping[str, str],
) -> dict[str, dict[str, Frontier]]:
    """By attack and metric: every arm beside the plain checkpoints.

    Args:
        scored: all students.
        roster: their folders.
        judging: of all records.
        groups: by arm the members of each of its groups.
        controls: by control the arm for which it does at random what that one does by choice.
    """
    found = {}
    for attack in scored.attacks:
        is_kept = is_scored(scored, attack)
        place_of = np.cumsum(is_kept[: judging.n_members]) - 1  # among the members that every student has a score of

        def trained(folder: Path, attack: str = attack, is_kept: NDArray[np.bool_] = is_kept) -> Trained:
            return _trained(scored, attack, folder, judging.n_members, is_kept)

        arms = {
            name: Candidate(
                [trained(folder) for folder in run],
                {
                    group: place_of[members[is_kept[members]]]
                    for group, members in groups[name].items()
                    if is_kept[members].any()
                },
                controls.get(name),
            )
            for name, run in roster.arms.items()
        }
        start = _start(scored, roster, attack, judging.n_members, is_kept)
        rng = generator(judging.seed, f"frontier {attack}")
        found[attack] = place([*start, *_plain_checkpoints(roster, trained)], arms, rng=rng)
    return found


def _plain_checkpoints(roster: Roster, trained: Callable[[Path], Trained]) -> Iterator[PlainCheckpoint]:
    for moment in roster.plain[0]:
        yield PlainCheckpoint(roster.n_epochs, moment, [trained(run[moment]) for run in roster.plain])
    for epochs, run in roster.further.items():
        yield PlainCheckpoint(epochs, float(epochs), [trained(folder) for folder in run])


def _start(
    scored: Scored, roster: Roster, attack: str, n_members: int, is_kept: NDArray[np.bool_]
) -> Iterator[PlainCheckpoint]:
    """The untrained start, the same for every seed; nothing where it is neither scored nor a reference."""
    n_seeds = len(roster.plain)
    if roster.start is not None:
        yield PlainCheckpoint(0, 0.0, [_trained(scored, attack, roster.start, n_members, is_kept)] * n_seeds)
        return
    reference, facts = scored.subject(roster.finished[0]).reference, _start_facts(scored, roster)
    if reference is None or facts is None:
        return
    alone = scored.scores.of_starts[reference.fingerprint]
    # Against itself it gains nothing on any record.
    values = alone.get(attack, np.zeros(is_kept.size))
    members, nonmembers = split(values, n_members, is_kept)
    is_held = is_kept[n_members:]
    found = Trained(members, nonmembers, facts.nll[n_members:][is_held], facts.n_tokens[n_members:][is_held])
    yield PlainCheckpoint(0, 0.0, [found] * n_seeds)


def mixed_supervision(scored: Scored, roster: Roster, groups: Groups, judging: Judging) -> SupervisionEffect | None:
    """What the teacher's word adds to the ground truth's on the members that the teacher gives away.

    The plain run against the one of hard labels alone; None without that arm, without groups or without a start.
    """
    hard, start = roster.arms.get(hard_only.METHOD.name), _start_facts(scored, roster)
    if hard is None or start is None or groups.is_vulnerable is None:
        return None
    teacher = scored.plan.subjects[0]
    starts = [start] if teacher.reference is None else [start, scored.scores.likelihoods[teacher.reference.fingerprint]]
    with np.errstate(divide="ignore"):
        difficulty = np.column_stack([*(facts.mean_logprob for facts in starts), np.log(start.n_tokens)])
    mixed, alone = ([scored.likelihoods(folder).mean_logprob for folder in run] for run in (roster.finished, hard))
    is_known = np.isfinite(np.column_stack([difficulty, *mixed, *alone])).all(axis=1)
    is_member = np.arange(is_known.size) < judging.n_members
    is_vulnerable = np.zeros(is_known.size, dtype=np.bool_)
    is_vulnerable[: judging.n_members] = groups.is_vulnerable
    return supervision_effect(
        [one[is_known] for one in mixed],
        [one[is_known] for one in alone],
        difficulty[is_known],
        is_member[is_known],
        is_vulnerable[is_known],
        rng=generator(judging.seed, "supervision effect"),
    )


def _start_facts(scored: Scored, roster: Roster) -> Likelihoods | None:
    if roster.start is not None:
        return scored.likelihoods(roster.start)
    reference = scored.subject(roster.finished[0]).reference
    return None if reference is None else scored.scores.likelihoods[reference.fingerprint]


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


def _trained(
    scored: Scored, attack: str, folder: Path, n_members: int, is_kept: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> Trained:
    facts = scored.likelihoods(folder)
    members, nonmembers = split(_scores(scored, attack, folder), n_members, is_kept)
    is_held = is_kept[n_members:]
    return Trained(members, nonmembers, facts.nll[n_members:][is_held], facts.n_tokens[n_members:][is_held])


def _scores(scored: Scored, attack: str, folder: Path) -> Floats:
    return scored.scores.by_attack[attack][scored.subject_of[folder]]
