"""Weight files: which ones make up a checkpoint, what they hold, and their hash; nothing is loaded."""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import safe_open

from kdaudit import foreign
from kdaudit.errors import CheckpointError, ModelError
from kdaudit.foreign import LFS_POINTER, check_regular, is_file, is_folder, reading, reason
from kdaudit.models.gguf import MAGIC

PICKLE_PATTERNS = ("pytorch_model*.bin", "adapter_model.bin")
ADAPTER_CONFIG = "adapter_config.json"
GENERATION = "generation_config.json"
TEMPLATES = "additional_chat_templates"
SAFE = ".safetensors"
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""The first bytes of what torch.save and pickle write."""
HEAD_BYTES = 9
MAX_HEADER = 2**25
"""Bytes of a safetensors header: a shard with 100,000 tensors takes about 15 MB."""
MAX_NAME = 200
PLAIN_NAME = re.compile(r"[^/\\\x00-\x1f]+")
SHOWN_SHARDS = 5
STEP = 50_000_000
"""Nanoseconds in which the clock of a file system moves; the slowest clock of a kernel takes 10 milliseconds."""
COARSE_STEP = 2_000_000_000
"""The same for file systems that know whole seconds alone."""
TEXT_LIMITS = {
    ".json": 2**23, ".jinja": 2**20, ".txt": 2**28, ".model": 2**28, ".tiktoken": 2**28,
    "tokenizer.json": 2**28, "vocab.json": 2**26, "added_tokens.json": 2**26, "tekken.json": 2**26,
    "model.safetensors.index.json": 2**25, "pytorch_model.bin.index.json": 2**25,
}  # fmt: skip
"""Bytes of what libraries read whole, by name or kind: about four times the largest that is known."""
DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16"}
FLOATS = {"F64", "F32", *DTYPE_NAMES}


def weight_files(folder: Path, option: str, *, allow_pickle: bool) -> list[Path]:
    """The files that hold a checkpoint's weights: those that transformers or peft would read, and no others.

    What a file holds is decided by its content: a pickle under another name is one, whoever names it.

    Raises:
        CheckpointError: there are none, some of an index are missing or lie elsewhere, or they are pickled and that is
            not allowed.
        ModelError: one is damaged.
    """
    if is_file(folder):
        _check_gguf(folder, option)
        return [folder]
    check_folder(folder, option)
    files = _named_files(folder, option, allow_pickle=allow_pickle)
    for path in files:
        _check_content(path, option, allow_pickle=allow_pickle)
    return files


def _check_gguf(path: Path, option: str) -> None:
    try:
        check_regular(path)
        with path.open("rb") as file:
            head = file.read(len(LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{option}: {path} cannot be read: {error.strerror}") from error
    if head == LFS_POINTER:
        raise CheckpointError(
            f"{option}: {path} is a pointer of Git LFS: the file itself was not fetched",
            hint=f"run `git lfs pull` in {path.parent}",
        )
    if not head.startswith(MAGIC):
        raise ModelError(f"{option}: {path} is no GGUF file: it does not begin with GGUF", hint="download it again")


def check_folder(folder: Path, option: str) -> None:
    """Refuse a checkpoint folder whose files a library would open and never be done with: pipes, devices, huge texts.

    Pointers of Git LFS, which stand in the place of files that were not fetched, are refused with them.

    Raises:
        CheckpointError: naming the file.
    """
    try:
        paths = [*folder.iterdir(), *(folder / TEMPLATES).glob("*")]
    except OSError as error:
        raise CheckpointError(f"{option}: {folder} cannot be read: {reason(error)}") from error
    for path in paths:
        limit = TEXT_LIMITS.get(path.name, TEXT_LIMITS.get(path.suffix))
        is_read = limit is not None or path.suffix in {".safetensors", ".bin", ".pt", ".pth"}
        if not is_read or is_folder(path):
            continue
        try:
            check_regular(path)
            n_bytes = path.stat().st_size
            with path.open("rb") as file:
                is_pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
        except OSError as error:
            raise CheckpointError(f"{option}: {path} cannot be read: {error.strerror}") from error
        if is_pointer:
            raise CheckpointError(
                f"{option}: {path} is a pointer of Git LFS: the file itself was not fetched",
                hint=f"run `git lfs pull` in {folder}",
            )
        if limit is not None and n_bytes > limit:
            raise CheckpointError(f"{option}: {path} is too large: {n_bytes:,} bytes, at most {limit:,} can be meant")
    if is_file(folder / GENERATION):
        with suppress(OSError, ValueError):  # transformers goes on without one that it cannot read, but not with this
            if not isinstance(foreign.read_json(folder / GENERATION), dict):
                raise CheckpointError(f"{option}: {folder / GENERATION} is not a JSON object")


def _named_files(folder: Path, option: str, *, allow_pickle: bool) -> list[Path]:
    is_adapter = is_file(folder / ADAPTER_CONFIG)
    whole = folder / ("adapter_model.safetensors" if is_adapter else "model.safetensors")
    if is_file(whole):
        return [whole]
    index = folder / "model.safetensors.index.json"
    if is_file(index) and not is_adapter:
        return _shards(index, option, SAFE)
    pickled = _pickled(folder, option, is_adapter=is_adapter)
    if pickled and allow_pickle:
        return pickled
    if pickled:
        raise CheckpointError(
            f"{option}: {folder} holds only pickled weights ({pickled[0].name}), which can run code when read",
            hint="convert them to safetensors (model.save_pretrained), or accept the risk with --allow-pickle",
        )
    raise CheckpointError(
        f"{option}: {folder} holds no weights ({whole.name}{'' if is_adapter else ' or its index'})",
        hint="give the folder that save_pretrained wrote; of the Hub, pickled weights come only with --allow-pickle",
    )


def _pickled(folder: Path, option: str, *, is_adapter: bool) -> list[Path]:
    whole = folder / ("adapter_model.bin" if is_adapter else "pytorch_model.bin")
    if is_file(whole):
        return [whole]
    index = folder / "pytorch_model.bin.index.json"
    return _shards(index, option, ".bin") if is_file(index) and not is_adapter else []


def _shards(index: Path, option: str, suffix: str) -> list[Path]:
    placed = read_json(index, option).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        raise CheckpointError(f"{option}: {index} says not which weights lie where")
    names = sorted(set(placed.values()))
    strangers = [name for name in names if len(name) > MAX_NAME or not PLAIN_NAME.fullmatch(name)]
    strangers += [name for name in names if name not in strangers and not name.endswith(suffix)]
    if strangers:
        raise CheckpointError(
            f"{option}: {index} names {strangers[0][:MAX_NAME]!r}, and its weights can lie in files of its own folder "
            f"alone whose names end in {suffix}",
            hint="save the checkpoint again (model.save_pretrained)",
        )
    shards = [index.parent / name for name in names]
    lacking = [path.name for path in shards if not is_file(path)]
    if lacking or not shards:
        raise CheckpointError(f"{option}: {index.parent} lacks {_listed(lacking) or 'every shard'} of its index")
    return shards


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_SHARDS} more" if len(names) > SHOWN_SHARDS else ""
    return ", ".join(names[:SHOWN_SHARDS]) + more


def _check_content(path: Path, option: str, *, allow_pickle: bool) -> None:
    """A safetensors file begins with the length of its header, 8 bytes, and the header, a JSON object."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{option}: {path} cannot be read: {error.strerror}") from error
    is_pickle = head.startswith(PICKLE_STARTS) and head[8:9] != b"{"
    if path.suffix != SAFE and allow_pickle:
        return
    if is_pickle or path.suffix != SAFE:
        raise CheckpointError(
            f"{option}: {path} is not a safetensors file but {'a pickle' if is_pickle else 'another kind'}, "
            "which can run code when read",
            hint="convert it to safetensors (model.save_pretrained)",
        )
    length = int.from_bytes(head[:8], "little")
    if len(head) < HEAD_BYTES or head[8:9] != b"{" or length > min(MAX_HEADER, path.stat().st_size):
        raise ModelError(
            f"{option}: {path} is damaged or incomplete: it has no header of safetensors",
            hint="download or save it again",
        )


def count_weights(files: list[Path], option: str) -> tuple[int, int, str]:
    """Number of stored numbers, bytes of their files, and the dtype of most floats; no weight is read.

    Raises:
        ModelError: a file is damaged or incomplete.
    """
    counts: Counter[str] = Counter()
    for path in files:
        if path.suffix != SAFE:
            counts["F32"] += path.stat().st_size // 4
            continue
        hint = "download or save it again"
        with (
            reading(f"{option}: {path} is damaged or incomplete", ModelError, hint=hint),
            safe_open(path, framework="numpy") as tensors,
        ):
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                entry = tensors.get_slice(name)
                counts[entry.get_dtype()] += math.prod(entry.get_shape())
    floats = {dtype: n for dtype, n in counts.items() if dtype in FLOATS} or counts
    main = max(floats, key=lambda dtype: counts[dtype], default="F32")
    return counts.total(), sum(path.stat().st_size for path in files), DTYPE_NAMES.get(main, "float32")


def shapes_in(files: list[Path], option: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in weight files, by name; no weight is kept.

    Raises:
        ModelError: a file is damaged or incomplete.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        with reading(f"{option}: {path} is damaged or incomplete", ModelError, hint="download or save it again"):
            if path.suffix == SAFE:
                with safe_open(path, framework="numpy") as tensors:
                    shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
                continue
            import torch  # for pickles alone

            held = torch.load(path, map_location="meta", weights_only=True)
            shapes |= {name: tuple(weight.shape) for name, weight in held.items()}
    return shapes


def read_json(path: Path, option: str) -> dict[str, Any]:
    """A JSON object of a checkpoint folder.

    Raises:
        CheckpointError: it cannot be read or is not an object.
    """
    try:
        content = foreign.read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{option}: {path} cannot be read: {reason(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{option}: {path} is not a JSON object")
    return content


def sha256_files(files: list[Path]) -> str:
    """The SHA-256 over the contents of files, in their order; one that has not changed since is not read again."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(_digest(path))
    return digest.hexdigest()


def name_files(files: list[Path]) -> str:
    """A name for files that is another one for other files, and for the same ones after a change; none is read."""
    versions = []
    for path in files:
        with path.open("rb") as file:
            versions.append(_version(file))
    return sha256_text(repr(versions))


_digests: dict[tuple[int, ...], bytes] = {}
"""By what the operating system says of a file: the SHA-256 of its content."""


def _digest(path: Path) -> bytes:
    """The SHA-256 of a file.

    It is kept for the next time only where every later change must show: the times of a file move in steps, and a file
    that was written in this very step could be written once more in it.
    """
    with path.open("rb") as file:
        before, now = _version(file), time.time_ns()
        if before not in _digests:
            digest = hashlib.file_digest(file, "sha256").digest()
            last = max(before[-2:])
            if _version(file) != before or now - last < (COARSE_STEP if last % 10**9 == 0 else STEP):
                return digest
            _digests[before] = digest
    return _digests[before]


def _version(file: BinaryIO) -> tuple[int, ...]:
    """What differs after a file was written: where it lies, its size, and its times in nanoseconds."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def sha256_text(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
