"""Weight files: which ones make up a checkpoint, what they hold, and their hash; nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kdaudit.errors import CheckpointError, ModelError

PICKLE_PATTERNS = ("pytorch_model*.bin", "adapter_model.bin")
ADAPTER_CONFIG = "adapter_config.json"
DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16"}
FLOATS = {"F64", "F32", *DTYPE_NAMES}


def weight_files(folder: Path, option: str, *, allow_pickle: bool) -> list[Path]:
    """The files that hold a checkpoint's weights: those that transformers or peft would read.

    Raises:
        CheckpointError: there are none, some of an index are missing, or they are pickled and that is not allowed.
    """
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    whole = folder / ("adapter_model.safetensors" if is_adapter else "model.safetensors")
    pickled = sorted(folder.glob("adapter_model.bin" if is_adapter else "pytorch_model*.bin"))
    if whole.is_file():
        return [whole]
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not is_adapter:
        return _shards(index, option)
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


def _shards(index: Path, option: str) -> list[Path]:
    placed = read_json(index, option).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        raise CheckpointError(f"{option}: {index} says not which weights lie where")
    outside = sorted(name for name in set(placed.values()) if name != os.path.basename(name) or name in {"", ".", ".."})
    if outside:
        raise CheckpointError(
            f"{option}: {index} names files outside of its folder ({outside[0][:80]!r})",
            hint="save the checkpoint again: the files of an index lie beside it",
        )
    shards = [index.parent / name for name in sorted(set(placed.values()))]
    lacking = [path.name for path in shards if not path.is_file()]
    if lacking or not shards:
        raise CheckpointError(f"{option}: {index.parent} lacks {', '.join(lacking) or 'every shard'} of its index")
    return shards


def count_weights(files: list[Path], option: str) -> tuple[int, int, str]:
    """Number of stored numbers, bytes of their files, and the dtype of most floats; no weight is read.

    Raises:
        ModelError: a file is damaged or incomplete.
    """
    counts: Counter[str] = Counter()
    for path in files:
        if path.suffix != ".safetensors":
            counts["F32"] += path.stat().st_size // 4
            continue
        try:
            with safe_open(path, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    entry = tensors.get_slice(name)
                    counts[entry.get_dtype()] += math.prod(entry.get_shape())
        except SafetensorError as error:
            raise ModelError(
                f"{option}: {path} is damaged or incomplete: {first_line(error)}", hint="download or save it again"
            ) from error
    floats = {dtype: n for dtype, n in counts.items() if dtype in FLOATS} or counts
    main = max(floats, key=lambda dtype: counts[dtype], default="F32")
    return counts.total(), sum(path.stat().st_size for path in files), DTYPE_NAMES.get(main, "float32")


def read_json(path: Path, option: str) -> dict[str, Any]:
    """A JSON object of a checkpoint folder.

    Raises:
        CheckpointError: it cannot be read or is no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{option}: {path} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{option}: {path} is not a JSON object")
    return content


def sha256_files(files: list[Path]) -> str:
    """Over the contents of files, in their order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def first_line(error: BaseException) -> str:
    """What an error of a library says, short enough for one line of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
