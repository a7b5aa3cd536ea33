"""What a student's manifest says, without its utility."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import kdaudit
from kdaudit import manifest
from kdaudit.distill.losses import settle_beta
from kdaudit.distill.prepare import Prepared
from kdaudit.distill.start import is_reference, origin
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.environment import recorded_environment

if TYPE_CHECKING:
    from kdaudit.records import RecordSet


LIBRARIES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes", "datasets", "numpy")


def describe(
    prepared: Prepared, student: Checkpoint, identity: Mapping[str, Any], losses: list[float], command: str
) -> dict[str, Any]:
    """The manifest without the utility; it holds no text, and no id that could be looked up without the key."""
    config, models = prepared.config, prepared.models
    folder, assignment = prepared.folder, prepared.assignment
    start_origin = origin(config)
    start_name = models.start.name if start_origin == "checkpoint" else folder.start.name
    return {
        "kdaudit_version": kdaudit.__version__,
        "command": command,
        "identity": dict(identity),
        "data": {
            "train": _describe_set(prepared.train),
            "nonmembers": _describe_set(prepared.nonmembers) if prepared.nonmembers else None,
            "text_field": config.text_field,
            "id_field": config.id_field,
            "rule": config.holdout_rule or "nonmembers",
            "teacher_saw": config.teacher_saw,
            "key_file": str(manifest.key_path(config.train, config.key_file)),
            "members": [manifest.record_id(prepared.key, record.text) for record in assignment.members],
            "held_out": [manifest.record_id(prepared.key, record.text) for record in assignment.held_out],
            "left_out": [manifest.record_id(prepared.key, record.text) for record in assignment.left_out],
        },
        "teacher": models.teacher.describe(),
        "start": {
            **models.start.describe(),
            "name": start_name,
            "origin": start_origin,
            "layers": config.student_layers,
            "is_reference": is_reference(config),
        },
        "student": {
            **student.describe(),
            "name": config.out.resolve().name,
            "files_sha256": student.files_sha256,
        },
        "training": {
            **config.identity(),
            "hard_weight": config.weight,
            "beta": settle_beta(config.objective, config.beta),
            "steps": len(prepared.plan.steps),
            "tokens": prepared.plan.n_tokens,
            "window_tokens": models.window,
            "cut": prepared.examples.n_cut,
            "vocabulary": models.vocabulary,
            "processes": prepared.compute.n_processes,
            "device": prepared.compute.device,
            "dtype": prepared.compute.dtype,
            "mixed_precision": prepared.compute.mixed_precision,
            "environment": recorded_environment(),
            "losses": losses,
            "optimizer": "AdamW, gradients clipped at 1",
            "notes": list(prepared.notes),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def _describe_set(found: RecordSet) -> dict[str, Any]:
    return {
        "source": found.source,
        "sha256": found.sha256,
        "records": len(found.records),
        "duplicates": found.n_duplicates,
    }
