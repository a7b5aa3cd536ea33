"""Some layers of a teacher as a model of their own: taken over exactly, or refused.

Source: Sanh et al. 2019, arXiv:1910.01108. What is exact is tried: the start must give the hidden states that the
teacher's layers give when they are applied one after the other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdaudit.errors import ConfigError
from kdaudit.foreign import reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NUMBERS_OF_LAYERS = ("mlp_only_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices", "global_attn_layers")
"""Settings that list layers by their number."""
LEADING_LAYERS = ("first_k_dense_replace", "num_dense_layers", "max_window_layers", "n_dense_layers")
"""Settings that say for how many of the first layers something holds."""
NUMBER_OF_LAYERS = ("decoder_layers", "num_decoder_layers")
"""What it is called beside num_hidden_layers, where that is the encoder's."""
PLACES = ("_idx", "_id", "_index", "_number")
"""What a layer calls its own place, by which it finds its part of a cache: of no weight for what it computes."""
HOW_MANY = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
"""What a layer calls the number of all layers; it may keep it for nothing."""
PROBE_TOKENS = 24
AGREEMENT = {torch.float32: 1e-3}
"""How far a token's states may lie apart, as a share of their size; in half precision 0.05."""
WAY_OUT = "make the start yourself and give it by --student"


@dataclass(frozen=True, slots=True)
class Applied:
    """What layers make of a text one after the other, and how each of them is set."""

    states: tuple[torch.Tensor, ...]
    """(1, T, H) before the first layer and after each."""
    logits: torch.Tensor
    """(1, T, V): what the rest of the model makes of the last of them."""
    settings: tuple[Mapping[str, object], ...]
    """Every plain value of each layer, except its number."""


@dataclass(frozen=True, slots=True)
class Call:
    """How a layer is called within its model."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def states(self) -> torch.Tensor:
        """(1, T, H), what goes into the layer."""
        found: torch.Tensor = self.args[0] if self.args else self.kwargs["hidden_states"]
        return found

    def on(self, layer: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
        """What `layer` makes of other states, everything else being as it was."""
        if self.args:
            return _states(layer(states, *self.args[1:], **self.kwargs))
        return _states(layer(**{**self.kwargs, "hidden_states": states}))


def find_stack(model: PreTrainedModel, n_layers: int) -> tuple[str, torch.nn.ModuleList]:
    """Where the layers of a model lie.

    Raises:
        ConfigError: there is not exactly one list of that many layers.
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
    """Apply some layers of `model` one after the other, each called as it is within the whole model.

    Raises:
        ConfigError: a layer cannot be applied by itself.
    """
    ids = _probe(model)
    what = f"--student-layers: the layers of {type(model).__name__} cannot be applied one after the other"
    with reading(what, ConfigError, hint=WAY_OUT), torch.no_grad():
        with _noted(stack) as calls:
            model(input_ids=ids, use_cache=False)
        _check_called_once(calls)
        states = [calls[0][0].states]
        for number in layers:
            states.append(calls[number][0].on(stack[number], states[-1].clone()))
        with _ending_in(stack[-1], states[-1]):
            logits = model(input_ids=ids, use_cache=False).logits
    return Applied(tuple(states), logits, tuple(_settings(stack[number]) for number in layers))


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


def check_described(model: PreTrainedModel, name: str) -> None:
    """Refuse a cut model whose configuration describes layers of other weights than it has.

    Args:
        model: as `cut` leaves it.
        name: path of its layers.

    Raises:
        ConfigError: naming the first weight that would be another one.
    """
    from transformers.initialization import no_init_weights

    what = f"--student-layers: these layers of {type(model).__name__} need a configuration that does not exist"
    with reading(what, ConfigError, hint=WAY_OUT), torch.device("meta"), no_init_weights():
        built = type(model)(copy.deepcopy(model.config))
    own, described = (
        {weight: value.shape for weight, value in one.get_submodule(name).named_parameters()} for one in (model, built)
    )
    differing = [weight for weight in {**own, **described} if own.get(weight) != described.get(weight)]
    if differing:
        raise ConfigError(
            f"--student-layers: the configuration of {type(model).__name__} says by a layer's number what it is made "
            f"of, and cannot say it of these layers: in the student {name}.{differing[0]} would be another weight",
            hint=f"choose other layers, or {WAY_OUT}",
        )


def check_taken(start: PreTrainedModel, expected: Applied) -> None:
    """Refuse a start that makes something else of a text than the teacher's layers do one after the other.

    Args:
        start: as it was saved and loaded again; it is run as a whole.
        expected: of the teacher.

    Raises:
        ConfigError: naming the first layer that differs, and the setting where one does.
    """
    _, stack = find_stack(start, len(expected.settings))
    found = _read_through(start, stack)
    place = f"--student-layers: a layer of {type(start).__name__} depends on its place among all layers"
    if not _agree(found.states[0], expected.states[0]):
        raise ConfigError(f"{place}: other states go into the first one than in the teacher", hint=WAY_OUT)
    for number, (own, wanted) in enumerate(zip(found.settings, expected.settings, strict=True)):
        is_same = _agree(found.states[number + 1], expected.states[number + 1])
        # also where the probe sees no difference: a window may be longer than the probe
        differing = [name for name, value in wanted.items() if own.get(name) != value]
        differing = [name for name in differing if not (is_same and name.endswith(HOW_MANY))]
        if differing:
            raise ConfigError(
                f"{place}: {differing[0]} is {wanted[differing[0]]} in the teacher and would be "
                f"{own.get(differing[0])} in layer {number} of the student",
                hint=WAY_OUT,
            )
        if not is_same:
            raise ConfigError(
                f"{place}: layer {number} of the student gives other states than the teacher's", hint=WAY_OUT
            )
    if not _agree(found.logits, expected.logits):
        raise ConfigError(
            f"--student-layers: what {type(start).__name__} does after its last layer depends on the layers that "
            "would be left out",
            hint=WAY_OUT,
        )


def _read_through(model: PreTrainedModel, stack: torch.nn.ModuleList) -> Applied:
    """What a whole model makes of the probe."""
    last: list[torch.Tensor] = []
    hook = stack[-1].register_forward_hook(lambda _, __, output: last.append(_states(output).clone()))
    try:
        with torch.no_grad(), _noted(stack) as calls:
            logits = model(input_ids=_probe(model), use_cache=False).logits
    finally:
        hook.remove()
    states = [calls[number][0].states for number in range(len(stack))]
    return Applied((*states, last[-1]), logits, tuple(_settings(layer) for layer in stack))


@contextmanager
def _noted(stack: torch.nn.ModuleList) -> Iterator[dict[int, list[Call]]]:
    """Collects how every layer is called while the block lasts, by its number."""
    calls: dict[int, list[Call]] = {number: [] for number in range(len(stack))}

    def note(number: int) -> Callable[..., None]:
        def hook(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[number].append(Call(tuple(map(_kept, args)), {name: _kept(value) for name, value in kwargs.items()}))

        return hook

    hooks = [layer.register_forward_pre_hook(note(i), with_kwargs=True) for i, layer in enumerate(stack)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _ending_in(layer: torch.nn.Module, states: torch.Tensor) -> Iterator[None]:
    """Has `layer` give `states` whatever goes into it."""

    def replaced(_: torch.nn.Module, __: object, output: Any) -> Any:
        return states if isinstance(output, torch.Tensor) else (states, *output[1:])

    hook = layer.register_forward_hook(replaced)
    try:
        yield
    finally:
        hook.remove()


def _check_called_once(calls: Mapping[int, Sequence[Call]]) -> None:
    for number, found in calls.items():
        if len(found) != 1:
            raise ValueError(f"layer {number} is applied {len(found)} times to a text")


def _kept(value: Any) -> Any:
    """A value as it is now: a layer may change what it is given in place."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def _states(output: Any) -> torch.Tensor:
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return found


def _agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether every token has the same states, by medians: a few numbers of a state may be a thousand times larger."""
    if one.shape != other.shape:
        return False
    gap = (one.float() - other.float()).abs().median(-1).values
    size = other.float().abs().median(-1).values
    return bool((gap <= AGREEMENT.get(other.dtype, 0.05) * size + 1e-12).all())


def _changed_settings(config: Any, n_layers: int, layers: Sequence[int]) -> dict[str, Any]:
    """What a configuration says of single layers, said of those that are kept."""
    changed: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in NUMBERS_OF_LAYERS and isinstance(value, list | tuple):
            changed[name] = [new for new, layer in enumerate(layers) if layer in value]
        elif name in LEADING_LAYERS and isinstance(value, int):
            changed[name] = sum(layer < value for layer in layers)
        elif name in NUMBER_OF_LAYERS and value == n_layers:
            changed[name] = len(layers)
        elif isinstance(value, list | tuple) and len(value) == n_layers and not name.endswith("token_id"):
            changed[name] = [value[layer] for layer in layers]
    if "attention_types" in vars(config) and "attention_layers" in changed:  # GPT-Neo makes the one from the other
        changed["attention_types"] = [[[kind], 1] for kind in changed["attention_layers"]]
    if getattr(config, "moe_layer_interval", None) == 1:  # experts from one layer to another one
        first, last = config.moe_layer_start_index, config.moe_layer_end_index % n_layers
        changed["moe_layer_start_index"] = sum(layer < first for layer in layers)
        changed["moe_layer_end_index"] = sum(layer <= last for layer in layers) - 1
    step = getattr(config, "decoder_sparse_step", None)
    if isinstance(step, int) and step > 0:
        whole = set(getattr(config, "mlp_only_layers", None) or ())
        is_dense = [layer in whole or (layer + 1) % step != 0 for layer in layers]
        changed["decoder_sparse_step"] = 1
        changed["mlp_only_layers"] = [new for new, dense in enumerate(is_dense) if dense]
    return changed


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


def _probe(model: PreTrainedModel) -> torch.Tensor:
    """(1, T), tokens that every model knows."""
    config: Any = model.config.get_text_config()
    context = int(getattr(config, "max_position_embeddings", None) or 2 * PROBE_TOKENS)
    n_tokens = max(2, min(PROBE_TOKENS, int(config.vocab_size) - 1, context // 2))
    return torch.arange(1, 1 + n_tokens, device=model.device).unsqueeze(0)
