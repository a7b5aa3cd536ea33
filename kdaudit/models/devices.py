"""Models that lie on several devices: which part lies where and what that takes, and how processes hold one together.

The only place that knows accelerate's placement of layers and the tensor parallelism of transformers.

Source: transformers 5.23, `integrations/accelerate.py` and `distributed`, and accelerate 1.15, `utils/modeling.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kdaudit.config import LAYERS, TENSORS, AuditConfig, memory_by_device
from kdaudit.errors import ConfigError
from kdaudit.ranks import launched

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

T = TypeVar("T")
Device = int | str
"""The number of a GPU, or cpu; disk is what no device has room for."""

CPU, DISK = "cpu", "disk"
SPARE = 0.9
"""A share of the memory of this machine that is free: what a model on its CPU may take of it."""
NF4_BLOCK, NESTED_BLOCK = 64, 256
"""Weights that share a scale in bitsandbytes' NF4, and scales that share one where they are quantised themselves."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How each model of a run lies on several devices."""

    way: str
    """auto: layers over GPUs, then the CPU; tp: every layer over the GPUs of all processes."""
    limits: Mapping[Device, int]
    """Bytes by device, for a model and its largest batch; none under tp."""
    n_processes: int = 1
    """That hold one model together."""


@dataclass(frozen=True, slots=True)
class Share:
    """What of a model lies on one device."""

    device: Device
    n_layers: int
    others: tuple[str, ...]
    """Names of the parts beside the layers: embeddings, the last norm, the head."""
    weights: int
    """Bytes."""
    states: int
    """Bytes of the largest batch, where the device computes."""
    limit: int | None
    """Bytes that the model and its batches may take there; None of the disk, which nothing may lie on."""

    @property
    def peak(self) -> int:
        """Bytes."""
        return self.weights + self.states


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the parts of a model lie."""

    device_map: Mapping[str, Device]
    """By name of a part, as accelerate takes it."""
    shares: tuple[Share, ...]
    packed_share: float = 1.0
    """The share of the weights that is quantised, where a quantisation was asked for."""

    @property
    def is_split(self) -> bool:
        """Whether the parts lie on several devices."""
        return len(self.shares) > 1

    @property
    def spilled(self) -> int:
        """Bytes of the weights that lie on no GPU though there are some: every batch waits for their transport."""
        has_gpu = any(isinstance(share.limit, int) and share.device != CPU for share in self.shares)
        return sum(share.weights for share in self.shares if has_gpu and not isinstance(share.device, int))


def settle_spread(config: AuditConfig, *, only_plan: bool = False) -> Spread | None:
    """How the models of an audit lie on devices; None where each lies on one.

    Args:
        config: of the audit.
        only_plan: nothing is loaded, so that --max-memory may name devices that are not here.

    Raises:
        ConfigError: --max-memory names devices that are not here, or nothing started several processes.
    """
    if config.device_map is None:
        return None
    if config.device_map == TENSORS:
        n_processes = launched().n
        if n_processes < 2 or "MASTER_ADDR" not in os.environ:
            raise ConfigError(
                "--device-map tp: each process holds a part of a model, and no launcher started several of them",
                hint="torchrun --nproc-per-node 2 -m -- kdaudit attack ..., with as many processes as GPUs",
            )
        return Spread(TENSORS, {}, n_processes)
    given = memory_by_device(config.max_memory) if config.max_memory is not None else None
    return Spread(LAYERS, _limits(given, only_plan=only_plan))


def _limits(given: Mapping[Device, int] | None, *, only_plan: bool) -> dict[Device, int]:
    import torch
    from transformers.integrations.accelerate import get_max_memory

    if torch.backends.mps.is_available():
        raise ConfigError("--device-map auto: it is for GPUs of CUDA; one of Apple shares the memory of the machine")
    if given is None:
        return {device: int(size) for device, size in get_max_memory().items()}
    here = torch.cuda.device_count()
    absent = [device for device in given if isinstance(device, int) and device >= here]
    if absent and not only_plan:
        there = f"{here} GPUs are here" if here != 1 else "one GPU is here"
        raise ConfigError(
            f"--max-memory: it names {len(given) - (CPU in given)} GPUs, and {there}",
            hint="give one size for each, or --plan-only, which plans for devices that are elsewhere",
        )
    limits = {
        device: size if only_plan or device == CPU else min(size, torch.cuda.mem_get_info(device)[0])
        for device, size in given.items()
    }
    return {CPU: int(SPARE * _free_bytes()), **limits}


def _free_bytes() -> int:
    """Memory of the CPU that is free, as accelerate finds it; 0 where GPUs share it."""
    from accelerate.utils import get_max_memory

    return int(get_max_memory().get(CPU, 0))


def computes_on(spread: Spread | None, device: str) -> str:
    """The kind of device that does the work: that of --max-memory, where a plan is for devices that are elsewhere."""
    has_gpu = spread is not None and any(isinstance(one, int) for one in spread.limits)
    return "cuda" if has_gpu else device


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of each weight as it is stored in memory; accelerate asks its quantisers in these words."""

    quantiser: Any
    """As transformers makes it; None where weights are whole."""

    def param_element_size(self, model: Any, name: str, weight: torch.Tensor) -> float:
        """Bytes of one number of a weight, scales included."""
        if self.quantiser is None:
            return weight.element_size()
        settings = self.quantiser.quantization_config
        is_packed = self.quantiser.quantized_element_size is not None and self.quantiser.param_needs_quantization(
            model, name
        )
        if is_packed and getattr(settings, "load_in_4bit", False):
            is_nested = settings.bnb_4bit_use_double_quant
            return 0.5 + ((1 + 4 / NESTED_BLOCK) if is_nested else 4) / NF4_BLOCK
        if is_packed and getattr(settings, "load_in_8bit", False):
            return 1 + 4 / weight.shape[-1]  # a scale for each row
        return float(self.quantiser.param_element_size(model, name, weight))

    def packed(self, model: Any) -> Iterator[torch.Tensor]:
        """The weights that are packed."""
        for name, weight in model.named_parameters() if self.quantiser is not None else ():
            if self.param_element_size(model, name, weight) < 2:
                yield weight


def place(model: PreTrainedModel, sizes: Sizes, limits: Mapping[Device, int], states: int) -> Placement:
    """Where accelerate puts the parts of a model, so that each device has room for the largest batch too.

    Layers are not split, and a model that one device holds is not either. Accelerate keeps room on its first device for
    the largest layer that lies elsewhere: that is taken back where all of them have room on devices that compute.

    Args:
        model: on the meta device, in the precision that it computes in; packed weights are replaced.
        sizes: of its weights.
        limits: bytes by device.
        states: bytes of the largest batch on each device that computes.
    """
    from accelerate.utils.modeling import get_max_layer_size
    from transformers.integrations.accelerate import compute_module_sizes, get_balanced_memory, infer_auto_device_map

    whole: Any = model
    kept = list(getattr(model, "_no_split_modules", None) or ())
    gpus = [device for device in limits if isinstance(device, int)]
    main: Device = next(iter(gpus), CPU)
    computing: set[Device] = {main, *gpus}
    packed = [weight.numel() for weight in sizes.packed(model)]
    states += max((2 * n for n in packed), default=0)  # one of them at a time is unpacked
    room = {device: max(0, limit - (states if device in computing else 0)) for device, limit in limits.items()}
    told: dict[str, Any] = {"no_split_module_classes": kept, "hf_quantizer": sizes}
    module_sizes, _ = compute_module_sizes(whole, sizes, only_modules=False)  # type: ignore[arg-type]
    largest, _ = get_max_layer_size(list(whole.named_children()), module_sizes, kept)
    without_reserve = {one: int(room[one] + (largest if one == main else 0)) for one in room if one in computing}
    device_map: dict[str, Device] = {"": main}
    weights = _weights(model, sizes, device_map)
    with _quiet_accelerate():
        for attempt in (without_reserve, room):
            if all(weights[device] <= room.get(device, 0) for device in weights):
                break
            allowed: dict[Device, Device] = {device: int(size) for device, size in attempt.items()}
            balanced = get_balanced_memory(whole, max_memory=allowed, **told)
            device_map = dict(infer_auto_device_map(whole, max_memory=balanced, **told))
            weights = _weights(model, sizes, device_map)
    n_layers, others = _parts(model, kept, device_map)
    return Placement(
        device_map,
        tuple(
            Share(
                device,
                n_layers=n_layers[device],
                others=tuple(dict.fromkeys(others[device])),
                weights=round(size),
                states=states if device in computing else 0,
                limit=limits.get(device),
            )
            for device, size in weights.items()
        ),
        sum(packed) / sum(weight.numel() for weight in model.parameters()) if sizes.quantiser is not None else 1.0,
    )


def _weights(model: PreTrainedModel, sizes: Sizes, device_map: Mapping[str, Device]) -> dict[Device, float]:
    """Bytes of the weights on each device; tied ones count once."""
    from transformers.integrations.accelerate import expand_device_map

    tied = getattr(model, "all_tied_weights_keys", {})
    named = {name: weight for name, weight in (*model.named_parameters(), *model.named_buffers()) if name not in tied}
    lies = expand_device_map(dict(device_map), list(named))
    found: dict[Device, float] = dict.fromkeys(device_map.values(), 0.0)
    for name, weight in named.items():
        found[lies[name]] += weight.numel() * sizes.param_element_size(model, name, weight)
    return found


def _parts(
    model: PreTrainedModel, kinds: Collection[str], device_map: Mapping[str, Device]
) -> tuple[Counter[Device], dict[Device, list[str]]]:
    """By device how many layers lie there, and the names of the parts that hold the weights beside the layers."""
    from transformers.integrations.accelerate import expand_device_map

    layers = {name for name, part in model.named_modules() if type(part).__name__ in kinds}
    owners = [name.rpartition(".")[0] for name, _ in model.named_parameters()]
    apart = [name for name in owners if not any(name == layer or name.startswith(f"{layer}.") for layer in layers)]
    lies = expand_device_map(dict(device_map), [*layers, *apart])
    others: dict[Device, list[str]] = {device: [] for device in device_map.values()}
    for name in apart:
        others[lies[name]].append(name.rpartition(".")[2])
    return Counter(lies[name] for name in layers), others


@contextmanager
def _quiet_accelerate() -> Iterator[None]:
    """Accelerate warns of devices that are not here, which a plan may be for."""
    import logging

    loggers = [logging.getLogger(f"accelerate.{name}") for name in ("utils.modeling", "big_modeling")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def input_device(model: Any) -> torch.device:
    """Where a model takes its tokens: of one whose parts lie on several devices, where the first one computes."""
    import torch

    hook = getattr(model, "_hf_hook", None)
    found = getattr(hook, "execution_device", None)
    if found is None:
        device: torch.device = model.device
        return device
    return torch.device("cuda", found) if isinstance(found, int) else torch.device(found)


def check_divisible(model: PreTrainedModel, name: str, n_processes: int) -> None:
    """Refuse an architecture that transformers has no plan for, or whose heads cannot be divided.

    Args:
        model: on the meta device.
        name: of the checkpoint.
        n_processes: that are to hold it together.

    Raises:
        ConfigError: naming the architecture.
    """
    plan: Mapping[str, str] = getattr(model, "tp_plan", None) or {}
    what = f"--device-map tp: {name} is a {type(model).__name__}"
    if not plan:
        raise ConfigError(
            f"{what}, which transformers has no plan of tensor parallelism for", hint="give --device-map auto"
        )
    config = model.config.get_text_config()
    for setting, words in (("num_attention_heads", "attention heads"), ("num_key_value_heads", "key and value heads")):
        n_heads = getattr(config, setting, None)
        if isinstance(n_heads, int) and n_heads % n_processes:
            raise ConfigError(
                f"{what} with {n_heads} {words}, which {n_processes} processes cannot share evenly",
                hint="start a number of processes that divides it, or give --device-map auto",
            )


def told_of(placement: Placement | None, spread: Spread | None) -> dict[str, Any]:
    """What `from_pretrained` is told of where a model is to lie; nothing where it lies on one device as ever."""
    if spread is not None and spread.way == TENSORS:
        return _told_of_tensors(spread.n_processes)
    return {} if placement is None else {"device_map": dict(placement.device_map)}


def _told_of_tensors(n_processes: int) -> dict[str, Any]:
    try:
        from transformers.distributed.configuration_utils import DistributedConfig

        return {"distributed_config": DistributedConfig(tp_size=n_processes, tp_plan="auto")}
    except (ImportError, TypeError):  # before 5.17
        return {"tp_plan": "auto"}


def attends(config: AuditConfig) -> bool:
    """Whether this process holds its part of every model and does nothing else: the first one plans, writes, judges."""
    return config.device_map == TENSORS and launched().number != 0


def writes(spread: Spread | None) -> bool:
    """Whether this process writes what it measures: of those that hold one model together the first."""
    return spread is None or spread.way != TENSORS or launched().number == 0


def is_held_together(model: Any) -> bool:
    """Whether other processes hold parts of a model: all must run the same batches, so none may try a smaller one."""
    return (getattr(model, "tp_size", None) or 1) > 1


def room_for_whole(weights: float) -> str | None:
    """The device that has room for a whole model of this many bytes and a short batch; None where none has."""
    import torch

    if torch.cuda.is_available() and weights < SPARE * torch.cuda.mem_get_info()[0]:
        return "cuda"
    return CPU if weights < SPARE * _free_bytes() else None


@contextmanager
def held_together(spread: Spread | None) -> Iterator[None]:
    """Within it the processes of a model that they hold together can talk to each other."""
    if spread is None or spread.way != TENSORS:
        yield
        return
    from datetime import timedelta

    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(launched().local)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    is_ours = not distributed.is_initialized()
    if is_ours:
        distributed.init_process_group(backend, timeout=timedelta(hours=2))  # the first may compare for a long time
    try:
        yield
    finally:
        if is_ours:
            distributed.destroy_process_group()


def as_first(spread: Spread | None, value: T) -> T:
    """What the first of the processes that hold one model together says: all of them must do the same."""
    if spread is None or spread.way != TENSORS:
        return value
    import torch
    from torch import distributed

    said: list[Any] = [value]
    distributed.broadcast_object_list(said, src=0, device=torch.device("cpu"))
    found: T = said[0]
    return found
