"""Tokens that an adapter adds to its base: how many tokens its model knows, and whether their embeddings are there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdaudit.errors import CheckpointError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFIX = "base_model.model."
"""What peft puts before the names of weights of the base."""
WHOLE = r"(?:\.(?:modules_to_save|original_module|base_layer|token_adapter\.base_layer))?\.weight"
"""What stands behind the name of an embedding where a file holds all rows of it."""
MOST_TOKENS = 2**24
"""More than any vocabulary has, and few enough to take memory for."""


def vocabulary_of(
    shapes: Mapping[str, Sequence[int]], settings: Mapping[str, Any], model: PreTrainedModel, what: str
) -> int | None:
    """Tokens that a base with an adapter knows, by the tensors of the adapter; None where they say nothing of it.

    Args:
        shapes: of the tensors in the adapter's file, by name.
        settings: the content of adapter_config.json.
        model: the base; its weights are not read.
        what: begins the message: the option and the adapter.

    Raises:
        CheckpointError: the tensors or the settings tell of different or impossible numbers of tokens.
    """
    sizes = {int(shapes[name][0]): name for name in whole_embeddings(shapes, model) if len(shapes[name]) == 2}
    if len(sizes) > 1:
        (one, first), (other, second) = sorted(sizes.items())[:2]
        raise CheckpointError(
            f"{what}: {first} has {one:,} tokens, and {second} has {other:,}",
            hint="the adapter was saved of a model whose embeddings and head differ: save it again",
        )
    if sizes:
        return next(iter(sizes))
    tokens = _single_tokens(settings)
    if not all(isinstance(token, int) and 0 <= token < MOST_TOKENS for token in tokens):
        raise CheckpointError(f"{what}: trainable_token_indices of its adapter_config.json are not numbers of tokens")
    embeddings: Any = model.get_input_embeddings()
    known = int(embeddings.weight.shape[0])
    return max(tokens) + 1 if tokens and max(tokens) >= known else None


def whole_embeddings(names: Iterable[str], model: PreTrainedModel) -> list[str]:
    """The names of an adapter's tensors that are embeddings or heads of its base, with a row for every token."""
    patterns = [re.compile(re.escape(PREFIX + name) + WHOLE) for name in embedding_names(model)]
    return [name for name in names if any(pattern.fullmatch(name) for pattern in patterns)]


def says_tokens(shapes: Iterable[str], settings: Mapping[str, Any]) -> bool:
    """Whether an adapter may say anything of how many tokens its model knows: the others are the usual ones."""
    return bool(_single_tokens(settings)) or any(
        re.search(WHOLE + "$", name) and ".lora_" not in name for name in shapes
    )


def embedding_names(model: PreTrainedModel) -> list[str]:
    """Under which names the embeddings and the head of a model stand in it."""
    parts = [part for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part is not None]
    return [name for name, module in model.named_modules(remove_duplicate=False) if any(module is one for one in parts)]


def resize(model: PreTrainedModel, n_tokens: int) -> int:
    """Give the embeddings and the head of a base as many rows as its adapter says; how many they had."""
    embeddings: Any = model.get_input_embeddings()
    n_before = int(embeddings.weight.shape[0])
    if n_before != n_tokens:
        model.resize_token_embeddings(n_tokens, mean_resizing=False)  # an adapter holds the new rows
    return n_before


def check_embedded(adapted: Any, lacking: Collection[str], n_before: int, what: str) -> None:
    """Refuse an adapter that added tokens to its base and does not hold their rows: they would be random.

    Args:
        adapted: the base with the adapter, as peft makes it.
        lacking: names of its weights that no tensor of the adapter was for.
        n_before: tokens that the base knows by itself.
        what: begins the message.

    Raises:
        ModelError: naming the first weight that lacks them.
    """
    model = adapted.get_base_model()
    weights = dict(adapted.named_parameters(remove_duplicate=False))
    loaded = {id(weight) for name, weight in weights.items() if name not in lacking}
    parts = [part for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part is not None]
    for used, replaced in (found for part in parts for found in _used(part)):
        absent = set() if id(used) in loaded else {*range(n_before, int(used.shape[0]))} - replaced
        if absent:
            name = next(name for name, weight in weights.items() if weight is used)
            raise ModelError(
                f"{what}: its model knows {used.shape[0]:,} tokens and its base {n_before:,}, and {len(absent)} of the "
                f"new rows of {name.removeprefix(PREFIX)} are not in its file: they would be random",
                hint="save it again with save_embedding_layers=True, or merged into its base (merge_and_unload)",
            )


def _used(part: Any) -> Iterator[tuple[Any, set[int]]]:
    """The weights that an embedding or a head computes with, and the tokens whose rows an adapter replaces in them."""
    saved = getattr(part, "modules_to_save", None)
    layer = getattr(part, "token_adapter", part) if saved is None else saved["default"]
    replaced = getattr(layer, "token_indices", None) or {}
    inner = getattr(layer, "base_layer", layer)
    yield inner.weight, {*replaced.get("default", ())}
    if getattr(inner, "bias", None) is not None:
        yield inner.bias, set()


def _single_tokens(settings: Mapping[str, Any]) -> list[Any]:
    """Tokens of which an adapter holds a row each."""
    found = settings.get("trainable_token_indices") or settings.get("token_indices")
    if isinstance(found, dict):
        return [token for rows in found.values() if isinstance(rows, list) for token in rows]
    return list(found) if isinstance(found, list) else []
