"""The teacher's log-probabilities, written down once: training then needs no teacher in memory."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kdaudit.artefacts import replacing
from kdaudit.distill.batches import collate, inputs_of, n_targets
from kdaudit.distill.losses import CHUNK_ELEMENTS, CachedOutputs, target_rows
from kdaudit.distill.student import Speaker
from kdaudit.errors import ModelError
from kdaudit.foreign import is_file, reading
from kdaudit.targets.plan import Example, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_VERSION = 3  # the name of a shard holds the target plans
SHARD_TOKENS = 2**16  # a killed run loses at most one shard of each process
SHOWN_SECONDS = 120  # NFS remembers for a minute that a file was not there


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Everything that can change a number in the cache, the sequences apart."""

    cache_version: int
    teacher: str
    """Fingerprint of weights, configuration and quantisation."""
    dtype: str
    temperature: float
    top_k: int
    vocabulary: int | None
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TeacherCache:
    """Where the log-probabilities of each of n examples in each of E epochs lie: shard files, and what is in them.

    E is 1 where an example is shown alike in every epoch.
    """

    paths: tuple[tuple[Path, ...], ...]
    """By epoch."""
    shard_of: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    """(n,): index into the paths of an epoch."""
    start_of: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    """(E, n): first row of each example in its shard."""
    n_targets: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    """(E, n): rows of each example."""

    def read(self, rows: Sequence[int], epoch: int, device: torch.device) -> CachedOutputs:
        """What the teacher said of the targets of some examples in an epoch, one example after the other."""
        at = epoch % len(self.paths)
        parts = [(torch.zeros((0, 1)), torch.zeros((0, 1)), torch.zeros(0))] if max(rows) < 0 else []
        for row in rows:
            if row < 0:
                continue
            start = int(self.start_of[at, row])
            span = slice(start, start + int(self.n_targets[at, row]))
            with safe_open(self.paths[at][int(self.shard_of[row])], framework="pt") as shard:
                names = ("words", "log_probs", "log_rest")
                words, log_probs, log_rest = (shard.get_slice(name)[span] for name in names)
            parts.append((words, log_probs, log_rest))
        words, log_probs, log_rest = (torch.cat(column).to(device) for column in zip(*parts, strict=True))
        return CachedOutputs(words.long(), log_probs, log_rest)


def open_cache(
    folder: Path,
    key: CacheKey,
    examples: Sequence[Example],
    speak: Callable[[], Speaker],
    *,
    kind: Kind,
    n_epochs: int,
    device: torch.device,
    batch_tokens: int,
    on_tokens: Callable[[int, int], None] = lambda done, total: None,
    process: int = 0,
    n_processes: int = 1,
    wait: Callable[[], None] = lambda: None,
) -> TeacherCache:
    """The teacher's log-probabilities for all examples; what is not in `folder` yet is computed and written.

    Each of several processes writes every so manyth file. What a file holds depends on its examples alone, so that any
    number of processes writes the same files and continues what any other number has begun.

    Args:
        folder: of the cache; another teacher, temperature or sequence gets other files in it.
        key: what the numbers depend on.
        examples: all training sequences.
        speak: loads the teacher; called only if something is missing.
        kind: of teacher and student.
        n_epochs: of the training: where an example is shown otherwise in each, the teacher is asked in each.
        device: of the teacher.
        batch_tokens: tokens of one forward pass at most.
        on_tokens: told (tokens done, tokens in all) of the share of this process.
        process: the number of this one, from 0 on.
        n_processes: that share the work.
        wait: returns when every process has called it.

    Raises:
        ModelError: what another process was to write is not there.
        DiskFullError: no space is left; finished shards are kept.
        OutputError: the folder cannot be written.
    """
    shards = list(_shards(examples))
    epochs = range(n_epochs if kind.varies else 1)
    counts = np.array([[n_targets(one, kind, epoch) for one in examples] for epoch in epochs], dtype=np.int64)
    paths = [
        tuple(_path(folder, key, [examples[i] for i in shard], kind, epoch) for shard in shards) for epoch in epochs
    ]
    files = [
        (epoch, shard, path, int(counts[epoch, shard].sum()))
        for epoch, of_epoch in zip(epochs, paths, strict=True)
        for shard, path in zip(shards, of_epoch, strict=True)
    ]
    own = files[process::n_processes]
    total = sum(examples[i].size for _, shard, _, _ in own for i in shard)
    done = 0
    teacher: Speaker | None = None
    for epoch, shard, path, n_rows in own:
        if not _is_whole(path, n_rows):
            teacher = teacher or speak()
            columns = [
                _top(teacher, batch, key, kind, epoch, device)
                for batch in _batches([examples[i] for i in shard], batch_tokens)
            ]  # fmt: skip
            names = ("words", "log_probs", "log_rest")
            joined = [torch.cat(column) for column in zip(*columns, strict=True)]
            with replacing(path) as waiting:
                save_file(dict(zip(names, joined, strict=True)), waiting)
        done += sum(examples[i].size for i in shard)
        on_tokens(done, total)
    wait()
    _await([(path, n_rows) for _, _, path, n_rows in files])
    shard_of = np.repeat(np.arange(len(shards)), [len(shard) for shard in shards])
    start_of = np.concatenate([np.cumsum(counts[:, shard], axis=1) - counts[:, shard] for shard in shards], axis=1)
    return TeacherCache(tuple(paths), shard_of, start_of, counts)


def _top(
    teacher: Speaker, batch: Sequence[Example], key: CacheKey, kind: Kind, epoch: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words, their log-probabilities and the log of the rest for the targets of a batch in an epoch."""
    made = collate([(row, epoch, example) for row, example in enumerate(batch)], kind)
    with torch.no_grad():
        outputs = teacher(inputs_of(made, device)).outputs
        states = outputs.states.flatten(0, 1)[target_rows(made["targets"]).to(device)]
        width = (states if outputs.head is None else outputs.head(states[:1])).shape[-1]
        size = max(1, CHUNK_ELEMENTS.get(device.type, 2**24) // int(width))
        parts = []
        for some in states.split(size):
            logits = (some if outputs.head is None else outputs.head(some))[:, : key.vocabulary].float()
            scores = (logits / key.temperature).log_softmax(-1)
            k = min(key.top_k, scores.shape[-1])
            log_probs, words = scores.topk(k, dim=-1)
            rest = scores.scatter(-1, words, -torch.inf).logsumexp(-1)
            parts.append((words.int().cpu(), log_probs.cpu(), rest.cpu()))
    words, log_probs, rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return words, log_probs, rest


def _shards(examples: Sequence[Example]) -> Iterator[list[int]]:
    shard: list[int] = []
    room = SHARD_TOKENS
    for index, example in enumerate(examples):
        if shard and example.size > room:
            yield shard
            shard, room = [], SHARD_TOKENS
        shard.append(index)
        room -= example.size
    yield shard


def _batches(examples: Sequence[Example], batch_tokens: int) -> Iterator[list[Example]]:
    """Neighbours in order, padded together."""
    batch: list[Example] = []
    for example in examples:
        width = max(one.size for one in [*batch, example])
        if batch and width * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(example)
    yield batch


def _path(folder: Path, key: CacheKey, examples: Sequence[Example], kind: Kind, epoch: int) -> Path:
    sha = hashlib.sha256(json.dumps(asdict(key), sort_keys=True).encode())
    for example in examples:
        showing = kind.learn(example, epoch)
        read = (showing.ids, showing.source) if showing.source.size else (showing.ids,)
        for array in (*read, showing.columns, showing.targets):
            sha.update(array.size.to_bytes(4, "little") + array.tobytes())
    name = sha.hexdigest()
    return folder / name[:2] / f"{name}.safetensors"


def _await(files: Sequence[tuple[Path, int]]) -> None:
    """Look for what other processes have written; a shared file system shows it to another host after some time."""
    end = time.monotonic() + SHOWN_SECONDS
    lacking = [file for file in files if not _is_whole(*file)]
    while lacking:
        if time.monotonic() > end:
            raise ModelError(
                f"{len(lacking)} of {len(files)} files of the teacher's cache are not there: {lacking[0][0]}",
                hint="--teacher-cache must be a folder that all processes share",
            )
        time.sleep(1)
        lacking = [file for file in lacking if not _is_whole(*file)]


def _is_whole(path: Path, n_rows: int) -> bool:
    """Whether a shard is there, with the three tensors that `open_cache` writes and no others."""
    if not is_file(path):  # to open a pipe would never end
        return False
    try:
        with reading(str(path), ModelError), safe_open(path, framework="pt") as shard:
            found = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 - no mapping
            shapes = {name: (part.get_dtype(), *part.get_shape()) for name, part in found.items()}
            width = shapes["words"][-1]
            return shapes == {
                "words": ("I32", n_rows, width), "log_probs": ("F32", n_rows, width), "log_rest": ("F32", n_rows),
            }  # fmt: skip
    except ModelError:
        return False
