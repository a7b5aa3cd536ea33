"""The audit, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import kdaudit
from kdaudit import results as results_file
from kdaudit.attacks import expand
from kdaudit.audit.assess import Judging, adjust_for_many, assess_attack
from kdaudit.audit.data import AuditData, read_data
from kdaudit.audit.folder import (
    Manifest,
    identify,
    open_folder,
    refuse_another_run,
    write_manifest,
    write_scores,
)
from kdaudit.audit.lineage import check_lineage, trace
from kdaudit.audit.measure import Progress, measure_passes
from kdaudit.audit.plan import Plan, Subject, find_subjects, make_plan
from kdaudit.audit.scoring import score_records
from kdaudit.audit.supervision import describe_supervision
from kdaudit.config import AuditConfig, student_names
from kdaudit.draws import generator
from kdaudit.metrics.parts import Parts, split_parts
from kdaudit.metrics.power import smallest_detectable_auc
from kdaudit.metrics.validity import BlindBaseline, Overlap, blind_baseline, overlap
from kdaudit.results import AttackResult, AuditResult, Validity
from kdaudit.verdict import check_gates, judge, parse_gate
from kdaudit.views.view import View

BLIND_LIMIT = 0.55
"""A blind classifier whose lower bound lies above this makes the audit invalid."""


def run_audit(
    config: AuditConfig,
    *,
    command: str = "",
    on_plan: Callable[[Plan, AuditData], None] = lambda *_: None,
    on_progress: Progress = lambda *_: None,
) -> AuditResult:
    """Audit a teacher and its students, and leave everything in the run folder.

    Args:
        config: what to audit.
        command: as the user typed it, for the manifest.
        on_plan: told what will run, before any weights are loaded.
        on_progress: told about long work.

    Raises:
        KdauditError: see `kdaudit.errors`; what was measured until then is kept in the run folder.
    """
    chosen = expand(config.attacks)
    gates = [parse_gate(text) for text in config.gates]
    names = ("teacher", *student_names(len(config.students)))
    check_gates(gates, models=names, attacks=[attack.name for attack, _ in chosen])
    config, lineage = trace(config)
    data = read_data(config, lineage, needs_shots=any(View.PREFIXED in attack.views for attack, _ in chosen))
    subjects = find_subjects(config, lineage.loads)
    for subject in subjects:
        check_lineage(lineage, subject.name, subject.checkpoint, subject.reference)
    plan = make_plan(config, subjects, data)
    folder = open_folder(config)
    models = {subject.name: _describe_model(subject, plan) | lineage.describe(subject.name) for subject in subjects}
    identity = identify(config, data, models)
    refuse_another_run(folder, identity, overwrite=config.overwrite)
    on_plan(plan, data)

    about = Manifest(
        command=command,
        identity=identity,
        models=models,
        data=_describe_data(data, plan, config),
        compute={"device": plan.device, "dtype": plan.dtype, "batch_tokens": plan.batch_tokens},
    )
    write_manifest(folder, about, status="running")
    shards = plan.passages.shards()
    files = measure_passes(plan, shards, folder.signals, on_progress=on_progress)
    scores = score_records(plan, shards, files, with_paper=config.paper_compat)
    parts = split_parts(
        len(data.members), len(data.nonmembers), share=config.calibration_share, rng=generator(config.seed, "parts")
    )
    write_scores(folder, data, scores.by_attack, is_calibration=_calibration_mask(parts, len(data.members)))

    on_progress("judging", 0, len(plan.attacks) + 2)
    texts = [record.text for record in data.records]
    n_members = len(data.members)
    blind = blind_baseline(texts[:n_members], texts[n_members:], rng=generator(config.seed, "blind baseline"))
    shared = overlap(texts[:n_members], texts[n_members:])
    judging = Judging(n_members, parts, blind, config.seed)
    found = {}
    for done, one in enumerate(plan.attacks, start=2):
        on_progress("judging", done, len(plan.attacks) + 2)
        found[one.attack.name] = assess_attack(one, scores, judging)
    attacks = adjust_for_many(found)
    validity = describe_validity(blind, shared, data, plan)
    result = AuditResult(
        kdaudit_version=kdaudit.__version__,
        models=models,
        data=about.data,
        attacks=attacks,
        validity=validity,
        power=_power(attacks),
        mixed_supervision=describe_supervision(plan, scores, attacks, n_members=n_members, seed=config.seed),
        verdict=judge(attacks, validity, gates),
        config=config.identity(),
    )
    on_progress("judging", len(plan.attacks) + 2, len(plan.attacks) + 2)
    results_file.save(result, folder.results)
    write_manifest(folder, about, status="complete")
    return result


def _describe_model(subject: Subject, plan: Plan) -> dict[str, Any]:
    reference = subject.reference.describe() if subject.reference else None
    return {**subject.checkpoint.describe(), "dtype": plan.dtype, "device": plan.device, "reference": reference}


def _describe_data(data: AuditData, plan: Plan, config: AuditConfig) -> dict[str, Any]:
    return {
        "members": len(data.members),
        "nonmembers": len(data.nonmembers),
        "shots": len(data.shots),
        "sha256": data.sha256,
        "sources": [
            {
                "option": found.option,
                "source": found.source,
                "records": len(found.records),
                "duplicates": found.n_duplicates,
                "sha256": found.sha256,
            }
            for found in data.sets
        ],
        "shots_used": plan.passages.n_shots,
        "window_tokens": plan.passages.window,
        "cut": plan.passages.n_cut,
        "calibration_share": config.calibration_share,
        "seed": config.seed,
    }


def describe_validity(blind: BlindBaseline, shared: Overlap, data: AuditData, plan: Plan) -> Validity:
    """Whether members and non-members can be told apart without any model, and what a reader must know."""
    warnings = list(plan.warnings)
    is_failed = blind.auc.low is not None and blind.auc.low > BLIND_LIMIT
    if is_failed:
        warnings.append(
            f"members and non-members differ without any model (blind AUC {blind.auc.value:.3f}, "
            f"from {blind.auc.low:.3f}): no attack's figure says anything about membership"
        )
    if blind.auc.value is None:
        warnings.append(f"the blind baseline could not be measured: {blind.auc.reason}")
    if shared.n_above_20_percent:
        warnings.append(
            f"{shared.n_above_20_percent} non-members share more than 20 % of their {shared.n}-grams with members: "
            "they may be members in part"
        )
    duplicates = {found.option.lstrip("-"): found.n_duplicates for found in data.sets}
    if any(duplicates.values()):
        listed = ", ".join(f"{count} in --{name}" for name, count in duplicates.items() if count)
        warnings.append(f"duplicate texts were kept once: {listed} left out")
    return Validity(
        status="failed" if is_failed else "ok",
        blind_auc=blind.auc,
        blind_name=blind.name,
        blind=blind.by_name,
        duplicates=duplicates,
        overlap=_describe_overlap(shared),
        warnings=tuple(warnings),
    )


def _describe_overlap(shared: Overlap) -> dict[str, Any]:
    return {
        "n": shared.n,
        "mean_share": shared.mean_share,
        "max_share": shared.max_share,
        "n_above_20_percent": shared.n_above_20_percent,
        "share_above_20_percent": shared.share_above,
        "n_with_any": shared.n_with_any,
        "n_too_short": shared.n_too_short,
    }


def _power(attacks: Mapping[str, AttackResult]) -> dict[str, Any]:
    """What the attack with the most scored records could have told apart; null where no AUC is large enough."""
    sizes = [(cell.auc.n, cell.auc.m) for attack in attacks.values() for cell in attack.cells.values() if cell.auc]
    n, m = max(sizes, key=min, default=(0, 0))
    smallest = smallest_detectable_auc(n, m) if min(n, m) else 1.0
    return {"smallest_detectable_auc": smallest if smallest < 1 else None, "level": 0.95, "power": 0.8, "n": n, "m": m}


def _calibration_mask(parts: Parts, n_members: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    n = n_members + parts.calibration_nonmembers.size + parts.evaluation_nonmembers.size
    mask = np.zeros(n, dtype=bool)
    mask[parts.calibration_members] = True
    mask[n_members + parts.calibration_nonmembers] = True
    return mask
