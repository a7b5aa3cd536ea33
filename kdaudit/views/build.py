"""The passages of an audit: every record in every view, cut where the model that stops first has to stop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit.draws import generator
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Frame
from kdaudit.views.cut import common_cut
from kdaudit.views.view import PLAIN, View

CHUNK = 512  # texts that are tokenised at one time
SHARD_CHARS = 2**16  # about one shard; a killed run loses at most one
SHOT_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class Shown:
    """How much of all records a view shows under one tokenizer."""

    n_tokens: int
    """Text tokens over all passes of all texts."""
    n_passes: int
    """Passes over all texts: as many as there are texts, where the kind of model takes one for each."""
    n_read: int
    """Tokens that are read in all passes, all that stands around the texts included."""
    largest: int
    """The largest number of a token that is read or predicted; -1: none is."""
    longest: int
    """Tokens of the longest pass."""


@dataclass(frozen=True, slots=True)
class Passages:
    """How the records are shown to models; texts are made and tokenised again whenever they are needed."""

    texts: tuple[str, ...]
    prompts: tuple[int, ...]
    """Leading characters of each text that are its prompt: read, not scored."""
    tokenizers: tuple[Any, ...]
    frames: tuple[Frame, ...]
    """Per tokenizer: how its texts are shown, without shots."""
    prefixes: tuple[tuple[int, ...], ...]
    """Per tokenizer: the tokens of the shots that fitted."""
    window: int
    """Tokens that every model of the audit reads at most, all that stands around a text included."""
    n_shots: int
    """Shots that fitted into half of the window."""
    prompt_cuts: NDArray[np.int32]
    """(n,): characters of each prompt that are shown: all of them, but where an encoder reads the prompt."""
    cuts: Mapping[View, NDArray[np.int32]]
    """(n, V) per view of V variants: characters of each text that are shown."""
    shown: Mapping[View, tuple[Shown, ...]]
    """Per view and tokenizer."""
    splits: tuple[str, ...]
    """Per tokenizer: hash of how it splits these texts; equal where two tokenizers do the same."""
    seed: int
    """Draws the variants."""
    contexts: tuple[Sequence[str] | None, ...] = ()
    """Per tokenizer: what stands in the place of each prompt, where its models have prompts of their own."""

    @property
    def n_cut(self) -> int:
        """Texts that were longer than the window."""
        return int(sum(cut < len(text) for cut, text in zip(self.cuts[PLAIN][:, 0], self.texts, strict=True)))

    @property
    def n_prompts_cut(self) -> int:
        """Prompts that were longer than the window of an encoder."""
        return int((self.prompt_cuts < np.array(self.prompts, dtype=np.int32)).sum())

    def scored_text(self, index: int) -> str:
        """What is scored of a text: up to the common cut, without its prompt."""
        return self.texts[index][self.prompts[index] : int(self.cuts[PLAIN][index, 0])]

    def frame(self, view: View, tokenizer: int) -> Frame:
        """How a view's texts are shown, with the shots where the view has them."""
        return _framed(view, self.frames[tokenizer], self.prefixes[tokenizer])

    def n_read(self, view: View, tokenizer: int) -> int:
        """Tokens that go through a model; what stands before all texts goes through it once where it is cached."""
        shown, frame = self.shown[view][tokenizer], self.frame(view, tokenizer)
        is_cached = view.is_prefixed and frame.kind.is_causal
        return shown.n_read - (len(frame.before) * (shown.n_passes - 1) if is_cached else 0)

    def shards(self) -> list[list[int]]:
        """Indices of the texts, longest first, in groups of about SHARD_CHARS: the same for every model."""
        groups: list[list[int]] = []
        room = 0
        for index in sorted(range(len(self.texts)), key=lambda i: (-len(self.texts[i]), i)):
            if room <= 0:
                groups.append([])
                room = SHARD_CHARS
            groups[-1].append(index)
            room -= len(self.texts[index])
        return groups

    def read(self, indices: Sequence[int], view: View, tokenizer: int) -> list[Passage]:
        """The passages of some texts in one view under one tokenizer: every variant of the first text comes first."""
        shown = [
            variant
            for i in indices
            for variant in _variants(view, self.texts[i], self.prompts[i], int(self.cuts[PLAIN][i, 0]), self.seed)
        ]
        prompts = [self.prompts[i] for i in indices for _ in range(view.n_variants)]
        prompt_cuts = [int(self.prompt_cuts[i]) for i in indices for _ in range(view.n_variants)]
        cuts = self.cuts[view][list(indices)].ravel() if len(indices) else ()
        own = self.contexts[tokenizer] if self.contexts else None
        context = None if own is None else [own[i] for i in indices for _ in range(view.n_variants)]
        as_read = _as_read(shown, prompts, prompt_cuts, context)
        encoded = _encoded(self.tokenizers[tokenizer], self.frames[tokenizer], *as_read)
        shifts = (n - n_prompt for n, n_prompt in zip(as_read[1], prompts, strict=True))
        return [
            passage.head(max(0, int(cut) + shift)) for cut, passage, shift in zip(cuts, encoded, shifts, strict=True)
        ]


def build(
    texts: Sequence[str],
    tokenizers: Sequence[Any],
    frames: Sequence[Frame],
    *,
    views: Sequence[View],
    shots: Sequence[str],
    window: int,
    prompts: Sequence[int] | None = None,
    contexts: Sequence[Sequence[str] | None] | None = None,
    shots_of: Sequence[Sequence[str] | None] | None = None,
    seed: int = 0,
    on_texts: Callable[[int], None] = lambda _: None,
) -> Passages:
    """Decide for every text and view where it is cut, once for all models.

    Args:
        texts: of the records.
        tokenizers: one per way of splitting that the audit's models bring.
        frames: per tokenizer, how its texts are shown.
        views: those that some attack needs; the plain one is always built.
        shots: texts of the prefix, dropped from the end until they fill at most half of the window.
        window: tokens that the smallest model reads.
        prompts: leading characters of each text that are its prompt; None for none.
        contexts: per tokenizer, what its causal models are shown in the place of each prompt; None: the prompt.
        shots_of: per tokenizer, the shots as its models are shown them; None: `shots`.
        seed: of the variants.
        on_texts: called with the number of texts finished.

    Raises:
        ValueError: two views have one name, or a view gives another number of variants than it says.
    """
    given = tuple(prompts) if prompts is not None else (0,) * len(texts)
    own_contexts = tuple(contexts) if contexts is not None else (None,) * len(tokenizers)
    own_shots = [shots if one is None else one for one in shots_of or (None,) * len(tokenizers)]
    n_shots, prefixes = _fitting_shots(own_shots, tokenizers, frames, window)
    asked = [view for view in dict.fromkeys((PLAIN, *views)) if n_shots or not view.is_prefixed]
    if len({view.name for view in asked}) < len(asked):
        raise ValueError(f"two views have one name: {', '.join(sorted(view.name for view in asked))}")
    cuts = {view: np.zeros((len(texts), view.n_variants), dtype=np.int32) for view in asked}
    shown = {view: [Shown(0, 0, 0, -1, 0)] * len(tokenizers) for view in asked}
    prompt_cuts = np.array(given, dtype=np.int32)
    digests = [hashlib.sha256(repr(frame.lead).encode()) for frame in frames]
    for start in range(0, len(texts), CHUNK):
        chunk, of_chunk = texts[start : start + CHUNK], given[start : start + CHUNK]
        here = [None if own is None else own[start : start + CHUNK] for own in own_contexts]
        read = [_as_read(chunk, of_chunk, of_chunk, own) for own in here]
        whole = [
            frame.kind.encode(tokenizer, as_read[0], as_read[1])
            for tokenizer, frame, as_read in zip(tokenizers, frames, read, strict=True)
        ]
        cut_here = [
            _prompt_cut([of_tokenizer[place] for of_tokenizer in whole], frames, window, n_prompt)
            for place, n_prompt in enumerate(of_chunk)
        ]
        prompt_cuts[start : start + CHUNK] = cut_here
        read = [_as_read(chunk, of_chunk, cut_here, own) for own in here]
        whole = [
            [one.prompted(cut) for one, cut in zip(passages, as_read[2], strict=True)]
            for passages, as_read in zip(whole, read, strict=True)
        ]
        for digest, passages in zip(digests, whole, strict=True):
            for passage in passages:
                digest.update(passage.ids.size.to_bytes(4, "little") + passage.ids.tobytes())
        for view in asked:
            framed = [_framed(view, frame, prefix) for frame, prefix in zip(frames, prefixes, strict=True)]
            made, encoded = list(chunk), whole
            if view.variants is not None:
                plain = cuts[PLAIN][start : start + CHUNK, 0].tolist()
                of_text = [_variants(view, *one, seed) for one in zip(chunk, of_chunk, plain, strict=True)]
                made = [variant for variants in of_text for variant in variants]
                n_prompts, n_shown = (
                    [n for n in some for _ in range(view.n_variants)] for some in (of_chunk, cut_here)
                )
                own_here = [None if own is None else [c for c in own for _ in range(view.n_variants)] for own in here]
                encoded = [
                    _encoded(tokenizer, frame, *_as_read(made, n_prompts, n_shown, own))
                    for tokenizer, frame, own in zip(tokenizers, frames, own_here, strict=True)
                ]
            for place, text in enumerate(made):
                passages = [of_tokenizer[place] for of_tokenizer in encoded]
                rooms = [frame.room(window, passage) for frame, passage in zip(framed, passages, strict=True)]
                record = place // view.n_variants
                shifts = [as_read[1][record] - of_chunk[record] for as_read in read]
                cut = common_cut(passages, rooms, n_chars=len(text), shifts=shifts)
                cuts[view][start + record, place % view.n_variants] = cut
                for k, (passage, frame) in enumerate(zip(passages, framed, strict=True)):
                    shown[view][k] = _and(shown[view][k], passage.head(max(0, cut + shifts[k])), frame)
        on_texts(len(chunk))
    return Passages(
        texts=tuple(texts),
        prompts=given,
        tokenizers=tuple(tokenizers),
        frames=tuple(frames),
        prefixes=prefixes,
        window=window,
        n_shots=n_shots,
        prompt_cuts=prompt_cuts,
        cuts=cuts,
        shown={view: tuple(found) for view, found in shown.items()},
        splits=tuple(digest.hexdigest() for digest in digests),
        seed=seed,
        contexts=own_contexts,
    )


def _as_read(
    texts: Sequence[str], prompts: Sequence[int], prompt_cuts: Sequence[int], context: Sequence[str] | None
) -> tuple[Sequence[str], Sequence[int], Sequence[int]]:
    """Texts, characters of their prompts and how many of those are shown, as the models of one tokenizer read them."""
    if context is None:
        return texts, prompts, prompt_cuts
    sizes = [len(own) for own in context]
    return [own + text[n:] for own, text, n in zip(context, texts, prompts, strict=True)], sizes, sizes


def _framed(view: View, frame: Frame, prefix: tuple[int, ...]) -> Frame:
    return replace(frame, prefix=prefix) if view.is_prefixed else frame


def _and(shown: Shown, passage: Passage, frame: Frame) -> Shown:
    plan = frame.plan(passage)
    sizes = [one.size for one in plan.showings] or [int(passage.ids.size) + frame.n_around]
    parts = [part for one in plan.showings for part in (one.ids, one.source, one.targets)]
    return Shown(
        shown.n_tokens + plan.n_passes * int(passage.ids.size),
        shown.n_passes + plan.n_passes,
        shown.n_read + sum(sizes),
        max([shown.largest, *(int(part.max()) for part in parts if part.size)]),
        max(shown.longest, *sizes),
    )


def _encoded(
    tokenizer: Any, frame: Frame, texts: Sequence[str], prompts: Sequence[int], prompt_cuts: Sequence[int]
) -> list[Passage]:
    """Texts as tokens, of their prompts what an encoder can read."""
    found = frame.kind.encode(tokenizer, texts, prompts)
    return [passage.prompted(cut) for passage, cut in zip(found, prompt_cuts, strict=True)]


def _prompt_cut(passages: Sequence[Passage], frames: Sequence[Frame], window: int, n_prompt: int) -> int:
    """Characters of a prompt that every encoder can read, and the whole prompt for other kinds of model.

    Args:
        passages: the whole text, once per tokenizer.
        frames: per tokenizer.
        window: tokens that each side of every model reads.
        n_prompt: characters of the prompt.
    """
    if not frames[0].kind.is_paired:
        return n_prompt
    prompts = [passage.within(passage.n_given, 0) for passage in passages]
    rooms = [max(0, window - frame.n_around) for frame in frames]
    return common_cut(prompts, rooms, n_chars=n_prompt)


def _variants(view: View, text: str, n_prompt: int, cut: int, seed: int) -> Sequence[str]:
    """The texts that a view shows of a record, each behind the record's prompt.

    Args:
        view: says what is shown.
        text: of the record.
        n_prompt: its leading characters that are its prompt.
        cut: its characters that the plain view shows.
        seed: of the variants.
    """
    if view.variants is None:
        return (text,)
    scored = text[n_prompt:cut]
    made = view.variants(scored, generator(seed, f"view {view.name} {_digest(scored)}"))
    if len(made) != view.n_variants:
        raise ValueError(f"the view {view.name} gives {len(made)} variants of a text and states {view.n_variants}")
    return [text[:n_prompt] + variant for variant in made]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _fitting_shots(
    shots: Sequence[Sequence[str]], tokenizers: Sequence[Any], frames: Sequence[Frame], window: int
) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """How many shots fill at most half of the window under every tokenizer, each with its own, and their tokens."""
    for n_shots in range(min(map(len, shots), default=0), 0, -1):
        prefixes = [SHOT_SEPARATOR.join(own[:n_shots]) for own in shots]
        ids = tuple(
            tuple(encode(tokenizer, [prefix])[0].ids.tolist())
            for tokenizer, prefix in zip(tokenizers, prefixes, strict=True)
        )
        if all(
            frame.n_around + len(frame.between) + len(found) <= window // 2
            for frame, found in zip(frames, ids, strict=True)
        ):
            return n_shots, ids
    return 0, tuple(() for _ in tokenizers)
