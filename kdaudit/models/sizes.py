"""Sizes that a config.json states, checked before anything is built from them: a library builds whatever it is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from kdaudit.errors import CheckpointError, ModelError

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "depth")
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim", "vocab_size", "num_attention_heads", "n_head", "n_heads")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_labels")
MOST = {**dict.fromkeys(LAYERS, 1000), **dict.fromkeys(EXPERTS, 100_000), **dict.fromkeys(WIDTHS, 2**31)}
"""By the name of a setting: more than any model has, and few enough to be counted to."""
MOST_ENTRIES = 100_000
"""Entries of a list or a table in config.json."""
SHOWN_DIGITS = 20
PER_BYTE = 8
"""Weights that the densest packing puts into one byte."""
SLACK = 2**26
"""Weights and table entries that a model may have beside those in its files."""


def check_settings(settings: Mapping[str, Any], what: str) -> None:
    """Refuse a configuration that no model can have, before a library builds what it states.

    Args:
        settings: the content of config.json.
        what: begins the message: the option and the file.

    Raises:
        CheckpointError: naming the setting and its value.
    """
    kinds = settings.get("architectures")
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        raise CheckpointError(f"{what}: architectures is not a list of names")
    if "transformers_weights" in settings:  # it names another file than the one that is fingerprinted
        raise CheckpointError(
            f"{what}: transformers_weights names the file of the weights",
            hint="call that file model.safetensors and take the key out",
        )
    for name, value in _entries(settings):
        if isinstance(value, dict | list) and len(value) > MOST_ENTRIES:
            raise CheckpointError(
                f"{what}: {name} has {len(value):,} entries, and at most {MOST_ENTRIES:,} can be meant"
            )
        if name not in MOST or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not (value >= 1 or name in EXPERTS):
            raise CheckpointError(f"{what}: {name} is {_short(value)}, and a model has at least one")
        if value > MOST[name]:
            raise CheckpointError(f"{what}: {name} is {_short(value)}, and a model has at most {MOST[name]:,}")


def check_rank(settings: Mapping[str, Any], hidden_size: int, n_weights: int, what: str) -> None:
    """Refuse a LoRA adapter whose rank its own file has no room for, before peft takes memory for it.

    Args:
        settings: the content of adapter_config.json.
        hidden_size: of its base.
        n_weights: in the adapter's file.
        what: begins the message.

    Raises:
        CheckpointError: naming the rank.
    """
    pattern = settings.get("rank_pattern")
    ranks = [settings.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    for rank in ranks if settings.get("peft_type") == "LORA" else ():
        if isinstance(rank, int) and rank * hidden_size > n_weights:
            raise CheckpointError(
                f"{what}: its adapter_config.json states a rank of {_short(rank)}, and its file holds "
                f"{n_weights:,} weights",
                hint="the configuration is not that of these weights: download or save the adapter again",
            )


def check_built(model: Any, name: str, n_bytes: int) -> None:
    """Refuse a model that is far larger than the files of its weights, before memory is taken for it.

    Args:
        model: built on the meta device, which holds shapes alone.
        name: of the checkpoint.
        n_bytes: of its weight files.

    Raises:
        ModelError: with both sizes.
    """
    n_built = sum(part.numel() for part in (*model.parameters(), *model.buffers()))
    if n_built > PER_BYTE * n_bytes + SLACK:
        raise ModelError(
            f"{name} cannot be loaded: its config.json describes {n_built:,} weights, and its files hold {n_bytes:,} "
            "bytes",
            hint="the configuration is not that of these weights: download or save the checkpoint again",
        )


def check_fits(model: Any, what: str) -> None:
    """Refuse a model whose weights alone, in float32, are more than this machine's memory.

    Args:
        model: built on the meta device, which holds shapes alone.
        what: begins the message.

    Raises:
        ModelError: with both sizes.
    """
    needed = 4 * sum(part.numel() for part in (*model.parameters(), *model.buffers()))
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ModelError(f"{what}: the model takes {in_words(needed)}, and this machine has {in_words(there)}")


def _entries(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything in nested settings with the name that it stands under, the whole first."""
    waiting: list[tuple[str, Any]] = [("it", settings)]
    while waiting:
        name, value = waiting.pop()
        yield name, value
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += ((name, one) for one in value if isinstance(one, dict | list))


def _short(value: float) -> str:
    digits = str(value)
    return digits if len(digits) <= SHOWN_DIGITS else f"{digits[:SHOWN_DIGITS]}…"


def in_words(n_bytes: float) -> str:
    """`1.5 GB`, `108 MB`, `0.3 MB`, where a GB are 10^9 bytes."""
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:,.1f} GB"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1e7 else f"{n_bytes / 1e6:.1f} MB"
