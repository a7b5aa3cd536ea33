"""Models cut over several processes (FSDP2): each keeps a share of every weight, and gathers a layer to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.loading import loaded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def layer_classes(model: PreTrainedModel) -> list[str]:
    """The classes of the layers that are gathered one at a time; none where the model does not say what they are.

    Of what transformers keeps on one device these are the parts that stand in lists: embeddings may share their weights
    with the head.
    """
    whole = set(getattr(model, "_no_split_modules", None) or ())
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return sorted({type(layer).__name__ for stack in stacks for layer in stack} & whole)


def cut_layers(model: PreTrainedModel, device: str) -> None:
    """Leave this process its share of the layers of a frozen model, and embeddings and head whole.

    The model answers as before, provided that all processes ask it equally often.

    Args:
        model: not quantised: such weights cannot be cut; in the memory of the host: no device has to hold it whole.
        device: of this process.
    """
    cut = set(layer_classes(model))
    for layer in [module for module in model.modules() if type(module).__name__ in cut]:
        fully_shard(layer)
    model.to(device)  # type: ignore[arg-type]  # the stubs know devices alone


@contextmanager
def loaded_cut(checkpoint: Checkpoint, *, device: str, dtype: str) -> Iterator[PreTrainedModel]:
    """`loading.loaded` with layers that are cut, where they are not quantised.

    Args:
        checkpoint: loaded by all processes together.
        device: of this process.
        dtype: of unquantised weights.

    Raises:
        ModelError: as `loading.loaded`.
    """
    is_cut = checkpoint.load is None
    with loaded(checkpoint, device="cpu" if is_cut else device, dtype=dtype) as model:
        if is_cut:
            cut_layers(model, device)
        yield model


class Asked(torch.nn.Module):
    """A model whose layers are cut, as one module that is called: while one layer computes, the next is gathered.

    No layer may have been called since it was cut. The model itself cannot be that module: transformers looks up by its
    class what it can tell of its layers.
    """

    def __init__(self, model: PreTrainedModel, speak: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self._speak = speak
        fully_shard(self, ignored_params={one for one in model.parameters() if not isinstance(one, DTensor)})

    def forward(self, inputs: Any) -> Any:
        """What `speak` says."""
        return self._speak(inputs)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which processes may hold shares, put together on the CPU; all processes must ask for it."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().cpu()


def gather_weights(module: torch.nn.Module, *, is_kept: bool, trained_only: bool = False) -> dict[str, torch.Tensor]:
    """The weights and buffers of a module that are saved, each once, tied ones too; all processes must ask for them.

    Args:
        module: cut or not.
        is_kept: whether this process needs them; else it gets none.
        trained_only: leave out what gets no gradient.
    """
    found = {}
    for name, weight in module.named_parameters():
        if (trained_only and not weight.requires_grad) or not (is_kept or isinstance(weight, DTensor)):
            continue
        full = whole(weight)
        if is_kept:
            found[name] = full.contiguous()
    if is_kept and not trained_only:  # nothing cuts buffers
        saved = module.state_dict().keys()
        found |= {name: whole(buffer).contiguous() for name, buffer in module.named_buffers() if name in saved}
    return found


def set_weights(module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a module the weights that `gather_weights` gave; all processes must do so.

    Raises:
        KeyError: the module has no such weight.
    """
    there = dict(module.named_parameters())
    with torch.no_grad():
        for name, full in weights.items():
            there[name].copy_(share_of(full, there[name]))


def share_of(full: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What a process holds of a tensor that is cut as `like` is; all processes must ask for it.

    Raises:
        ValueError: it is of another shape.
    """
    if full.shape != like.shape:
        raise ValueError(f"a weight of {tuple(full.shape)} cannot take the place of one of {tuple(like.shape)}")
    moved = full.to(like.device)
    return distribute_tensor(moved, like.device_mesh, like.placements) if isinstance(like, DTensor) else moved


def gather_optimizer(optimizer: torch.optim.Optimizer, *, is_kept: bool) -> dict[str, Any]:
    """The state of an optimiser, as one process would have it; all processes must ask for it."""
    state = optimizer.state_dict()
    gathered: dict[int, dict[str, Any]] = {}
    for number, values in state["state"].items():
        full = {name: whole(value) if torch.is_tensor(value) else value for name, value in values.items()}
        if is_kept:
            gathered[number] = full
    return {"state": gathered, "param_groups": state["param_groups"]} if is_kept else {}


def set_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Give an optimiser the state that `gather_optimizer` gave; all processes must do so."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    cut = {
        number: {
            name: share_of(value, weights[number]) if torch.is_tensor(value) and value.dim() else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": cut})
