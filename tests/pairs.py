"""Tiny encoder-decoders and prompts with completions, made by the tests themselves."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny

VOCABULARY = 320
CONTEXT = 64
FAMILIES = ("t5", "bart", "pegasus", "mbart")
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(8))
AROUND = {
    "t5": "$A </s>", "pegasus": "$A </s>", "bart": "<s> $A </s>", "mbart": "$A </s> <xx>",
}  # fmt: skip
"""By family: the special tokens around a text."""


def texts(n: int, *, seed: int) -> list[tuple[str, str]]:
    """Distinct prompts with completions, both of random words."""
    rng = np.random.default_rng([seed, 3])

    def some(n_words: int) -> str:
        return " ".join(rng.choice(tiny.WORDS, n_words))

    return [(f"sum up: {some(int(rng.integers(3, 12)))}", f"{some(int(rng.integers(2, 9)))} {i}.") for i in range(n)]


@functools.cache
def tokenizer(family: str, *, seed: int = 0) -> Any:
    """A BPE tokenizer with spaces as letters, and a family's special tokens around a text; Unigram trains by chance."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", "<s>", "<xx>", *(SENTINELS if family == "t5" else ())]
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 40, special_tokens=special, show_progress=False)
    backend.train_from_iterator(tiny.texts(200, seed=2000 + seed), trainer)
    ids = [(name, special.index(name)) for name in ("</s>", "<s>", "<xx>") if name in AROUND[family]]
    backend.post_processor = processors.TemplateProcessing(single=AROUND[family], special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        extra_special_tokens={"t5": list(SENTINELS), "mbart": ["<xx>"]}.get(family, []),
    )  # fmt: skip


def config(family: str, *, context: int = CONTEXT) -> Any:
    """The configuration of an encoder-decoder of some ten thousand weights."""
    import transformers as t

    ids: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3, "vocab_size": VOCABULARY}
    like_bart: dict[str, Any] = {
        **ids, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": context,
        "forced_eos_token_id": 1,
    }  # fmt: skip
    like_t5: dict[str, Any] = {
        **ids, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0,
        "n_positions": context,
    }  # fmt: skip
    configs: dict[str, Any] = {
        "t5": lambda: t.T5Config(**like_t5),
        "bart": lambda: t.BartConfig(**like_bart, decoder_start_token_id=1),
        "pegasus": lambda: t.PegasusConfig(**like_bart, decoder_start_token_id=0),
        "mbart": lambda: t.MBartConfig(**like_bart),
    }  # fmt: skip
    return configs[family]()


def model(family: str, *, seed: int = 0, scale: float = 4.0, context: int = CONTEXT) -> Any:
    """A model with random weights, larger than the usual start; what its head adds to all logits is random too."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForSeq2SeqLM.from_config(config(family, context=context)).eval()
        with torch.no_grad():
            for weight in made.parameters():
                if weight.ndim > 1:
                    weight.mul_(scale if family != "t5" else scale**0.3)
            if hasattr(made, "final_logits_bias"):
                made.final_logits_bias.normal_()
    return made


def save(
    folder: Path,
    family: str,
    *,
    seed: int = 0,
    context: int = CONTEXT,
    tokenizer_seed: int = 0,
    others: Sequence[str] = (),
) -> Path:
    """Save a checkpoint with its tokenizer; it has learnt a little, so that it is a language model of the texts here.

    Args:
        folder: where to.
        family: of FAMILIES.
        seed: of the weights.
        context: tokens that it reads.
        tokenizer_seed: of the texts that its tokenizer is trained on.
        others: what it is to be a language model of too.
    """
    import torch

    made, split = model(family, seed=seed, scale=0.3, context=context), tokenizer(family, seed=tokenizer_seed)
    prompts, completions = zip(*texts(64, seed=1000), strict=True)
    gaps = [*tiny.texts(32, seed=1000, n_words=4), *others]
    completions += tuple(f"{SENTINELS[i % 8]} {text}" if family == "t5" else text for i, text in enumerate(gaps))
    read = split([*prompts, *gaps], padding=True, return_tensors="pt")
    labels = split(text_target=list(completions), padding=True, return_tensors="pt")["input_ids"]
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(15):
        loss = made(
            input_ids=read["input_ids"], attention_mask=read["attention_mask"],
            labels=labels.masked_fill(labels == split.pad_token_id, -100),
            decoder_input_ids=made.prepare_decoder_input_ids_from_labels(labels),
        ).loss  # fmt: skip
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    made.save_pretrained(folder)
    split.save_pretrained(folder)
    return folder


def write_jsonl(path: Path, pairs: list[tuple[str, str]], *, prefix: str) -> Path:
    """One record a line, with an id."""
    rows = [{"id": f"{prefix}{i}", "prompt": one, "completion": other} for i, (one, other) in enumerate(pairs)]
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path
