"""The stub of a model card that a student is born with: how it was made, what is known of it, what is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(content: Mapping[str, Any]) -> str:
    """README.md of a student's folder, from its manifest. Names no record and no training file."""
    from huggingface_hub import ModelCardData

    training, utility, data = content["training"], content["utility"], content["data"]
    hub_names = [content[part]["name"] for part in ("teacher", "start") if content[part]["revision"]]
    about = ModelCardData(
        library_name="peft" if training["lora"] else "transformers",
        pipeline_tag="text-generation",
        tags=["knowledge-distillation", "kdaudit"],
        base_model=hub_names or None,
    )
    rows = "\n".join(
        f"| {name} | {_interval(utility['nll'][name])} | {_interval(utility['bits_per_byte'][name])} "
        f"| {_interval(utility['perplexity'][name])} |"
        for name in ("teacher", "start", "student")
    )
    missing = "".join(
        f"\nNo {words} of the {name}: {utility[part][name]['reason']}.\n"
        for part, words in (("nll", "loss"), ("perplexity", "perplexity"))
        for name in ("teacher", "start", "student")
        if utility[part][name].get("reason") and (part == "nll" or not utility["nll"][name].get("reason"))
    )
    n_trained = len(data["members"]) - len(data.get("left_out", ()))
    top1, divergence = (_interval(utility["agreement"][name]) for name in ("top1", "forward_kl"))
    return f"""---
{about.to_yaml()}
---

# {_name(content["student"])}

Distilled by `kdaudit distill` from {_name(content["teacher"])}, starting from {_start_words(content["start"])}.

- Objective: {training["objective"]}, weight {training["hard_weight"]:g} on the ground truth, temperature
  {training["temperature"]:g}; {training["epochs"]} epochs, {training["steps"]} steps, seed {training["seed"]}.
- Trained on {n_trained:,} records; {len(data["held_out"]):,} were held out and never seen by the student.

On the held-out records, with 95 % intervals over records:

| model | nats per token | bits per byte | perplexity |
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


def _interval(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "–"
    if found["low"] is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _name(part: Mapping[str, Any]) -> str:
    """The last part of a name: where a checkpoint lies on somebody's disk is nobody's business."""
    return str(part["name"]).rstrip("/").rpartition("/")[2] if not part["revision"] else str(part["name"])


def _start_words(start: Mapping[str, Any]) -> str:
    return {"layers": "some of its layers", "config": "random weights"}.get(start["origin"], _name(start))
