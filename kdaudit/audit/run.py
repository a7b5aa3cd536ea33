"""The audit, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np

import kdaudit
from kdaudit import records
from kdaudit import results as results_file
from kdaudit.audit.assess import adjust_for_many, assess_attacks
from kdaudit.audit.data import AuditData
from kdaudit.audit.earlier import describe_earlier, with_earlier, write_likelihoods
from kdaudit.audit.folder import (
    COMPLETE,
    RunFolder,
    RunManifest,
    identify,
    open_folder,
    refuse_another_run,
    write_manifest,
    write_scores,
)
from kdaudit.audit.heartbeat import Share, beating, disband, gather
from kdaudit.audit.lineage import Lineage
from kdaudit.audit.liveness import check_alive
from kdaudit.audit.measure import Progress
from kdaudit.audit.plan import Plan, Subject
from kdaudit.audit.request import read_request
from kdaudit.audit.stages import Planned, compare_sets, plan_audit, score_plan, split_records
from kdaudit.audit.strength import describe_power, strongest_by_model
from kdaudit.audit.supervision import describe_supervision
from kdaudit.audit.together import hash_of, measure_together, runs_on
from kdaudit.audit.units import measure_alone, work_of
from kdaudit.config import AuditConfig
from kdaudit.dates import today
from kdaudit.errors import ConfigError
from kdaudit.lock import locked
from kdaudit.metrics.scores import Parts
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.devices import attends, held_together
from kdaudit.models.environment import check_environment, n_threads, recorded_environment
from kdaudit.ranks import ALONE, Rank
from kdaudit.records import Read
from kdaudit.results import AuditedModel, AuditedRecords, AuditResult, Source
from kdaudit.verdict import Gate, judge

JUDGING = "judging"
"""The stage after the passes."""


def run_audit(
    config: AuditConfig,
    *,
    command: str = "",
    rank: Rank = ALONE,
    on_plan: Callable[[Plan, AuditData], None] = lambda *_: None,
    on_progress: Progress = lambda *_: None,
    on_result: Callable[[AuditResult], None] = lambda _: None,
    read_source: Read = records.read,
) -> AuditResult:
    """Audit a teacher and its students, or one model alone, and leave everything in the run folder.

    Args:
        config: what to audit.
        command: as the user typed it, for the manifest.
        rank: of this process, the first of those that measure the audit; the others call `measure_share`.
        on_plan: told what will run, before any weights are loaded.
        on_progress: told about long work.
        on_result: told what was found, while the run folder is still held against other commands.
        read_source: gives the records of a source that `config` or a manifest names.

    Raises:
        KdauditError: see `kdaudit.errors`; what was measured until then is kept in the run folder.
    """
    if attends(config):
        raise ConfigError("--device-map tp: it is for the command line, whose first process alone gives results")
    planned, gates = plan_run(config, read_source=read_source)
    with locked(config.out):
        result = _measure(planned, gates, command, rank, on_plan, on_progress)
        on_result(result)
        disband(config.out)
    return result


def measure_share(
    config: AuditConfig,
    rank: Rank,
    *,
    on_plan: Callable[[Plan, AuditData], None] = lambda *_: None,
    on_progress: Progress = lambda *_: None,
    read_source: Read = records.read,
) -> Share:
    """Measure what one of several processes has to measure of an audit, and judge nothing.

    Only signals are written into the run folder, so that no lock is needed: another process may hold it.

    Args:
        config: of the audit, the same for all processes.
        rank: of this process.
        on_plan: told what will run, before any weights are loaded.
        on_progress: told about long work.
        read_source: gives the records of a source that `config` or a manifest names.

    Returns:
        The units that this process measured, out of those that are its to measure.

    Raises:
        KdauditError: see `kdaudit.errors`; what was measured until then is kept in the run folder.
    """
    with nullcontext() if rank.is_shard else beating(config.out, rank) as heart:
        planned, _ = plan_run(config, read_source=read_source)
        plan, data = planned.plan, planned.data
        folder = open_folder(config)
        if not config.overwrite:  # the process that judges replaces what is there
            refuse_another_run(folder, identify(planned.config, data, _describe_models(planned)), overwrite=False)
        on_plan(plan, data)
        work = work_of(plan, folder.signals, with_paper=config.paper_compat)
        if heart is not None:
            heart.say(units=hash_of(work.units), runs_on=runs_on(plan))
        own = [unit for unit in work.units if rank.takes(unit.shard)]
        n_before = sum(unit.is_measured for unit in own)
        work.measure(work.own(rank), on_progress)
    return Share(rank, len(own) - n_before, len(own))


def attend_audit(config: AuditConfig, *, read_source: Read = records.read) -> None:
    """Hold a part of every model of an audit for as long as the first process measures, and write nothing.

    Args:
        config: of the audit, the same as that of the first process.
        read_source: gives the records of a source that `config` or a manifest names.

    Raises:
        KdauditError: see `kdaudit.errors`.
    """
    plan = plan_run(config, read_source=read_source)[0].plan
    with held_together(plan.spread):
        work = work_of(plan, RunFolder(config.out).signals, with_paper=config.paper_compat)
        measure_alone(work, on_progress=lambda *_: None)


def plan_run(
    config: AuditConfig, *, read_source: Read = records.read, only_plan: bool = False
) -> tuple[Planned, tuple[Gate, ...]]:
    """What an audit will do, with everything refused that can be refused before a model is loaded; nothing is written.

    Args:
        config: what to audit.
        read_source: gives the records of a source that `config` or a manifest names.
        only_plan: it is shown and not run: no weights are read, not even for a hash.

    Raises:
        KdauditError: something that was given cannot be used.
    """
    asked = read_request(config)
    check_environment()
    config = replace(config, settings=asked.settings)
    attacks = [attack for attack, _ in asked.attacks]
    return plan_audit(config, attacks, read_source=read_source, only_plan=only_plan), asked.gates


def _measure(
    planned: Planned,
    gates: Sequence[Gate],
    command: str,
    rank: Rank,
    on_plan: Callable[[Plan, AuditData], None],
    on_progress: Progress,
) -> AuditResult:
    """What is planned, measured and judged, and left in the run folder."""
    config, lineage, data, plan = planned.config, planned.lineage, planned.data, planned.plan
    day = today().isoformat()
    folder, models = open_folder(config), _describe_models(planned)
    identity = identify(config, data, models)
    refuse_another_run(folder, identity, overwrite=config.overwrite)
    if rank.is_one_of_several:
        gather(config.out)
    on_plan(plan, data)

    about = RunManifest(
        command=command,
        identity=identity,
        models=models,
        data=_describe_data(data, plan, config),
        compute={
            "device": plan.placed,
            "dtype": plan.dtype,
            "batch_tokens": plan.batch_tokens,
            "processes": max(rank.n, plan.spread.n_processes if plan.spread is not None else 1),
            "threads": n_threads(),
            "chat_date": lineage.chat_date,
            "environment": recorded_environment(),
        },
    )
    write_manifest(folder, about, status="running")
    measure = partial(measure_together, out=config.out, rank=rank) if rank.is_one_of_several else measure_alone
    with held_together(plan.spread):
        measured = score_plan(
            plan, folder.signals, on_progress=on_progress, with_paper=config.paper_compat, measure=measure
        )
    scores = with_earlier(measured, planned.earlier)
    notes = check_alive(plan, scores, len(data.members))
    parts = split_records(data, share=config.calibration_share, seed=config.seed)
    write_scores(
        folder,
        data,
        scores.by_attack,
        is_calibration=_calibration_mask(parts, len(data.members)),
        attacks=[one.attack for one in plan.attacks],
    )
    write_likelihoods(folder.likelihoods, plan, data, scores)

    on_progress(JUDGING, 0, len(plan.attacks) + 2)
    judging, validity = compare_sets(plan, data, scores, parts, seed=config.seed)
    validity = replace(validity, warnings=(*validity.warnings, *notes))
    found = {}
    assessed = zip(plan.attacks, assess_attacks(plan.attacks, scores, judging), strict=True)
    for done, (one, figures) in enumerate(assessed, start=2):
        found[one.attack.name] = figures
        on_progress(JUDGING, done, len(plan.attacks) + 2)
    attacks = adjust_for_many(found)
    verdict = judge(attacks, validity, gates)
    result = AuditResult(
        kdaudit_version=kdaudit.__version__,
        models=models,
        data=about.data,
        attacks=attacks,
        validity=validity,
        power=describe_power(attacks, verdict),
        mixed_supervision=describe_supervision(plan, scores, attacks, n_members=judging.n_members, seed=config.seed),
        verdict=verdict,
        config=config.identity(),
        strongest=strongest_by_model(attacks, scores, judging),
        measured=day,
    )
    on_progress(JUDGING, len(plan.attacks) + 2, len(plan.attacks) + 2)
    results_file.save(result, folder.results)
    write_manifest(folder, about, status=COMPLETE)
    return result


def describe_checkpoint(checkpoint: Checkpoint) -> AuditedModel:
    """What a results file says of a checkpoint."""
    return AuditedModel(
        name=checkpoint.name,
        n_parameters=checkpoint.n_parameters,
        revision=checkpoint.revision,
        fingerprint=checkpoint.fingerprint,
        weights_sha256=checkpoint.weights_sha256,
        architecture=checkpoint.architecture,
        kind=checkpoint.kind,
        stored_dtype=checkpoint.dtype,
        context=checkpoint.context,
        load=checkpoint.load,
        base=describe_checkpoint(checkpoint.base) if checkpoint.base else None,
    )


def _describe_models(planned: Planned) -> dict[str, AuditedModel]:
    return {
        subject.name: describe_earlier(planned.earlier)
        if planned.earlier is not None and subject.checkpoint.is_recorded
        else _describe_model(subject, planned.plan, planned.lineage)
        for subject in planned.plan.subjects
    }


def _describe_model(subject: Subject, plan: Plan, lineage: Lineage) -> AuditedModel:
    return replace(
        describe_checkpoint(subject.checkpoint),
        dtype=plan.dtype,
        device=plan.placed,
        reference=describe_checkpoint(subject.reference) if subject.reference else None,
        distillation=lineage.describe(subject.name),
    )


def describe_sources(data: AuditData) -> tuple[Source, ...]:
    """Where the records came from."""
    return tuple(
        Source(found.option, found.source, len(found.records), found.n_duplicates, found.sha256) for found in data.sets
    )


def _describe_data(data: AuditData, plan: Plan, config: AuditConfig) -> AuditedRecords:
    return AuditedRecords(
        members=len(data.members),
        nonmembers=len(data.nonmembers),
        shots=len(data.shots),
        sha256=data.sha256,
        sources=describe_sources(data),
        shots_used=plan.passages.n_shots,
        window_tokens=plan.passages.window,
        cut=plan.passages.n_cut,
        calibration_share=config.calibration_share,
        seed=config.seed,
        masking=plan.masking.told if plan.masking is not None else "",
        passes={subject.name: plan.n_passes_of(subject.checkpoint) for subject in plan.subjects},
    )


def _calibration_mask(parts: Parts, n_members: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    n = n_members + parts.calibration_nonmembers.size + parts.evaluation_nonmembers.size
    mask = np.zeros(n, dtype=bool)
    mask[parts.calibration_members] = True
    mask[n_members + parts.calibration_nonmembers] = True
    return mask
