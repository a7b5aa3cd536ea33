"""Checkpoints of any size whose weight files have real headers and no content: they take no room on the disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tests import tiny

SHARD_BYTES = 5 * 10**9


def save(folder: Path, config: Any, *, vocabulary: int = tiny.VOCABULARY) -> Path:
    """A checkpoint of a causal model in bfloat16, in shards, with a small tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        model = AutoModelForCausalLM.from_config(config)
    stored = revert_weight_conversion(model, model.state_dict())  # names as in the files
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    shapes = {name: tuple(weight.shape) for name, weight in stored.items() if name not in tied}
    config.architectures, config.dtype = [type(model).__name__], "bfloat16"
    config.save_pretrained(folder)
    tiny.tokenizer(vocabulary=vocabulary).save_pretrained(folder)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes.items():
        if shards[-1] and _bytes(shards[-1]) + 2 * math.prod(shape) > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    placed: dict[str, str] = {}
    for k, shard in enumerate(shards, start=1):
        path = folder / f"model-{k:05}-of-{len(shards):05}.safetensors"
        _write(path, shard)
        placed |= dict.fromkeys(shard, path.name)
    index = {"metadata": {"total_size": 2 * sum(map(math.prod, shapes.values()))}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _bytes(shard: dict[str, tuple[int, ...]]) -> int:
    return 2 * sum(map(math.prod, shard.values()))


def _write(path: Path, shard: dict[str, tuple[int, ...]]) -> None:
    header, end = {}, 0
    for name, shape in shard.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end)
