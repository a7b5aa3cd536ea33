"""No norm: y = weight * h + bias in place of every LayerNorm, y = weight * h in place of every RMSNorm.

All norms of the body are replaced, those of embeddings, encoder and decoder; the norm in the head of a masked model
stays, as it does in MobileBERT.

Start: each is the least-squares fit, feature by feature, to what the norm that it replaces gave on training texts. All
are fitted in one forward pass in which the norms before are replaced already, so that errors do not add up unseen. A
norm that several layers share (ALBERT) is fitted to what it gave in all of them. On a small pre-norm GPT-2 held-out
loss rises from 6.153 to 6.470 nats by it; fitted to the unchanged model's states it would be 6.517, from the mean
standard deviation of each layer 6.656.

Source: Sun et al. 2020 (MobileBERT), arXiv:2004.02984, section 3.1, a post-norm model trained from there; arXiv:
2505.11837 for its use here; the start is kdaudit's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from kdaudit.errors import ConfigError, ModelError
from kdaudit.mitigate.base import Method, Operation, modules_found

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

PRE_NORM = (
    "no-norm: this is a pre-norm model, in which nothing then bounds what the layers add up; the method comes from "
    "post-norm models (MobileBERT), so here a student may learn at another pace than the plain one"
)

Fit: TypeAlias = "tuple[torch.Tensor, torch.Tensor | None]"
"""Weight and, where there is one, bias, both (H,), float64."""


def no_norm(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> Operation:
    """Replace every norm that the body of the model uses by an elementwise scale that starts close to it.

    Args:
        model: changed in place.
        inputs: what its body is called with: training texts as arrays (B, S) by the name of the argument. A few
            thousand tokens are enough; padding is left out where a mask says so, and else there must be none.

    Raises:
        ConfigError: the body has no norm.
        ModelError: a fit is not finite.
    """
    import torch

    from kdaudit.models.altered import alter

    fits, is_pre_norm = _fit(model, {name: table.to(model.device) for name, table in inputs.items()})
    if not fits:
        raise ConfigError(
            f"no-norm: {type(model).__name__} has no LayerNorm and no RMSNorm below its head{_what_else(model)}",
            hint=f"it has {modules_found(model)}",
        )
    broken = [path for path, fit in fits.items() if not all(w is None or bool(w.isfinite().all()) for w in fit)]
    if broken:
        raise ModelError(f"no-norm: {broken[0]} gives values that are not finite on the training texts")
    alter(
        model,
        {
            path: {"kind": "no-norm", "size": weight.numel(), "has_bias": bias is not None}
            for path, (weight, bias) in fits.items()
        },
    )
    with torch.no_grad():
        for path, (weight, bias) in fits.items():
            part = model.get_submodule(path)
            part.get_parameter("weight").copy_(weight)
            if bias is not None:
                part.get_parameter("bias").copy_(bias)
    return Operation(len(fits), (PRE_NORM,) if is_pre_norm else ())


def _what_else(model: PreTrainedModel) -> str:
    """Words on MobileBERT, which was trained without norms, and on a model that was changed before."""
    has_scales = any(type(module).__name__ == "NoNorm" for module in model.modules())
    return ": plain scales (NoNorm) stand there already" if has_scales else ""


def _fit(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> tuple[dict[str, Fit], bool]:
    """The fit of every norm that one forward pass calls, and whether layers begin with their norm."""
    import torch
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    seen: dict[str, _Moments] = {}
    fits: dict[str, Fit] = {}
    called: list[str] = []
    body = model.base_model  # of T5 all of it: that has no module of all but the head
    encoder = set(model.get_encoder().modules()) if getattr(model.config, "is_encoder_decoder", False) else set()

    def replace(path: str, norm: nn.Module) -> Any:
        side = "decoder_" if encoder and norm not in encoder else ""
        mask, has_bias = inputs.get(f"{side}attention_mask"), _has_bias(norm)

        def hook(_: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            called.append(path)
            found = _moments(*(_read(values, mask) for values in (given[0], output)), is_centred=has_bias)
            seen[path] = _joined(seen[path], found) if path in seen else found
            fits[path] = weight, bias = _least_squares(seen[path], has_bias=has_bias)
            return (given[0] * weight + (0.0 if bias is None else bias)).to(output.dtype)

        return hook

    hooks = []
    inside = set(body.modules())
    for path, module in model.named_modules():
        if _is_norm(module) and module in inside:
            hooks.append(module.register_forward_hook(replace(path, module)))
        elif isinstance(module, nn.Linear | Conv1D):
            hooks.append(module.register_forward_pre_hook(lambda *_, path=path: called.append(path)))
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad():
            body(**inputs)
    finally:
        model.train(was_training)
        for handle in hooks:
            handle.remove()
    return fits, _begins_with_norm(called, fits)


def _read(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(n, H), float64: the states of all tokens but padding; some norms read other things, which have no padding."""
    if mask is not None and states.ndim > 2 and states.shape[:2] == mask.shape:
        states = states[mask.bool()]
    return states.detach().double().flatten(0, -2)


@dataclass(frozen=True, slots=True)
class _Moments:
    """What a norm was given, x, and gave, y, by feature, float64: about the means, or about 0 without a bias."""

    n: int
    x: torch.Tensor
    """(H,): the mean, or 0."""
    y: torch.Tensor
    xx: torch.Tensor
    """(H,): the sum of squares about it."""
    xy: torch.Tensor


def _moments(x: torch.Tensor, y: torch.Tensor, *, is_centred: bool) -> _Moments:
    """Those of states (n, H)."""
    x_mean, y_mean = (values.mean(0) if is_centred else values.new_zeros(values.shape[1]) for values in (x, y))
    away = x - x_mean
    return _Moments(len(x), x_mean, y_mean, away.square().sum(0), (away * (y - y_mean)).sum(0))


def _joined(one: _Moments, other: _Moments) -> _Moments:
    """Those of both samples together."""
    n = one.n + other.n
    weight, x, y = one.n * other.n / n, other.x - one.x, other.y - one.y
    return _Moments(
        n, one.x + x * other.n / n, one.y + y * other.n / n, one.xx + other.xx + weight * x.square(),
        one.xy + other.xy + weight * x * y,
    )  # fmt: skip


def _least_squares(seen: _Moments, *, has_bias: bool) -> Fit:
    weight = _ratio(seen.xy, seen.xx)
    return weight, seen.y - weight * seen.x if has_bias else None


def _ratio(over: torch.Tensor, under: torch.Tensor) -> torch.Tensor:
    """The quotient; 0 for a feature that is the same everywhere, which the bias alone then gives."""
    import torch

    return torch.where(under > 0, over / under.clamp_min(torch.finfo(under.dtype).tiny), 0.0)


def _is_norm(module: nn.Module) -> bool:
    return re.search("(Layer|RMS)Norm$", type(module).__name__) is not None


def _has_bias(norm: nn.Module) -> bool:
    """Whether what replaces the norm has a bias: a LayerNorm moves the mean, also where it has none itself."""
    from torch import nn

    return isinstance(norm, nn.LayerNorm) or getattr(norm, "bias", None) is not None


def _begins_with_norm(called: list[str], norms: dict[str, Fit]) -> bool:
    """Whether the first thing that a numbered layer calls is a norm; in ModernBERT's first layer alone it is not."""
    first: dict[str, str] = {}
    for path in called:
        layer = re.match(r".*?\.\d+(?=\.)", path)
        if layer:
            first.setdefault(layer.group(), path)
    return any(path in norms for path in first.values())


METHOD = Method(
    "no-norm",
    summary="replaces every normalisation by a plain scale and shift",
    source="Sun et al. 2020, arXiv:2004.02984; arXiv:2505.11837",
    operate=lambda model, inputs, _: no_norm(model, inputs),
)
