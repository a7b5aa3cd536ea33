"""Distillation, stage by stage: records, models, training, utility, manifest."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

from kdaudit import manifest, records
from kdaudit.artefacts import write_text
from kdaudit.distill.describe import describe, model_card
from kdaudit.distill.folder import begin, claim, earlier_student
from kdaudit.distill.learn import Told, learn
from kdaudit.distill.models import Compute, choose_compute, find_models
from kdaudit.distill.prepare import Prepared, identify, main_first, read_sets, settle
from kdaudit.distill.settings import DistillConfig
from kdaudit.distill.sharding import loaded_cut
from kdaudit.distill.utility import measure_utility
from kdaudit.lock import locked
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.context import scoring_batch_tokens
from kdaudit.models.loading import loaded
from kdaudit.records import Read
from kdaudit.results import Utility
from kdaudit.results.file import encode

QUIET = Told()
UTILITY = "utility"
"""The stage after the training."""


def run_distill(
    config: DistillConfig,
    *,
    command: str = "",
    told: Told = QUIET,
    left_out: Collection[str] = (),
    read_source: Read = records.read,
) -> Mapping[str, Any]:
    """Distil a student and leave it, with its manifest, in its folder; an unfinished run is continued.

    Args:
        config: what to distil from what.
        command: as the user typed it, for the manifest.
        told: what to tell.
        left_out: keyed ids of members of which the student is to learn nothing; see `manifest.record_id`.
        read_source: gives the records of a source that `config` names.

    Returns:
        The manifest's content; of a student that is finished already, the earlier one.

    Raises:
        KdauditError: see `kdaudit.errors`; what was trained until then is kept.
    """
    compute = choose_compute(config)
    with locked(config.out) if compute.is_main else nullcontext():  # the other processes of the run are its own
        return _distill(config, compute, command, told, left_out, read_source)


def _distill(
    config: DistillConfig,
    compute: Compute,
    command: str,
    told: Told,
    left_out: Collection[str],
    read_source: Read,
) -> Mapping[str, Any]:
    with main_first(compute):
        folder = claim(config)
        train_set, nonmembers = read_sets(config, read_source)
        prepared_models = find_models(config, folder.start, train_set)
        identity = identify(config, prepared_models, train_set, nonmembers, left_out)
        earlier = earlier_student(folder, identity)
        if earlier is not None:
            shutil.rmtree(folder.work, ignore_errors=True)  # of a run that was killed after its last file
            return earlier.content
        prepared = settle(config, prepared_models, compute, folder, train_set, nonmembers, left_out)
        if compute.is_main:
            begin(folder, identity)
    told.on_plan(prepared)
    losses = learn(prepared, told)
    gc.collect()  # teacher and student, before the utility loads them again
    if not (compute.is_main or compute.is_sharded):
        return {}
    if compute.is_sharded:  # models that are cut can only be asked by all processes together
        compute.wait()  # until the student is written
    student = _find_student(config)
    utility = _utility(prepared, student, told)
    if not compute.is_main:
        return {}
    content = describe(prepared, student, identity, losses, command)
    content["utility"] = encode(utility, "utility")
    write_text(config.out / "README.md", model_card(content, utility))
    manifest.save(content, prepared.key, folder.manifest)
    shutil.rmtree(folder.work, ignore_errors=True)
    return content


def _find_student(config: DistillConfig) -> Checkpoint:
    options: dict[str, Any] = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
    return find(str(config.out), option="--out", load=config.student_load, kind=config.kind, **options)


def _utility(prepared: Prepared, student: Checkpoint, told: Told) -> Utility:
    config, compute, models = prepared.config, prepared.compute, prepared.models
    load = loaded_cut if compute.is_sharded else loaded
    return measure_utility(
        {"teacher": models.teacher, "start": models.start, "student": student},
        prepared.held_out,
        opened=partial(load, device=compute.device, dtype=compute.dtype),
        batch_tokens=scoring_batch_tokens(compute.device),
        seed=config.seed,
        on_progress=lambda done, total: told.on_progress(UTILITY, done, total, ""),
    )
