"""From signals on disk to one score per record, attack and model, a shard at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from kdaudit.attacks.base import Attack, Sample
from kdaudit.audit.measure import SignalFiles
from kdaudit.audit.plan import Plan
from kdaudit.errors import ModelError
from kdaudit.signals import store
from kdaudit.signals.likelihoods import Floats, Likelihoods, fill, nothing_scored
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN, View

ATTACK, PAPER, START, LIKELIHOOD = "attack", "paper", "start", "likelihood"
Cell = tuple[str, str, str]
"""What a column of figures is: ATTACK or PAPER with a model and an attack, START with the fingerprint of a start and an
attack, LIKELIHOOD with the fingerprint of a model and a field of `Likelihoods`."""
Signals = Mapping[tuple[str, View], Sequence[TokenSignals]]
"""By checkpoint fingerprint and view: the signals of one shard."""


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
    found = nothing_found(plan, with_paper=with_paper)
    for k, shard in enumerate(shards):
        put(found, shard, score_shard(plan, shard, read_signals(files, k), with_paper=with_paper))
    return as_scores(plan, found, with_paper=with_paper)


def nothing_found(plan: Plan, *, with_paper: bool) -> dict[Cell, Floats]:
    """A column of NaN for every figure that the passes of a plan give."""
    n = len(plan.passages.scripts)
    return {cell: np.full(n, np.nan) for cell in cells_of(plan, with_paper=with_paper)}


def cells_of(plan: Plan, *, with_paper: bool) -> list[Cell]:
    """What the passes of a plan give of every record."""
    asked = {one.name for one in plan.subjects if not one.checkpoint.is_recorded}
    ran = [(name, one.attack.name) for one in plan.attacks for name in one.runs_on if name in asked]
    plain = [one.checkpoint.fingerprint for one in plan.passes if one.view is PLAIN]
    starts = [start for start in dict.fromkeys(_starts(plan)) if start in plain]
    return [
        *((ATTACK, model, attack) for model, attack in ran),
        *((PAPER, model, attack) for model, attack in ran if with_paper and attack in plan.as_in_paper),
        *((START, start, attack) for start in starts for attack in plan.alone),
        *((LIKELIHOOD, model, each.name) for model in plain for each in fields(Likelihoods)),
    ]


def put(found: Mapping[Cell, Floats], shard: Sequence[int], scored: Mapping[Cell, Floats]) -> None:
    """Write what was found of the records of a shard into the columns of all records."""
    for cell, values in scored.items():
        found[cell][shard] = values


def as_scores(plan: Plan, found: Mapping[Cell, Floats], *, with_paper: bool) -> Scores:
    """The columns by what they are; those of a model that is known from an earlier run are NaN."""

    def columns(kind: str) -> dict[str, dict[str, Floats]]:
        made: dict[str, dict[str, Floats]] = {}
        for (which, model, name), values in found.items():
            if which == kind:
                made.setdefault(model, {})[name] = values
        return made

    n = len(plan.passages.scripts)
    attacked, as_in_paper = columns(ATTACK), columns(PAPER)
    runs_on = {one.attack.name: one.runs_on for one in plan.attacks}

    def by_attack(of_model: Mapping[str, Mapping[str, Floats]], name: str) -> dict[str, Floats]:
        return {model: of_model.get(model, {}).get(name, np.full(n, np.nan)) for model in runs_on[name]}

    return Scores(
        {name: by_attack(attacked, name) for name in runs_on},
        {name: by_attack(as_in_paper, name) for name in plan.as_in_paper} if with_paper else {},
        with_paper,
        {model: Likelihoods(**figures) for model, figures in columns(LIKELIHOOD).items()},
        columns(START),
        plan.alone,
    )


def score_shard(plan: Plan, shard: Sequence[int], signals: Signals, *, with_paper: bool) -> dict[Cell, Floats]:
    """What the passes give of the records of one shard, each column (len(shard),)."""
    found = {cell: np.full(len(shard), np.nan) for cell in cells_of(plan, with_paper=with_paper)}
    texts = [plan.passages.scored_text(index) for index in shard]
    for fingerprint in dict.fromkeys(model for kind, model, _ in found if kind == LIKELIHOOD):
        likelihoods = nothing_scored(len(shard))
        fill(likelihoods, range(len(shard)), signals[fingerprint, PLAIN])
        found |= {(LIKELIHOOD, fingerprint, each.name): getattr(likelihoods, each.name) for each in fields(Likelihoods)}
    for start in dict.fromkeys(model for kind, model, _ in found if kind == START):
        for position, text in enumerate(texts):
            alone = Sample(text, {PLAIN: signals[start, PLAIN][position]})
            for name, attack in plan.alone.items():
                found[START, start, name][position] = attack.score(alone)
    for subject in plan.subjects:
        if subject.checkpoint.is_recorded:
            continue
        same = plan.is_same_tokenizer(subject)
        running = [
            (found[ATTACK, subject.name, one.attack.name], one.attack)
            for one in plan.attacks
            if not one.obstacles[subject.name]
        ]
        running += [
            (found[PAPER, subject.name, name], attack)
            for name, attack in plan.as_in_paper.items()
            if (PAPER, subject.name, name) in found
        ]
        fingerprint, reference = subject.checkpoint.fingerprint, subject.reference
        own = {view: shown for (model, view), shown in signals.items() if model == fingerprint}
        of_reference = signals[reference.fingerprint, PLAIN] if reference else None
        for position, text in enumerate(texts):
            sample = _sample(text, own, of_reference, position, is_same_tokenizer=same)
            for column, attack in running:
                column[position] = attack.score(sample)
    return found


def read_signals(files: SignalFiles, k: int) -> dict[tuple[str, View], list[TokenSignals]]:
    """The signals of one shard in every pass.

    Raises:
        ModelError: a file that was there has gone.
    """
    return {key: _read(files, key, k) for key in files}


def _starts(plan: Plan) -> list[str]:
    return [subject.reference.fingerprint for subject in plan.subjects if subject.reference]


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
