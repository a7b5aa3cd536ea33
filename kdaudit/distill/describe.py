"""What is said of a finished student: its manifest, without the utility, and the stub of its model card."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import kdaudit
from kdaudit import manifest
from kdaudit.distill.losses import settle_beta
from kdaudit.distill.prepare import Prepared
from kdaudit.distill.start import is_reference, origin
from kdaudit.metrics.estimate import Estimate
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.environment import recorded_environment
from kdaudit.results import Utility

TASKS = {"causal": "text-generation", "masked": "fill-mask", "seq2seq": "text2text-generation"}
"""By the kind of model, what the Hub calls its task."""
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
            "train": manifest.describe_set(prepared.train),
            "nonmembers": manifest.describe_set(prepared.nonmembers) if prepared.nonmembers else None,
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
            "is_sharded": prepared.compute.is_sharded,
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


def model_card(content: Mapping[str, Any], utility: Utility) -> str:
    """README.md of a student's folder, from its manifest and what it is worth. Names no record and no training file."""
    from huggingface_hub import ModelCardData

    training, data = content["training"], content["data"]
    hub_names = [content[part]["name"] for part in ("teacher", "start") if content[part]["revision"]]
    about = ModelCardData(
        library_name="peft" if training["lora"] else "transformers",
        pipeline_tag=TASKS[str(content["student"].get("kind", "causal"))],
        tags=["knowledge-distillation", "kdaudit"],
        base_model=hub_names or None,
    )
    rows = "\n".join(
        f"| {name} | {_interval(utility.nll[name])} | {_interval(utility.bits_per_byte[name])} "
        f"| {_interval(utility.perplexity[name])} |"
        for name in ("teacher", "start", "student")
    )
    missing = "".join(
        f"\nNo {words} of the {name}: {figures[name].reason}.\n"
        for figures, words in ((utility.nll, "loss"), (utility.perplexity, utility.perplexity_name))
        for name in ("teacher", "start", "student")
        if figures[name].reason and (figures is utility.nll or not utility.nll[name].reason)
    )
    n_trained = len(data["members"]) - len(data.get("left_out", ()))
    agreement = utility.agreement
    top1 = _interval(agreement.top1 if agreement else None)
    divergence = _interval(agreement.forward_kl if agreement else None)
    return f"""---
{about.to_yaml()}
---

# {_name(content["student"])}

Distilled by `kdaudit distill` from {_name(content["teacher"])}, starting from {_start_words(content["start"])}.

- Objective: {training["objective"]}, weight {training["hard_weight"]:g} on the ground truth, temperature
  {training["temperature"]:g}; {training["epochs"]} epochs, {training["steps"]} steps, seed {training["seed"]}.
- Trained on {n_trained:,} records; {len(data["held_out"]):,} were held out and never seen by the student.

On the held-out records, with 95 % intervals over records:

| model | nats per token | bits per byte | {utility.perplexity_name} |
|---|---|---|---|
{rows}
{missing}
The student's top token is its teacher's for {top1} of the tokens; KL(teacher ‖ student) is {divergence} nats per token.

## Privacy

Not audited yet. `kdaudit attack --teacher TEACHER --student THIS` measures whether its training records can be told
from the held-out ones; whoever runs it needs the training file and its key. `kdaudit.json` in this folder holds keyed
hashes of the records: without the key, which lies beside the training file and must never be published, nobody can look
a text up in it.
"""


def _interval(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _name(part: Mapping[str, Any]) -> str:
    """The last part of a name: where a checkpoint lies on somebody's disk is nobody's business."""
    return str(part["name"]).rstrip("/").rpartition("/")[2] if not part["revision"] else str(part["name"])


def _start_words(start: Mapping[str, Any]) -> str:
    return {"layers": "some of its layers", "config": "random weights"}.get(start["origin"], _name(start))
