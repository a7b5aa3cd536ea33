"""GGUF files of the tests' own, as llama.cpp's converter lays them out: a small LFM2, its weights packed in Q8_0."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny

ALIGNMENT, BLOCK, F32, Q8_0 = 32, 32, 0, 8
NAMES = {
    r"^model\.embed_tokens\.": "token_embd.", r"^model\.embedding_norm\.": "token_embd_norm.", r"^lm_head\.": "output.",
    r"^model\.layers\.": "blk.", r"\.operator_norm\.": ".attn_norm.", r"\.self_attn\.q_proj\.": ".attn_q.",
    r"\.self_attn\.k_proj\.": ".attn_k.", r"\.self_attn\.v_proj\.": ".attn_v.",
    r"\.self_attn\.out_proj\.": ".attn_output.", r"\.self_attn\.q_layernorm\.": ".attn_q_norm.",
    r"\.self_attn\.k_layernorm\.": ".attn_k_norm.", r"\.feed_forward\.w1\.": ".ffn_gate.",
    r"\.feed_forward\.w3\.": ".ffn_up.", r"\.feed_forward\.w2\.": ".ffn_down.",
    r"\.conv\.in_proj\.": ".shortconv.in_proj.", r"\.conv\.out_proj\.": ".shortconv.out_proj.",
    r"\.conv\.conv\.": ".shortconv.conv.",
}  # fmt: skip
"""Of transformers: llama.cpp's, from its conversion of LFM2."""


def save_both(folder: Path, *, seed: int, lines: list[str]) -> tuple[Path, Path]:
    """A GGUF file, and a checkpoint folder that holds its weights as they are after dequantising."""
    import torch
    from transformers import Lfm2Config, Lfm2ForCausalLM

    split = tiny.tokenizer()
    config = Lfm2Config(
        vocab_size=len(split), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128, conv_L_cache=3, block_auto_adjust_ff_dim=False,
        layer_types=["conv", "full_attention"], bos_token_id=0, eos_token_id=0, pad_token_id=0,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Lfm2ForCausalLM(config).eval()
        tiny.teach(made, split, lines)
    packed = {name: _packed(weight.detach().numpy()) for name, weight in made.named_parameters()}
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.copy_(torch.from_numpy(packed[name][2]))
    made.save_pretrained(folder / "whole")
    split.save_pretrained(folder / "whole")
    path = folder / "model.gguf"
    path.write_bytes(_file(config, split, packed))
    return path, folder / "whole"


def _packed(values: np.ndarray[Any, Any]) -> tuple[int, bytes, np.ndarray[Any, Any]]:
    """Type, content, and what dequantising makes of it: a float16 scale and 32 whole numbers a block."""
    if values.ndim != 2 or values.shape[1] % BLOCK:
        return F32, values.astype("<f4").tobytes(), values
    blocks = values.reshape(-1, BLOCK).astype(np.float32)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
    whole = np.round(blocks / np.maximum(scale.astype(np.float32), 1e-12)).clip(-127, 127).astype(np.int8)
    content = b"".join(one.tobytes() + row.tobytes() for one, row in zip(scale, whole, strict=True))
    return Q8_0, content, (scale.astype(np.float32) * whole).reshape(values.shape)


def _file(config: Any, split: Any, packed: dict[str, tuple[int, bytes, np.ndarray[Any, Any]]]) -> bytes:
    backend = json.loads(split.backend_tokenizer.to_str())["model"]
    tokens = sorted(backend["vocab"], key=backend["vocab"].get)
    merges = [one if isinstance(one, str) else " ".join(one) for one in backend["merges"]]
    metadata: dict[str, Any] = {
        "general.architecture": "lfm2", "lfm2.context_length": 128, "lfm2.embedding_length": 32,
        "lfm2.feed_forward_length": 64, "lfm2.block_count": 2, "lfm2.attention.head_count": 2,
        "lfm2.attention.head_count_kv": [0, 1], "lfm2.attention.layer_norm_rms_epsilon": float(config.norm_eps),
        "lfm2.shortconv.l_cache": 3, "lfm2.rope.freq_base": 10000.0, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [3 if token == "<s>" else 1 for token in tokens],
        "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 0, "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
    }  # fmt: skip
    head = b"GGUF" + struct.pack("<IQQ", 3, len(packed), len(metadata))
    head += b"".join(_string(key) + _value(value) for key, value in metadata.items())
    data = b""
    for name, (kind, content, values) in packed.items():
        for pattern, other in NAMES.items():
            name = re.sub(pattern, other, name)
        shape = [size for size in values.shape if size > 1] if values.ndim == 3 else list(values.shape)
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(data))
        data += content + b"\0" * (-len(content) % ALIGNMENT)
    return head + b"\0" * (-len(head) % ALIGNMENT) + data


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        kind = 8 if isinstance(value[0], str) else 5
        items = (_string(item) if kind == 8 else struct.pack("<i", item) for item in value)
        return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(items)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)
