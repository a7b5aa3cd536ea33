"""Kinds of language models: which one a checkpoint holds, and by which class transformers loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdaudit.errors import CheckpointError

AUTO_CLASSES: Mapping[str, str] = {
    "seq2seq": "AutoModelForSeq2SeqLM",
    "masked": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
}
"""By kind, in the order in which an architecture is looked up: transformers lists BART as a masked model too."""
WORDS: Mapping[str, str] = {
    "causal": "a causal language model",
    "masked": "a masked language model",
    "seq2seq": "an encoder-decoder",
}
"""By kind, for a sentence."""

MOVED_BY_PADDING = frozenset({"prophetnet", "xlm-prophetnet"})
"""Types of models whose logits change with what stands padded behind a text, in transformers 5.23."""


def kind_of(config: Any, name: str, option: str, *, wanted: str | None = None, original: str | None = None) -> str:
    """The kind of a checkpoint's model: causal, masked or seq2seq.

    Its architecture decides. Where that is a body without a head or a head of another task, the type of the model does:
    encoders that can also be run as decoders are masked models unless their configuration says `is_decoder`.

    Args:
        config: of the checkpoint.
        name: of the checkpoint.
        option: that named it.
        wanted: the kind that --as asks for, or None.
        original: the architecture before kdaudit changed it, or None.

    Raises:
        CheckpointError: transformers has no model of the wanted kind for this type, or its scores would depend on what
            else is in a batch.
    """
    if getattr(config, "model_type", "") in MOVED_BY_PADDING:
        raise CheckpointError(
            f"{option}: {name} is of type {config.model_type}, whose logits change with the padding behind a text",
            hint="its scores would depend on the other texts of a batch: audit a model of another type",
        )
    architectures = [original] if original else list(getattr(config, "architectures", None) or ())
    known = _known_kinds(config, architectures)
    if wanted is not None:
        if known and wanted not in known:
            what = architectures[0] if architectures else config.model_type
            raise CheckpointError(
                f"{option}: {name} is a {what}, which cannot be loaded as {WORDS[wanted]} (--as {wanted})",
                hint=f"leave --as out, or give --as {' or --as '.join(sorted(known))}",
            )
        is_masked_alone = is_of_any(architectures, "masked") and not is_of_any(architectures, "causal")
        if wanted == "causal" and is_masked_alone and original is None and getattr(config, "is_decoder", None) is False:
            raise CheckpointError(
                f"{option}: {name} is a {architectures[0]} that reads both sides of a token (its config.json does not "
                "say is_decoder), so it cannot be read as a causal language model (--as causal)",
                hint="leave --as out",
            )
        return wanted
    for kind in AUTO_CLASSES:
        if is_of_any(architectures, kind):
            return kind
    if "seq2seq" in known:
        return "seq2seq"
    return "masked" if "masked" in known and not getattr(config, "is_decoder", False) else "causal"


def same_kind(models: Sequence[tuple[str, str, str]]) -> str:
    """The kind that all models of a run share.

    Args:
        models: part in the run (teacher, student), name and kind of each.

    Raises:
        CheckpointError: naming the first two that differ.
    """
    part, name, kind = models[0]
    for other_part, other_name, other in models[1:]:
        if other != kind:
            raise CheckpointError(
                f"the {part} {name} is {WORDS[kind]}, and the {other_part} {other_name} is {WORDS[other]}",
                hint="compare models of one kind; where config.json does not say which, --as KIND does",
            )
    return kind


def auto_class(kind: str) -> Any:
    """The class of transformers that loads and builds models of a kind."""
    import transformers

    return getattr(transformers, AUTO_CLASSES[kind])


def is_of_kind(architecture: str, kind: str) -> bool:
    """Whether transformers lists an architecture among the models of a kind."""
    return architecture in _classes(kind).values()


def is_of_any(architectures: Sequence[str], kind: str) -> bool:
    """Whether transformers lists one of some architectures among the models of a kind."""
    return any(is_of_kind(architecture, kind) for architecture in architectures)


def _known_kinds(config: Any, architectures: Sequence[str]) -> set[str]:
    """Kinds as which transformers, or the checkpoint's own code, has a model of this type."""
    own = getattr(config, "auto_map", None) or {}
    return {
        kind
        for kind, auto in AUTO_CLASSES.items()
        if auto in own or config.model_type in _classes(kind) or is_of_any(architectures, kind)
    }


def _classes(kind: str) -> Mapping[str, str]:
    """Model type -> architecture, as transformers lists them for a kind."""
    from transformers.models.auto import modeling_auto

    task = {"seq2seq": "SEQ_TO_SEQ_CAUSAL", "masked": "MASKED", "causal": "CAUSAL"}[kind]
    found: Mapping[str, str] = getattr(modeling_auto, f"MODEL_FOR_{task}_LM_MAPPING_NAMES")
    return found
