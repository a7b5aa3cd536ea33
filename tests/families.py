"""Untrained models of every family of encoders and encoder-decoders, and texts as these read them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from kdaudit.targets.masked import Masking, masked_frame
from kdaudit.targets.plan import Frame, Showing
from kdaudit.targets.seq2seq import pair_frame
from tests import encoders, pairs, tiny
from tests.commands import texts

GATED = "t5-gated"
"""T5 v1.1: a gate in every feed-forward, and a head of its own."""
PAIRED = (*pairs.FAMILIES, GATED)
FAMILIES = (*encoders.FAMILIES, *PAIRED)


def untrained(family: str, **options: Any) -> Any:
    """A model with random weights, the same ones for the same arguments; causal ones as `tiny.model` makes them."""
    if family == GATED:
        import transformers

        plain = pairs.config("t5").to_dict()
        settings = {name: value for name, value in plain.items() if name not in {"dense_act_fn", "is_gated_act"}}
        config = transformers.T5Config(**{**settings, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return transformers.T5ForConditionalGeneration(config).eval()
    if family in pairs.FAMILIES:
        return pairs.model(family, **options)
    if family in encoders.FAMILIES:
        return encoders.model(family, n_words=len(encoders.word_pieces()), **options)
    return tiny.model(family, **options)


def tokenizer(family: str) -> Any:
    """The one that a family's tiny models have."""
    if family in PAIRED:
        return pairs.tokenizer(family.removesuffix("-gated"))
    return encoders.word_pieces() if family in encoders.FAMILIES else tiny.tokenizer()


@functools.cache
def showings(family: str, n: int, *, seed: int) -> tuple[Frame, tuple[Showing, ...]]:
    """Texts of several lengths as they are scored, each in its first pass."""
    split = tokenizer(family)
    if family in PAIRED:
        frame = pair_frame(split, 1, family)
        asked = pairs.texts(n, seed=seed)
        passages = frame.kind.encode(
            split, [f"{prompt} {completion}" for prompt, completion in asked], [len(prompt) for prompt, _ in asked]
        )
    else:
        frame = masked_frame(split, Masking())
        read = [" ".join(text.split()[: 3 + i % 4]) for i, text in enumerate(texts(n, seed=seed))]
        passages = frame.kind.encode(split, read, None)
    return frame, tuple(frame.plan(passage).showings[0] for passage in passages)


def inputs(family: str, n: int = 48, *, seed: int = 1) -> Mapping[str, torch.Tensor]:
    """What a model of the family is called with for some texts."""
    frame, shown = showings(family, n, seed=seed)
    return {name: torch.from_numpy(table) for name, table in frame.kind.inputs(shown).items()}


def losses(model: Any, family: str, n: int = 24, *, seed: int = 2) -> torch.Tensor:
    """Minus the log-likelihood of every scored token of some texts."""
    _, shown = showings(family, n, seed=seed)
    with torch.no_grad():
        likelihoods = model(**inputs(family, n, seed=seed)).logits.log_softmax(-1)
    rows = [
        likelihoods[i, torch.from_numpy(one.columns).long(), torch.from_numpy(one.targets).long()]
        for i, one in enumerate(shown)
    ]
    return -torch.cat(rows)
