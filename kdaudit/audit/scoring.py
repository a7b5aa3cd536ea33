"""From signals on disk to one score per record, attack and model, a shard at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kdaudit.attacks import ATTACKS
from kdaudit.attacks.base import Attack, Sample
from kdaudit.audit.measure import SignalFiles
from kdaudit.audit.plan import Plan, Subject
from kdaudit.errors import ModelError
from kdaudit.signals import store
from kdaudit.signals.likelihoods import Floats, Likelihoods, fill, nothing_scored
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN, View

ALONE: Mapping[str, Attack] = {
    name: attack for name, attack in ATTACKS.items() if attack.views == (PLAIN,) and not attack.needs_reference
}
"""The attacks that need no more of a model than its plain pass: those that a start (a reference) is attacked by too."""

PAPER_SETTINGS = {"min-k": {"fraction": 0.9}, "min-k++": {"fraction": 0.1}}
"""What arXiv:2505.11837 uses, for --paper-compat only, whatever --set says of the audit's own figures."""


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
    """Fingerprint of a start (a reference) -> attack of ALONE -> (n,): what the attack finds in a model that saw
    neither set, whatever attacks the audit runs."""


def score_records(plan: Plan, shards: Sequence[Sequence[int]], files: SignalFiles, *, with_paper: bool) -> Scores:
    """Score every record with every attack on every model that it runs on.

    A start is attacked with the settings that the attack has in the audit.
    """
    n = len(plan.passages.texts)
    by_attack = {one.attack.name: {name: np.full(n, np.nan) for name in one.runs_on} for one in plan.attacks}
    own = {one.attack.name: one.attack for one in plan.attacks}
    as_in_paper = {name: ATTACKS[name].tuned(PAPER_SETTINGS.get(name, {})) for name in own} if with_paper else {}
    as_in_paper = {name: attack for name, attack in as_in_paper.items() if attack.settings != own[name].settings}
    paper = {name: {model: np.full(n, np.nan) for model in by_attack[name]} for name in as_in_paper}
    alone_by = {name: own.get(name, attack) for name, attack in ALONE.items()}
    plain = [fingerprint for fingerprint, view in files if view is PLAIN]
    likelihoods = {fingerprint: nothing_scored(n) for fingerprint in plain}
    starts = dict.fromkeys(subject.reference.fingerprint for subject in plan.subjects if subject.reference)
    of_starts = {start: {name: np.full(n, np.nan) for name in ALONE} for start in starts}
    for k, shard in enumerate(shards):
        signals = {key: _read(files, key, k) for key in files}
        for fingerprint in plain:
            fill(likelihoods[fingerprint], shard, signals[fingerprint, PLAIN])
        for start, found in of_starts.items():
            for position, index in enumerate(shard):
                alone = Sample(plan.passages.scored_text(index), {PLAIN: signals[start, PLAIN][position]})
                for name, attack in alone_by.items():
                    found[name][index] = attack.score(alone)
        for subject in plan.subjects:
            same = plan.is_same_tokenizer(subject)
            running = [one for one in plan.attacks if not one.obstacles[subject.name]]
            for position, index in enumerate(shard):
                sample = _sample(plan, subject, signals, position, index, is_same_tokenizer=same)
                for one in running:
                    by_attack[one.attack.name][subject.name][index] = one.attack.score(sample)
                for name, attack in as_in_paper.items():
                    if subject.name in paper[name]:
                        paper[name][subject.name][index] = attack.score(sample)
    return Scores(by_attack, paper, with_paper, likelihoods, of_starts)


def _read(files: SignalFiles, key: tuple[str, View], k: int) -> list[TokenSignals]:
    found = store.read(files[key][k])
    if found is None:
        raise ModelError(
            f"{files[key][k]} has vanished or was damaged during the run", hint="run the same command again"
        )
    return found


def _sample(
    plan: Plan,
    subject: Subject,
    signals: Mapping[tuple[str, View], Sequence[TokenSignals]],
    position: int,
    index: int,
    *,
    is_same_tokenizer: bool,
) -> Sample:
    own = subject.checkpoint.fingerprint
    reference = subject.reference
    shown = {
        view: tuple(found[position * view.n_variants : (position + 1) * view.n_variants])
        for (model, view), found in signals.items()
        if model == own
    }
    return Sample(
        text=plan.passages.scored_text(index),
        target={view: found[0] for view, found in shown.items() if view.n_variants == 1},
        reference=signals[reference.fingerprint, PLAIN][position] if reference else None,
        variants={view: found for view, found in shown.items() if view.n_variants > 1},
        is_same_tokenizer=is_same_tokenizer,
    )
