"""Models that change their own rules by the length of a sequence: which lengths they read alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SAME_AT_EVERY_LENGTH = frozenset({"default", "linear", "yarn", "llama3", "proportional", "mrope"})
"""Rotary embeddings whose frequencies depend on the position alone."""
TWO_SETS = frozenset({"longrope", "su"})
"""Rotary embeddings with one set of factors for short sequences and one for long ones."""


@dataclass(frozen=True, slots=True)
class LengthRules:
    """Which sequence lengths a model reads by the same rules; without bounds it reads all of them alike."""

    bounds: tuple[int, ...] = ()
    """Tokens up to which one set of rules holds, rising."""
    own_from: int | None = None
    """Beyond this number of tokens every length has rules of its own; None: nowhere."""

    def rule(self, n_tokens: int) -> int:
        """The same number for two lengths that are read alike."""
        if self.own_from is not None and n_tokens > self.own_from:
            return n_tokens
        return -sum(n_tokens > bound for bound in self.bounds)

    def n_alike(self, sizes: Sequence[int]) -> int:
        """How many of the leading sizes are read as the first one is."""
        wanted = self.rule(sizes[0])
        return next((k for k, size in enumerate(sizes) if self.rule(size) != wanted), len(sizes))


ALIKE = LengthRules()
EVERY_LENGTH_BY_ITSELF = LengthRules(own_from=0)


def length_rules(model: PreTrainedModel) -> LengthRules:
    """What the configuration of `model` says of its rotary embeddings.

    LongRoPE takes other factors beyond the original context, dynamic NTK scaling other frequencies for every length
    beyond it. A kind of embedding that is not known here is taken to have rules of its own for every length.
    """
    bounds: set[int] = set()
    own_from: int | None = None
    for kind, settings, config in _embeddings(model):
        if kind in TWO_SETS:
            bounds.add(_original_context(settings, config))
        elif kind not in SAME_AT_EVERY_LENGTH:
            least = _context(config) if "dynamic" in kind else 0
            own_from = least if own_from is None else min(own_from, least)
    return LengthRules(tuple(sorted(bounds)), own_from)


def forgetting(model: PreTrainedModel) -> Callable[[], None]:
    """What makes `model` forget the lengths that it has read: dynamic NTK scaling keeps the longest one.

    Called before a forward pass, it gives what a model gives that was only just loaded.
    """
    remembering = [module for module in model.modules() if hasattr(module, "max_seq_len_cached")]

    def forget() -> None:
        for module in remembering:
            _forget(module)

    return forget


def _forget(module: Any) -> None:
    kinds = module.rope_type if isinstance(module.rope_type, Mapping) else {"": module.rope_type}
    for layer_type, kind in kinds.items():
        prefix = f"{layer_type}_" if layer_type else ""
        first = getattr(module, f"{prefix}original_inv_freq", None)
        if "dynamic" in kind and first is not None:
            now = getattr(module, f"{prefix}inv_freq")
            module.register_buffer(f"{prefix}inv_freq", first.to(now.device).clone(), persistent=False)
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def _embeddings(model: PreTrainedModel) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Kind, settings and configuration of every rotary embedding that the configuration describes."""
    for config in {id(one): one for one in (model.config, model.config.get_text_config())}.values():
        for name in ("rope_parameters", "rope_scaling"):
            found = getattr(config, name, None)
            if not isinstance(found, Mapping):
                continue
            by_layer = [one for one in found.values() if isinstance(one, Mapping)]
            for settings in by_layer or [found]:
                kind = settings.get("rope_type", settings.get("type", "default"))
                yield str(kind), settings, config


def _original_context(settings: Mapping[str, Any], config: Any) -> int:
    found = settings.get("original_max_position_embeddings") or getattr(
        config, "original_max_position_embeddings", None
    )
    return int(found or _context(config))


def _context(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", 0) or 0)
