"""Whether a model holds what its files hold: every weight of every layer, as the kind of number that was stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from safetensors import safe_open

from kdaudit.errors import ModelError
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.weights import weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NO_WEIGHTS = ("inv_freq", "cos_cached", "sin_cached", "masked_bias", "position_ids")
"""What older releases saved beside the weights of a layer, and what every model computes by itself."""


def check_fit(model: PreTrainedModel, unexpected: Iterable[str], checkpoint: Checkpoint) -> None:
    """Refuse a model that left out weights of its layers, or took whole numbers for weights.

    Args:
        model: as loaded.
        unexpected: names in the files that the model had no place for. Outside of its layers they do no harm: a head
            of another task, a tower for images.
        checkpoint: what was loaded.

    Raises:
        ModelError: the files hold more layers or more weights in a layer than the model, or integers as weights.
    """
    if checkpoint.stored is not None:
        return  # packed weights are integers, with scales beside them
    shapes = {_numberless(name) for name, _ in model.named_parameters()}
    stacks = {found for name, _ in model.named_parameters() if (found := _stack(name))}
    stored = dict(_stored(checkpoint))
    left_out = sorted(name for name in unexpected if _is_weight(name, stored) and _in_stack(name, stacks))
    if left_out:
        is_layer = any(_numberless(name) in shapes or _numberless(_bare(name, model)) in shapes for name in left_out)
        what = "more layers" if is_layer else "more weights in its layers"
        raise ModelError(
            f"{checkpoint.name} holds {what} than its config.json says: {len(left_out)} weights would be left out "
            f"({', '.join(left_out[:3])})",
            hint="correct config.json, or save the checkpoint again",
        )
    known = {name for name, weight in model.named_parameters() if weight.is_floating_point()}
    known |= {_bare(name, model) for name in known}
    whole_numbers = sorted(
        name for name, (dtype, _) in stored.items() if dtype[0] in "IUB" and dtype != "BF16" and name in known
    )
    if whole_numbers:
        raise ModelError(
            f"{checkpoint.name} holds whole numbers where a model has weights: {whole_numbers[0]} is "
            f"{stored[whole_numbers[0]][0]}, and config.json names no quantisation",
            hint="restore the quantization_config in config.json, or save the checkpoint unquantised",
        )


def _stored(checkpoint: Checkpoint) -> Iterator[tuple[str, tuple[str, int]]]:
    """Name, dtype and number of dimensions of every tensor in the safetensors files."""
    for path in weight_files(checkpoint.folder, checkpoint.name, allow_pickle=checkpoint.allow_pickle):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    entry = tensors.get_slice(name)
                    yield name, (entry.get_dtype(), len(entry.get_shape()))


def _is_weight(name: str, stored: dict[str, tuple[str, int]]) -> bool:
    dtype, n_dimensions = stored.get(name, ("F32", 2))
    is_mask = n_dimensions == 4 and name.endswith(".bias")
    return not name.endswith(NO_WEIGHTS) and not is_mask and n_dimensions > 0 and dtype != "BOOL"


def _numberless(name: str) -> str:
    return re.sub(r"\.\d+(?=\.)", ".#", name)


def _stack(name: str) -> str | None:
    """The path of the layers that a weight stands in: everything before its first number."""
    found = re.match(r"(.*?)\.\d+\.", name)
    return found[1] if found else None


def _in_stack(name: str, stacks: set[str]) -> bool:
    own = _stack(name)
    return own is not None and any(stack == own or stack.endswith(f".{own}") for stack in stacks)


def _bare(name: str, model: PreTrainedModel) -> str:
    """A weight's name with the path of the model's body taken away or put before it: files have either."""
    prefix = f"{model.base_model_prefix}."
    return name.removeprefix(prefix) if name.startswith(prefix) else prefix + name
