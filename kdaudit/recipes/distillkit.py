"""DistillKit of Arcee.

Source: arcee-ai/DistillKit, `distillkit/configuration.py`, `trainer.py`, `lossfuncs`: the loss is a mean of its terms,
weighted as `loss_functions` says; kl is T² * forward KL, jsd T² * the Jensen-Shannon divergence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdaudit.recipes import arguments
from kdaudit.recipes.recipe import Recipe, TrainerConfig, about_unknown, not_all, share, told

NAME = "DistillKit"
DIVERGENCES: Mapping[str, Mapping[str, Any]] = {
    "kl": {"objective": "forward-kl"},
    "jsd": {"objective": "jsd", "beta": 0.5},
}
DEFAULT = [
    {"function": "cross_entropy", "weight": 0.5},
    {"function": "kl", "weight": 0.5, "temperature": 1.0},
]
KNOWN = (
    "project_name", "model", "dataset", "teacher", "sequence_length", "output_path", "use_flash_attention",
    "resize_embeddings_to_multiple_of", "loss_functions", "functionary_packing", "model_kwargs", "model_auto_class",
    "trust_remote_code", "layer_mapping", "force_hidden_state_projection",
    *(f"training_args.{name}" for name in (*arguments.READ, *arguments.OF_NO_CONSEQUENCE)),
    "training_args.packing", "training_args.max_length", "training_args.max_seq_length", "training_args.dataset_*",
    "training_args.use_liger_kernel",
)  # fmt: skip
OTHER_TERMS = "loss_functions: kdaudit has no term like {terms}, so the manifest names neither objective nor weight"
SPARSE = "teacher: the student saw the {k} likeliest words of the teacher for each token, not all of them"


def read(config: TrainerConfig) -> Recipe:
    """The recipe in a configuration of DistillKit.

    Raises:
        ConfigError: a value is not what it is to be.
    """
    loss, notes = _loss(config)
    names = {"hf": "teacher.path", "vllm": "teacher.model"}
    kind = config.text("teacher.kind") or "hf"
    teacher = config.text(names[kind]) or config.text("teacher.model_path") if kind in names else None
    top_k = config.count("teacher.top_k")
    limits = [
        *not_all(config, "dataset.num_samples"), *arguments.notes(config, section="training_args."),
    ]  # fmt: skip
    unknown = config.unknown(KNOWN, sections=("training_args",))
    return Recipe(
        NAME,
        teacher=teacher,
        start=config.text("model"),
        training={
            **arguments.training(config, section="training_args."),
            **told(**loss, max_tokens=config.count("sequence_length")),
        },
        notes=(*notes, *([SPARSE.format(k=top_k)] if top_k else []), *limits, *about_unknown(config, unknown)),
    )


def _loss(config: TrainerConfig) -> tuple[dict[str, Any], list[str]]:
    terms = config.value("loss_functions")
    if terms is None:
        terms = DEFAULT
    if not isinstance(terms, list) or not all(isinstance(one, Mapping) for one in terms):
        raise config.problem("loss_functions", "a list of losses")
    weights: dict[str, float] = {}
    temperatures: dict[str, float | None] = {}
    for place, one in enumerate(terms):
        term = TrainerConfig(config.path, {f"loss_functions[{place}]": one})
        where = f"loss_functions[{place}]"
        name, weight = term.text(f"{where}.function"), term.number(f"{where}.weight")
        if name is None or weight is None or weight < 0:
            raise config.problem(where, "a function with a weight of at least 0")
        if weight:
            weights[name] = weights.get(name, 0) + weight
            temperatures[name] = term.number(f"{where}.temperature", temperatures.get(name))
    hard = weights.pop("cross_entropy", 0.0)
    others = sorted(set(weights) - set(DIVERGENCES))
    if others or len(weights) > 1:
        return {}, [OTHER_TERMS.format(terms=", ".join(others or sorted(weights)))]
    if not weights:
        if not hard:
            raise config.problem("loss_functions", "a list in which some loss has a weight")
        note = "loss_functions: cross-entropy alone has a weight, so the student learnt nothing of its teacher"
        return {"objective": "hard", "hard_weight": 1.0}, [note]
    ((name, soft),) = weights.items()
    return {**DIVERGENCES[name], "hard_weight": share(hard, soft), "temperature": temperatures[name]}, []
