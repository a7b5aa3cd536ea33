"""Tiny masked models of real architectures, and the tokenizers that belong to them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from tests import tiny
from tests.commands import texts

PAD, UNK, CLS, SEP, MASK = range(5)
FAMILIES = ("bert", "roberta", "distilbert", "mobilebert", "albert", "electra", "deberta-v2", "modernbert")


@functools.cache
def word_pieces(*, lowercase: bool = True) -> Any:
    """A WordPiece tokenizer as BERT's: [CLS] text [SEP]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False)
    backend.train_from_iterator([*tiny.texts(100, seed=1000), *texts(100, seed=1000)], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


@functools.cache
def byte_pairs() -> Any:
    """A byte-level BPE tokenizer as RoBERTa's: <s> text </s>, pairs with </s></s> between."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts(200, seed=1000), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>",
    )  # fmt: skip


def config(family: str, n_words: int, context: int = 64) -> Any:
    """The configuration of a masked model of some ten thousand weights."""
    import transformers as t

    shared: dict[str, Any] = {
        "vocab_size": n_words, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": context, "pad_token_id": 0,
    }  # fmt: skip
    small = {**shared, "embedding_size": 16}
    configs: dict[str, Any] = {
        "bert": lambda: t.BertConfig(**shared),
        "roberta": lambda: t.RobertaConfig(**{**shared, "pad_token_id": 1, "max_position_embeddings": context + 2}),
        "distilbert": lambda: t.DistilBertConfig(
            vocab_size=n_words, dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=context
        ),
        "mobilebert": lambda: t.MobileBertConfig(**small, intra_bottleneck_size=16, num_feedforward_networks=1),
        "albert": lambda: t.AlbertConfig(**small),
        "electra": lambda: t.ElectraConfig(**small),
        "deberta-v2": lambda: t.DebertaV2Config(**shared, relative_attention=True, pos_att_type=["p2c", "c2p"]),
        "modernbert": lambda: t.ModernBertConfig(
            **shared, cls_token_id=CLS, sep_token_id=SEP, bos_token_id=CLS, eos_token_id=SEP, local_attention=8
        ),
    }
    return configs[family]()


def model(family: str = "bert", *, n_words: int, seed: int = 0, scale: float = 4.0, context: int = 64) -> Any:
    """A masked model with random weights, larger than the usual start so that its predictions differ."""
    from transformers import AutoModelForMaskedLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForMaskedLM.from_config(config(family, n_words, context)).eval()
        with torch.no_grad():
            for weight in made.parameters():
                if weight.ndim > 1:
                    weight.mul_(scale)
                else:
                    weight.add_(0.1 * torch.randn_like(weight))
    return made


def save(folder: Path, family: str = "bert", *, tokenizer: Any = None, seed: int = 0, context: int = 64) -> Path:
    """A checkpoint that knows how common each token is, and so is a language model of the tests' texts."""
    split = word_pieces() if tokenizer is None else tokenizer
    made = model(family, n_words=len(split), seed=seed, scale=1.0, context=context)
    counts = torch.full((len(split),), 0.01)
    for ids in split(texts(200, seed=1000), add_special_tokens=False)["input_ids"]:
        counts += torch.bincount(torch.tensor(ids), minlength=len(split))
    with torch.no_grad():
        made.get_output_embeddings().bias.copy_((counts / counts.sum()).log())
    made.save_pretrained(folder)
    split.save_pretrained(folder)
    return folder
