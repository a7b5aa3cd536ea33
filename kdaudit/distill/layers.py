"""Some layers of a teacher as a model of their own: taken over exactly, or refused.

Source: Sanh et al. 2019, arXiv:1910.01108.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdaudit.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NUMBERS_OF_LAYERS = ("mlp_only_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices", "global_attn_layers")
"""Settings that list layers by their number."""
LEADING_LAYERS = ("first_k_dense_replace", "num_dense_layers", "max_window_layers", "n_dense_layers")
"""Settings that say for how many of the first layers something holds."""
PLACES = ("_idx", "_id", "_index", "_number")
"""What a layer calls its own place, by which it finds its part of a cache: of no weight for what it computes."""
PROBE_TOKENS = 24
AGREEMENT = {torch.float32: 1e-4}  # of the largest state; in half precision 2e-2
WAY_OUT = "make the start yourself and give it by --student"


@dataclass(frozen=True, slots=True)
class Applied:
    """What some layers make of a text when they are applied one after the other, and how each of them is set."""

    states: tuple[torch.Tensor, ...]
    """(1, T, H) before the first layer and after each."""
    settings: tuple[Mapping[str, object], ...]
    """By layer: every plain value in it, but for its number."""


def find_stack(model: PreTrainedModel, n_layers: int) -> tuple[str, torch.nn.ModuleList]:
    """Where the layers of a model lie.

    Raises:
        ConfigError: there is not one list of so many layers.
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == n_layers
    }
    stacks = {
        name: module
        for name, module in lists.items()
        if not any(name.startswith(f"{other}.") for other in lists if other != name)  # experts of a layer
    }
    if len(stacks) != 1:
        raise ConfigError(
            f"--student-layers: {len(stacks)} stacks of {n_layers} layers in {type(model).__name__}", hint=WAY_OUT
        )
    return next(iter(stacks.items()))


def apply_layers(model: PreTrainedModel, stack: torch.nn.ModuleList, layers: Sequence[int]) -> Applied:
    """Apply some layers of `model` one after the other, each as it is called within the whole model.

    Raises:
        ConfigError: a layer cannot be applied by itself.
    """
    ids = torch.arange(1, 1 + _n_probe(model), device=model.device).unsqueeze(0)
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def note(number: int) -> Callable[..., None]:
        return lambda module, args, kwargs: calls.setdefault(number, (args, dict(kwargs))) and None

    hooks = [layer.register_forward_pre_hook(note(i), with_kwargs=True) for i, layer in enumerate(stack)]
    try:
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    states = [_given_states(*calls[0])]
    try:
        with torch.no_grad():
            for number in layers:
                args, kwargs = calls[number]
                if args:
                    args = (states[-1], *args[1:])
                else:
                    kwargs = {**kwargs, "hidden_states": states[-1]}
                found = stack[number](*args, **kwargs)
                states.append(found if isinstance(found, torch.Tensor) else found[0])
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"--student-layers: layers of {type(model).__name__} cannot be applied without the others: {error}",
            hint=WAY_OUT,
        ) from error
    return Applied(tuple(states), tuple(_settings(stack[number]) for number in layers))


def cut(model: PreTrainedModel, name: str, layers: Sequence[int]) -> None:
    """Keep some layers of a model, and what its configuration says of each of them.

    Args:
        model: changed in place.
        name: path of its layers.
        layers: their numbers, rising.
    """
    parent, _, attribute = name.rpartition(".")
    stack: Any = model.get_submodule(name)
    n_layers = len(stack)
    setattr(model.get_submodule(parent), attribute, torch.nn.ModuleList(stack[layer] for layer in layers))
    config: Any = model.config.get_text_config()
    changed = _changed_settings(config, n_layers, layers)
    config.num_hidden_layers = len(layers)
    for setting, value in changed.items():
        setattr(config, setting, value)


def check_taken(start: PreTrainedModel, expected: Applied) -> None:
    """Refuse a start whose layers do something else than the teacher's do, one after the other.

    Args:
        start: as it was saved and loaded again.
        expected: of the teacher.

    Raises:
        ConfigError: naming the first layer that differs, and the setting where one does.
    """
    n_layers = len(expected.settings)
    _, stack = find_stack(start, n_layers)
    found = apply_layers(start, stack, range(n_layers))
    reason = f"--student-layers: a layer of {type(start).__name__} depends on its place among all layers"
    for number, (own, wanted) in enumerate(zip(found.settings, expected.settings, strict=True)):
        differing = [name for name, value in wanted.items() if own.get(name) != value]
        if differing:
            raise ConfigError(
                f"{reason}: {differing[0]} is {wanted[differing[0]]} in the teacher and would be "
                f"{own.get(differing[0])} in layer {number} of the student",
                hint=WAY_OUT,
            )
    share = AGREEMENT.get(expected.states[0].dtype, 2e-2)
    for number, (one, other) in enumerate(zip(found.states, expected.states, strict=True)):
        scale = max(1e-6, float(other.float().abs().max()))
        if one.shape != other.shape or float((one.float() - other.float()).abs().max()) > share * scale:
            where = f"layer {number - 1} of the student" if number else "what goes into the first layer"
            raise ConfigError(f"{reason}: {where} gives other states than the teacher's", hint=WAY_OUT)


def _changed_settings(config: Any, n_layers: int, layers: Sequence[int]) -> dict[str, Any]:
    """What a configuration says of single layers, said of those that are kept."""
    changed: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in NUMBERS_OF_LAYERS and isinstance(value, list | tuple):
            changed[name] = [new for new, layer in enumerate(layers) if layer in value]
        elif name in LEADING_LAYERS and isinstance(value, int):
            changed[name] = sum(layer < value for layer in layers)
        elif isinstance(value, list | tuple) and len(value) == n_layers and not name.endswith("token_id"):
            changed[name] = [value[layer] for layer in layers]
    if "attention_types" in vars(config) and "attention_layers" in changed:  # GPT-Neo makes the one from the other
        changed["attention_types"] = [[[kind], 1] for kind in changed["attention_layers"]]
    step = getattr(config, "decoder_sparse_step", None)
    if isinstance(step, int) and step > 0:
        whole = set(getattr(config, "mlp_only_layers", None) or ())
        is_dense = [layer in whole or (layer + 1) % step != 0 for layer in layers]
        changed["decoder_sparse_step"] = 1
        changed["mlp_only_layers"] = [new for new, dense in enumerate(is_dense) if dense]
    return changed


def _given_states(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    states: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def _settings(layer: torch.nn.Module) -> dict[str, object]:
    """Every plain value of a layer and of the modules in it, by its path."""
    return {
        f"{path}.{name}".removeprefix("."): value
        for path, module in layer.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str | None)
        and not name.endswith(PLACES)
        and not name.startswith("_")
        and name not in {"training", "call_super_init"}
    }


def _n_probe(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    return max(2, min(PROBE_TOKENS, int(config.vocab_size) - 1, int(getattr(config, "max_position_embeddings", 64))))
