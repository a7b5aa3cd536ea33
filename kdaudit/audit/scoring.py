"""From signals on disk to one score per record, attack and model, a shard at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kdaudit.attacks.base import Attack, Sample
from kdaudit.audit.measure import SignalFiles
from kdaudit.audit.plan import Plan
from kdaudit.errors import ModelError
from kdaudit.signals import store
from kdaudit.signals.likelihoods import Floats, Likelihoods, fill, nothing_scored
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN, View


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of all records, members before non-members."""

    by_attack: Mapping[str, Mapping[str, Floats]]
    """Attack -> audited model -> (n,), larger means more likely a member, NaN means not scored."""
    paper: Mapping[str, Mapping[str, Floats]]
    """For --paper-compat: the same with the paper's settings, for the attacks where they differ; else empty."""
    with_paper: bool
    likelihoods: Mapping[str, Likelihoods]
    """Checkpoint fingerprint -> what that model makes of each record in the plain view."""
    of_starts: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    """Fingerprint of a start (a reference) -> attack of `alone` -> (n,): what the attack finds in a model that saw
    neither set, whatever attacks the audit runs."""
    alone: Mapping[str, Attack] = field(default_factory=dict)


def score_records(plan: Plan, shards: Sequence[Sequence[int]], files: SignalFiles, *, with_paper: bool) -> Scores:
    """Score every record with every attack on every model that it runs on.

    A start is attacked with the parameters that the attack has in the audit. Models that are known from an earlier run
    have no score here.
    """
    n = len(plan.passages.scripts)
    by_attack = {one.attack.name: {name: np.full(n, np.nan) for name in one.runs_on} for one in plan.attacks}
    as_in_paper = plan.as_in_paper if with_paper else {}
    paper = {name: {model: np.full(n, np.nan) for model in by_attack[name]} for name in as_in_paper}
    plain = [fingerprint for fingerprint, view in files if view is PLAIN]
    likelihoods = {fingerprint: nothing_scored(n) for fingerprint in plain}
    starts = [subject.reference.fingerprint for subject in plan.subjects if subject.reference]
    of_starts = {
        start: {name: np.full(n, np.nan) for name in plan.alone} for start in starts if (start, PLAIN) in files
    }
    asked = [subject for subject in plan.subjects if not subject.checkpoint.is_recorded]
    for k, shard in enumerate(shards):
        signals = {key: _read(files, key, k) for key in files}
        texts = [plan.passages.scored_text(index) for index in shard]
        for fingerprint in plain:
            fill(likelihoods[fingerprint], shard, signals[fingerprint, PLAIN])
        for start, found in of_starts.items():
            for position, index in enumerate(shard):
                alone = Sample(texts[position], {PLAIN: signals[start, PLAIN][position]})
                for name, attack in plan.alone.items():
                    found[name][index] = attack.score(alone)
        for subject in asked:
            same = plan.is_same_tokenizer(subject)
            running = [one for one in plan.attacks if not one.obstacles[subject.name]]
            fingerprint, reference = subject.checkpoint.fingerprint, subject.reference
            own = {view: found for (model, view), found in signals.items() if model == fingerprint}
            of_reference = signals[reference.fingerprint, PLAIN] if reference else None
            for position, index in enumerate(shard):
                sample = _sample(texts[position], own, of_reference, position, is_same_tokenizer=same)
                for one in running:
                    by_attack[one.attack.name][subject.name][index] = one.attack.score(sample)
                for name, attack in as_in_paper.items():
                    if subject.name in paper[name]:
                        paper[name][subject.name][index] = attack.score(sample)
    return Scores(by_attack, paper, with_paper, likelihoods, of_starts, plan.alone)


def _read(files: SignalFiles, key: tuple[str, View], k: int) -> list[TokenSignals]:
    found = store.read(files[key][k])
    if found is None:
        raise ModelError(
            f"{files[key][k]} has vanished or was damaged during the run", hint="run the same command again"
        )
    return found


def _sample(
    text: str,
    own: Mapping[View, Sequence[TokenSignals]],
    of_reference: Sequence[TokenSignals] | None,
    position: int,
    *,
    is_same_tokenizer: bool,
) -> Sample:
    """A record as a model sees it; `own` and `of_reference` are the signals of its shard, where it is at `position`."""
    shown = {
        view: tuple(found[position * view.n_variants : (position + 1) * view.n_variants]) for view, found in own.items()
    }
    return Sample(
        text=text,
        target={view: found[0] for view, found in shown.items() if view.n_variants == 1},
        reference=of_reference[position] if of_reference is not None else None,
        variants={view: found for view, found in shown.items() if view.n_variants > 1},
        is_same_tokenizer=is_same_tokenizer,
    )
