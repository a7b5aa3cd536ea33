"""The passages of an audit: every record in every view, cut where the model that stops first has to stop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit.draws import generator
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import MARK_BYTES, Frame, TargetPlan
from kdaudit.targets.script import Script
from kdaudit.views.cut import common_cut
from kdaudit.views.view import PLAIN, View

CHUNK = 512  # texts that are tokenised at one time
SHARD_CHARS = 2**16  # about one shard; a killed run loses at most one
SHOT_SEPARATOR = "\n"
MARK = np.dtype(f"V{MARK_BYTES}")

Contexts = Sequence[Sequence[str]]
"""(n,): of each text what stands in the place of its prompt and of every gap."""


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

    scripts: Sequence[Script]
    """The texts, with what is read but not scored of them."""
    tokenizers: tuple[Any, ...]
    frames: tuple[Frame, ...]
    """Per tokenizer: how its texts are shown, without shots."""
    prefixes: tuple[tuple[int, ...], ...]
    """Per tokenizer: the tokens of the shots that fitted."""
    window: int
    """Tokens that every model of the audit reads at most, all that stands around a text included."""
    n_shots: int
    """Shots that fitted into half of the window."""
    sizes: NDArray[np.int32]
    """(n,): characters of each text."""
    prompt_sizes: NDArray[np.int32]
    """(n,): characters of each prompt."""
    prompt_cuts: NDArray[np.int32]
    """(n,): characters of each prompt that are shown: all of them, but where an encoder reads the prompt."""
    cuts: Mapping[View, NDArray[np.int32]]
    """(n, V) per view of V variants: characters of each text that are shown."""
    shown: Mapping[View, tuple[Shown, ...]]
    """Per view and tokenizer."""
    marks: Mapping[View, tuple[NDArray[np.void], ...]]
    """Per view and tokenizer: (n, V), what stands for the target plan of each variant of each text."""
    splits: tuple[str, ...]
    """Per tokenizer: hash of how it splits these texts; equal where two tokenizers do the same."""
    seed: int
    """Draws the variants."""
    contexts: tuple[Contexts | None, ...] = ()
    """Per tokenizer, where its models are shown the words in a context of their own."""

    @property
    def n_cut(self) -> int:
        """Texts that were longer than the window."""
        return int((self.cuts[PLAIN][:, 0] < self.sizes).sum())

    @property
    def n_prompts_cut(self) -> int:
        """Prompts that were longer than the window of an encoder."""
        return int((self.prompt_cuts < self.prompt_sizes).sum())

    def scored_text(self, index: int) -> str:
        """What is scored of a text: up to the common cut, without what is read only."""
        return self.scripts[index].scored(int(self.cuts[PLAIN][index, 0]))

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
        sizes = self.sizes.tolist()
        for index in np.argsort(-self.sizes, kind="stable").tolist():
            if room <= 0:
                groups.append([])
                room = SHARD_CHARS
            groups[-1].append(index)
            room -= sizes[index]
        return groups

    def read(self, indices: Sequence[int], view: View, tokenizer: int) -> list[Passage]:
        """The passages of some texts in one view under one tokenizer: every variant of the first text comes first."""
        scripts = [
            variant
            for i in indices
            for variant in _variants(view, self.scripts[i], int(self.cuts[PLAIN][i, 0]), self.seed)
        ]
        records = [i for i in indices for _ in range(view.n_variants)]
        cuts = self.cuts[view][list(indices)].ravel().tolist() if len(indices) else []
        own = self.contexts[tokenizer] if self.contexts else None
        as_read = _as_read(scripts, None if own is None else [own[i] for i in records])
        prompt_cuts = [int(self.prompt_cuts[i]) for i in records]
        encoded = _encoded(self.tokenizers[tokenizer], self.frames[tokenizer], as_read, prompt_cuts)
        return [
            passage.head(script.place_in(read, cut))
            for cut, passage, script, read in zip(cuts, encoded, scripts, as_read, strict=True)
        ]


def build(
    scripts: Sequence[Script],
    tokenizers: Sequence[Any],
    frames: Sequence[Frame],
    *,
    views: Sequence[View],
    shots: Sequence[str],
    window: int,
    contexts: Sequence[Contexts | None] | None = None,
    shots_of: Sequence[Sequence[str] | None] | None = None,
    seed: int = 0,
    on_texts: Callable[[int], None] = lambda _: None,
) -> Passages:
    """Decide for every text and view where it is cut, once for all models.

    Args:
        scripts: the texts of the records.
        tokenizers: one per way of splitting that the audit's models bring.
        frames: per tokenizer, how its texts are shown.
        views: those that some attack needs; the plain one is always built.
        shots: texts of the prefix, dropped from the end until they fill at most half of the window.
        window: tokens that the smallest model reads.
        contexts: per tokenizer, what its causal models are shown in the place of what is read only; None: that.
        shots_of: per tokenizer, the shots as its models are shown them; None: `shots`.
        seed: of the variants.
        on_texts: called with the number of texts finished.

    Raises:
        ValueError: two views have one name, or a view gives another number of variants than it says.
    """
    own_contexts = tuple(contexts) if contexts is not None else (None,) * len(tokenizers)
    own_shots = [shots if one is None else one for one in shots_of or (None,) * len(tokenizers)]
    n_shots, prefixes = _fitting_shots(own_shots, tokenizers, frames, window)
    asked = [view for view in dict.fromkeys((PLAIN, *views)) if n_shots or not view.is_prefixed]
    if len({view.name for view in asked}) < len(asked):
        raise ValueError(f"two views have one name: {', '.join(sorted(view.name for view in asked))}")
    cuts = {view: np.zeros((len(scripts), view.n_variants), dtype=np.int32) for view in asked}
    shown = {view: [Shown(0, 0, 0, -1, 0)] * len(tokenizers) for view in asked}
    marks = {view: tuple(np.zeros(found.shape, dtype=MARK) for _ in tokenizers) for view, found in cuts.items()}
    sizes, prompt_sizes, prompt_cuts = (np.zeros(len(scripts), dtype=np.int32) for _ in range(3))
    digests = [hashlib.sha256(repr(frame.lead).encode()) for frame in frames]
    for start in range(0, len(scripts), CHUNK):
        chunk = scripts[start : start + CHUNK]
        here = [None if own is None else own[start : start + CHUNK] for own in own_contexts]
        read = [_as_read(chunk, own) for own in here]
        whole = [
            frame.encode(tokenizer, as_read) for tokenizer, frame, as_read in zip(tokenizers, frames, read, strict=True)
        ]
        cut_here = [
            _prompt_cut([of_tokenizer[place] for of_tokenizer in whole], frames, window, script.n_prompt)
            for place, script in enumerate(chunk)
        ]
        sizes[start : start + CHUNK] = [len(script.text) for script in chunk]
        prompt_sizes[start : start + CHUNK] = [script.n_prompt for script in chunk]
        prompt_cuts[start : start + CHUNK] = cut_here
        whole = [_prompted(passages, frame, cut_here) for passages, frame in zip(whole, frames, strict=True)]
        for digest, passages in zip(digests, whole, strict=True):
            for passage in passages:
                digest.update(passage.ids.size.to_bytes(4, "little") + passage.ids.tobytes())
        for view in asked:
            framed = [_framed(view, frame, prefix) for frame, prefix in zip(frames, prefixes, strict=True)]
            made, as_made, encoded = list(chunk), read, whole
            if view.variants is not None:
                plain = cuts[PLAIN][start : start + CHUNK, 0].tolist()
                made = [
                    one for script, cut in zip(chunk, plain, strict=True) for one in _variants(view, script, cut, seed)
                ]
                n_shown = [n for n in cut_here for _ in range(view.n_variants)]
                own_here = [None if own is None else [c for c in own for _ in range(view.n_variants)] for own in here]
                as_made = [_as_read(made, own) for own in own_here]
                encoded = [
                    _encoded(tokenizer, frame, as_read, n_shown)
                    for tokenizer, frame, as_read in zip(tokenizers, frames, as_made, strict=True)
                ]
            for place, script in enumerate(made):
                passages = [of_tokenizer[place] for of_tokenizer in encoded]
                own_scripts = [of_tokenizer[place] for of_tokenizer in as_made]
                rooms = [frame.room(window, passage) for frame, passage in zip(framed, passages, strict=True)]
                places = [partial(own.place_in, script) for own in own_scripts]
                cut = common_cut(passages, rooms, n_chars=len(script.text), places=places)
                where = start + place // view.n_variants, place % view.n_variants
                cuts[view][where] = cut
                for k, (passage, frame, own) in enumerate(zip(passages, framed, own_scripts, strict=True)):
                    plan = frame.plan(passage.head(script.place_in(own, cut)))
                    shown[view][k] = _and(shown[view][k], plan, frame)
                    marks[view][k][where] = plan.mark
        on_texts(len(chunk))
    return Passages(
        scripts=scripts,
        tokenizers=tuple(tokenizers),
        frames=tuple(frames),
        prefixes=prefixes,
        window=window,
        n_shots=n_shots,
        sizes=sizes,
        prompt_sizes=prompt_sizes,
        prompt_cuts=prompt_cuts,
        cuts=cuts,
        shown={view: tuple(found) for view, found in shown.items()},
        marks=marks,
        splits=tuple(digest.hexdigest() for digest in digests),
        seed=seed,
        contexts=own_contexts,
    )


def _as_read(scripts: Sequence[Script], contexts: Contexts | None) -> Sequence[Script]:
    """The texts as the models of one tokenizer read them."""
    if contexts is None:
        return scripts
    return [script.spoken(own) for script, own in zip(scripts, contexts, strict=True)]


def _framed(view: View, frame: Frame, prefix: tuple[int, ...]) -> Frame:
    return replace(frame, prefix=prefix) if view.is_prefixed else frame


def _and(shown: Shown, plan: TargetPlan, frame: Frame) -> Shown:
    n_tokens = int(plan.passage.ids.size)
    sizes = [one.size for one in plan.showings] or [n_tokens + frame.n_around]
    parts = [part for one in plan.showings for part in (one.ids, one.source, one.targets)]
    return Shown(
        shown.n_tokens + plan.n_passes * n_tokens,
        shown.n_passes + plan.n_passes,
        shown.n_read + sum(sizes),
        max([shown.largest, *(int(part.max()) for part in parts if part.size)]),
        max(shown.longest, *sizes),
    )


def _encoded(tokenizer: Any, frame: Frame, scripts: Sequence[Script], prompt_cuts: Sequence[int]) -> list[Passage]:
    """Texts as tokens, of their prompts what an encoder can read."""
    return _prompted(frame.encode(tokenizer, scripts), frame, prompt_cuts)


def _prompted(passages: list[Passage], frame: Frame, prompt_cuts: Sequence[int]) -> list[Passage]:
    if not frame.kind.is_paired:
        return passages
    return [passage.prompted(cut) for passage, cut in zip(passages, prompt_cuts, strict=True)]


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


def _variants(view: View, script: Script, cut: int, seed: int) -> Sequence[Script]:
    """What a view shows of a record: other words between what is read only.

    Args:
        view: says what is shown.
        script: the text of the record.
        cut: its characters that the plain view shows.
        seed: of the variants.
    """
    make = view.variants
    if make is None:
        return (script,)

    def varied(words: str) -> Sequence[str]:
        made = make(words, generator(seed, f"view {view.name} {_digest(words)}"))
        if len(made) != view.n_variants:
            raise ValueError(f"the view {view.name} gives {len(made)} variants of a text and states {view.n_variants}")
        return made

    return script.variants(cut, varied)


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
