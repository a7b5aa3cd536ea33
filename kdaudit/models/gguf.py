"""GGUF files: one file holds configuration, tokenizer and weights, which transformers' own reader dequantises."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.foreign import reading

SUFFIX = ".gguf"
MAGIC = b"GGUF"
PACKAGE = "gguf>=0.10.0"
"""What transformers reads most architectures with, as it names it."""
FLOATS = {0: "float32", 1: "float16", 30: "bfloat16"}
"""By type of a tensor in the file: what is stored whole."""
DAMAGED = "download it again"


def is_gguf(path: Path) -> bool:
    """Whether a path names a file of this kind, by its name."""
    return path.suffix.lower() == SUFFIX


def place_of(path: Path) -> tuple[Path, dict[str, Any]]:
    """What `from_pretrained` is called with: a folder, and for a GGUF file which one in it.

    The file is named in full: transformers looks for a bare name in the current folder first.
    """
    return (path.parent, {"gguf_file": str(path.resolve())}) if is_gguf(path) and path.is_file() else (path, {})


@contextmanager
def without_bar() -> Iterator[None]:
    """Within it transformers dequantises without the bar of its reader, which no setting of it switches off."""
    from transformers import modeling_gguf_pytorch_utils

    reader: Any = modeling_gguf_pytorch_utils
    own = reader.tqdm
    reader.tqdm = partial(own, disable=True)
    try:
        yield
    finally:
        reader.tqdm = own


def count_gguf(path: Path, option: str) -> tuple[int, int, str]:
    """Number of weights, bytes of the file, and what most weights are packed in; no weight is read.

    Raises:
        CheckpointError: what reads it is not installed.
        ModelError: the file is damaged or incomplete.
    """
    if find_spec("transformers.integrations.gguf") is None:
        raise CheckpointError(
            f"{option}: {path} is a GGUF file, and this release of transformers does not read its header",
            hint="pip install --upgrade transformers, or give the checkpoint's folder",
        )
    with reading(f"{option}: {path} is damaged or incomplete", ModelError, hint=DAMAGED):
        from transformers.integrations.gguf import GGUF_CONFIG_ARCHS  # type: ignore[attr-defined]  # no __all__
        from transformers.integrations.gguf.dequant import GGML_NAME
        from transformers.integrations.gguf.reader import GgufHeader

        header = GgufHeader.from_file(str(path))
        n_bytes = path.stat().st_size
        last = max((header.data_start + one.offset + one.nbytes for one in header.tensors), default=0)
        if not header.tensors or last > n_bytes:
            raise ModelError(f"{option}: {path} is damaged or incomplete: {last:,} bytes are described", hint=DAMAGED)
    if header.architecture not in GGUF_CONFIG_ARCHS and find_spec("gguf") is None:
        raise CheckpointError(
            f"{option}: {path} is a GGUF file of a {header.architecture} model, which transformers reads with the "
            "package gguf, and that is not installed",
            hint=f"pip install '{PACKAGE}'; or give a checkpoint folder with safetensors",
        )
    counts: Counter[int] = Counter()
    for one in header.tensors:
        counts[one.ggml_type] += math.prod(one.shape)
    main = counts.most_common(1)[0][0]
    return counts.total(), n_bytes, FLOATS.get(main) or GGML_NAME[main]
