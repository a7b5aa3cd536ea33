"""The passages of an audit: every record in every view, cut where the model that stops first has to stop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdaudit.targets.passage import Passage, encode, lead_ids
from kdaudit.views.cut import common_cut
from kdaudit.views.view import View

CHUNK = 512  # texts that are tokenised at one time
SHARD_CHARS = 2**16  # about one shard; a killed run loses at most one
SHOT_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class Passages:
    """How the records are shown to models; texts are tokenised again whenever they are needed, to save memory."""

    texts: tuple[str, ...]
    prompts: tuple[int, ...]
    """Leading characters of each text that are its prompt: read, not scored."""
    tokenizers: tuple[Any, ...]
    leads: tuple[tuple[int, ...], ...]
    """Per tokenizer: the special tokens before a text."""
    prefixes: tuple[tuple[int, ...], ...]
    """Per tokenizer: the tokens of the shots that fitted."""
    window: int
    """Tokens that every model of the audit reads at most, lead and prefix included."""
    n_shots: int
    """Shots that fitted into half of the window."""
    cuts: Mapping[View, NDArray[np.int32]]
    """(n,) per view: characters of each view's text that are scored."""
    n_tokens: Mapping[View, tuple[int, ...]]
    """Per view and tokenizer: tokens over all texts."""
    splits: tuple[str, ...]
    """Per tokenizer: hash of how it splits these texts; equal where two tokenizers do the same."""

    @property
    def n_cut(self) -> int:
        """Texts that were longer than the window."""
        return int(sum(cut < len(text) for cut, text in zip(self.cuts[View.PLAIN], self.texts, strict=True)))

    def scored_text(self, index: int) -> str:
        """What is scored of a text: up to the common cut, without its prompt."""
        return self.texts[index][self.prompts[index] : int(self.cuts[View.PLAIN][index])]

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
        """The passages of some texts in one view, as one tokenizer splits them."""
        texts = [
            self.texts[i][: self.prompts[i]] + self.scored_text(i).lower() if view is View.LOWERCASED else self.texts[i]
            for i in indices
        ]
        encoded = encode(self.tokenizers[tokenizer], texts, [self.prompts[i] for i in indices])
        return [passage.head(int(self.cuts[view][i])) for i, passage in zip(indices, encoded, strict=True)]


def build(
    texts: Sequence[str],
    tokenizers: Sequence[Any],
    *,
    views: Sequence[View],
    shots: Sequence[str],
    window: int,
    prompts: Sequence[int] | None = None,
    on_texts: Callable[[int], None] = lambda _: None,
) -> Passages:
    """Decide for every text and view where it is cut, once for all models.

    Args:
        texts: of the records.
        tokenizers: one per way of splitting that the audit's models bring.
        views: those that some attack needs; the plain one is always built.
        shots: texts of the prefix, dropped from the end until they fill at most half of the window.
        window: tokens that the smallest model reads.
        prompts: leading characters of each text that are its prompt; None for none.
        on_texts: called with the number of texts finished.
    """
    leads = tuple(lead_ids(tokenizer) for tokenizer in tokenizers)
    given = tuple(prompts) if prompts is not None else (0,) * len(texts)
    n_shots, prefixes = _fitting_shots(shots, tokenizers, leads, window)
    rooms = {View.PLAIN: [max(0, window - len(lead)) for lead in leads]}
    if View.PREFIXED in views and n_shots:
        rooms[View.PREFIXED] = [room - len(ids) for room, ids in zip(rooms[View.PLAIN], prefixes, strict=True)]
    if View.LOWERCASED in views:
        rooms[View.LOWERCASED] = rooms[View.PLAIN]
    cuts = {view: np.zeros(len(texts), dtype=np.int32) for view in rooms}
    counts = {view: [0] * len(tokenizers) for view in rooms}
    digests = [hashlib.sha256(repr(lead).encode()) for lead in leads]
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        whole = [encode(tokenizer, chunk) for tokenizer in tokenizers]
        for digest, passages in zip(digests, whole, strict=True):
            for passage in passages:
                digest.update(passage.ids.size.to_bytes(4, "little") + passage.ids.tobytes())
        for view, room in rooms.items():
            shown, encoded = chunk, whole
            if view is View.LOWERCASED:
                shown = [
                    text[: given[i]] + text[given[i] : cuts[View.PLAIN][i]].lower()
                    for i, text in enumerate(chunk, start=start)
                ]
                encoded = [encode(tokenizer, shown) for tokenizer in tokenizers]
            for i, text in enumerate(shown):
                of_text = [passages[i] for passages in encoded]
                cut = cuts[view][start + i] = common_cut(of_text, room, n_chars=len(text))
                for k, passage in enumerate(of_text):
                    counts[view][k] += int(np.searchsorted(passage.char_end, cut, side="right"))
        on_texts(len(chunk))
    return Passages(
        texts=tuple(texts),
        prompts=given,
        tokenizers=tuple(tokenizers),
        leads=leads,
        prefixes=prefixes,
        window=window,
        n_shots=n_shots,
        cuts=cuts,
        n_tokens={view: tuple(found) for view, found in counts.items()},
        splits=tuple(digest.hexdigest() for digest in digests),
    )


def _fitting_shots(
    shots: Sequence[str], tokenizers: Sequence[Any], leads: Sequence[tuple[int, ...]], window: int
) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """How many shots fill at most half of the window under every tokenizer, and their tokens."""
    for n_shots in range(len(shots), 0, -1):
        prefix = SHOT_SEPARATOR.join(shots[:n_shots])
        ids = tuple(tuple(encode(tokenizer, [prefix])[0].ids.tolist()) for tokenizer in tokenizers)
        if all(len(lead) + len(found) <= window // 2 for lead, found in zip(leads, ids, strict=True)):
            return n_shots, ids
    return 0, tuple(() for _ in tokenizers)
