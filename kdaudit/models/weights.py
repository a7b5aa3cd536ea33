"""Weight files: which ones make up a checkpoint, what they hold, and their hash; nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from kdaudit.errors import CheckpointError, ModelError

PICKLE_PATTERNS = ("pytorch_model*.bin", "adapter_model.bin")
DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "I64": 8,
    "I32": 4,
    "BF16": 2,
    "F16": 2,
    "I8": 1,
    "U8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16"}


def weight_files(folder: Path, option: str, *, allow_pickle: bool) -> list[Path]:
    """The files that hold a checkpoint's weights.

    Raises:
        CheckpointError: there are none, some of an index are missing, or they are pickled and that is not allowed.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(read_json(index, option).get("weight_map", {}).values()))
        files = [folder / shard for shard in shards]
        lacking = [path.name for path in files if not path.is_file()]
        if lacking or not files:
            raise CheckpointError(f"{option}: {folder} lacks {', '.join(lacking) or 'every shard'} of its index")
        return files
    for name in ("adapter_model.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return [folder / name]
    pickled = sorted(path for pattern in PICKLE_PATTERNS for path in folder.glob(pattern))
    if pickled and allow_pickle:
        return pickled
    if pickled:
        raise CheckpointError(
            f"{option}: {folder} holds only pickled weights ({pickled[0].name}), which can run code when read",
            hint="convert them to safetensors (model.save_pretrained), or accept the risk with --allow-pickle",
        )
    raise CheckpointError(
        f"{option}: {folder} holds no weights (model.safetensors or its index, or adapter_model.safetensors)",
        hint="give the folder that save_pretrained wrote",
    )


def count_weights(files: list[Path], option: str) -> tuple[int, int, str]:
    """Number of weights, their bytes, and the dtype of most of them; read from the headers alone.

    Raises:
        ModelError: a file is damaged or incomplete.
    """
    counts: dict[str, int] = {}
    for path in files:
        if path.suffix != ".safetensors":
            counts["F32"] = counts.get("F32", 0) + path.stat().st_size // 4
            continue
        for entry in _safetensors_header(path, option).values():
            size = 1
            for length in entry["shape"]:
                size *= length
            counts[entry["dtype"]] = counts.get(entry["dtype"], 0) + size
    n_bytes = sum(DTYPE_BYTES.get(dtype, 4) * count for dtype, count in counts.items())
    main = max(counts, key=lambda dtype: counts[dtype], default="F32")
    return sum(counts.values()), n_bytes, {"F16": "float16", "BF16": "bfloat16"}.get(main, "float32")


def _safetensors_header(path: Path, option: str) -> dict[str, Any]:
    """The header of a safetensors file: eight bytes of length, then JSON; the data must be as long as it says."""
    damaged = ModelError(
        f"{option}: {path} is damaged or incomplete", hint="download or save it again; its size does not match"
    )
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length + 8 > size:
            raise damaged
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError as error:
            raise damaged from error
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if 8 + length + end != size:
        raise damaged
    return header


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
