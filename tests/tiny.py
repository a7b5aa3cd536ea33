"""Tiny checkpoints and texts of the tests' own, saved as a user would save them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CONTEXT = 64
VOCABULARY = 300
WORDS = re.findall(
    r"\S+",
    "the patient reports pain in left knee since Monday and takes aspirin at night doctor finds no fever but mild "
    "swelling she will return next week with new results café naïve 中文 2024 120 80",
)


def texts(n: int, *, seed: int, n_words: int = 14) -> list[str]:
    """Distinct short texts of random words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, n_words)) + f" {seed} {i}." for i in range(n)]


def write_jsonl(path: Path, lines: list[str], *, prefix: str) -> Path:
    """One record a line, with an id."""
    rows = (json.dumps({"id": f"{prefix}{i}", "text": text}, ensure_ascii=False) for i, text in enumerate(lines))
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@functools.cache
def tokenizer(*, vocabulary: int = VOCABULARY, bos: bool = False, seed: int = 0) -> Any:
    """A byte-level BPE tokenizer; with `bos` it puts <s> in front of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts(200, seed=1000 + seed), trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<s>", pad_token="<s>")


def config(architecture: str, *, vocabulary: int = VOCABULARY, context: int = CONTEXT) -> Any:
    """The configuration of a model of some ten thousand weights."""
    import transformers as t

    shared: dict[str, Any] = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    llama_like = {
        **shared, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": context,
    }  # fmt: skip
    configs: dict[str, Any] = {
        "gpt2": lambda: t.GPT2Config(**shared, n_positions=context, n_embd=32, n_layer=2, n_head=2),
        "llama": lambda: t.LlamaConfig(**llama_like),
        "gemma2": lambda: t.Gemma2Config(**llama_like, head_dim=16, final_logit_softcapping=2.0, sliding_window=32),
        "gpt_neox": lambda: t.GPTNeoXConfig(
            **shared, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=context,
        ),
        "opt": lambda: t.OPTConfig(
            **shared, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=context, word_embed_proj_dim=32,
        ),
        "mamba": lambda: t.MambaConfig(**shared, hidden_size=32, state_size=4, num_hidden_layers=2),
        "bert": lambda: t.BertConfig(
            **shared, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=context,
        ),
    }  # fmt: skip
    return configs[architecture]()


ARCHITECTURES = ("gpt2", "llama", "gpt_neox", "opt", "mamba", "gemma2")


def model(architecture: str = "gpt2", *, seed: int = 0, vocabulary: int = VOCABULARY, context: int = CONTEXT) -> Any:
    """A model with random weights, larger than the usual start so that its predictions differ between texts."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(config(architecture, vocabulary=vocabulary, context=context)).eval()
        with torch.no_grad():
            for name, weight in made.named_parameters():
                if weight.ndim > 1 and "A_log" not in name:
                    weight.mul_(4)
    return made


def teach(made: Any, split: Any, lines: Sequence[str], *, width: int = 40) -> None:
    """Let a model learn a little of some texts, so that it is a language model of their kind; it never sees others."""
    import torch

    rows = [split(line)["input_ids"][:width] for line in lines]
    ids, labels = (torch.full((len(rows), width), fill) for fill in (0, -100))
    for place, row in enumerate(rows):
        ids[place, : len(row)] = labels[place, : len(row)] = torch.tensor(row)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(0.5 if weight.ndim > 1 else 1)
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(8):
        made(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def save(
    folder: Path,
    architecture: str = "gpt2",
    *,
    seed: int = 0,
    vocabulary: int = VOCABULARY,
    context: int = CONTEXT,
    bos: bool = False,
    tokenizer_seed: int = 0,
    lines: Sequence[str] = (),
) -> Path:
    """Save a checkpoint with its tokenizer; its weights are random unless it is given lines to learn from."""
    split = tokenizer(vocabulary=vocabulary, bos=bos, seed=tokenizer_seed)
    made = model(architecture, seed=seed, vocabulary=max(vocabulary, len(split)), context=context)
    if lines:
        teach(made, split, lines, width=min(40, context))
    made.save_pretrained(folder)
    split.save_pretrained(folder)
    return folder
