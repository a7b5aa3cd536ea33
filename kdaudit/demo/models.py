"""The demo's tokenizers and architectures, small enough to be trained on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
START, PAD, STOP, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
CONTEXT = 512  # tokens: three shots of the recall attack fill half of it
VOCABULARY = 1024  # tokens
WIDTH = 96
HEADS = 4


def new_tokenizer(kind: str, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of about `VOCABULARY` tokens for models of a kind, trained on some texts."""
    return TOKENIZERS[kind](texts)


def new_model(kind: str, tokenizer: PreTrainedTokenizerFast, *, n_layers: int, seed: int) -> PreTrainedModel:
    """A model without dropout; its initial weights depend on the seed and leave torch's global state alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[kind](tokenizer, n_layers)


def byte_pairs(texts: Sequence[str], *, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """GPT-2's kind: byte-level BPE that pads with the end-of-text token and never adds it."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = _byte_pairs(texts, vocabulary, [END])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=CONTEXT)


def enclosing_byte_pairs(texts: Sequence[str], *, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """RoBERTa's kind: byte-level BPE that puts a text between <s> and </s>."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    special = [START, PAD, STOP, UNKNOWN, MASK]
    tokenizer = _byte_pairs(texts, vocabulary, special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {STOP}", pair=f"{START} $A {STOP} {STOP} $B {STOP}",
        special_tokens=[(word, special.index(word)) for word in (START, STOP)],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=STOP, cls_token=START, sep_token=STOP, pad_token=PAD,
        unk_token=UNKNOWN, mask_token=MASK, model_max_length=CONTEXT,
    )  # fmt: skip


def _byte_pairs(texts: Sequence[str], vocabulary: int, special: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _gpt2(tokenizer: Any, n_layers: int) -> PreTrainedModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=WIDTH, n_layer=n_layers, n_head=HEADS,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own function, computed by one kernel
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def _roberta(tokenizer: Any, n_layers: int) -> PreTrainedModel:
    from transformers import RobertaConfig, RobertaForMaskedLM

    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=n_layers, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, type_vocab_size=1,
        max_position_embeddings=CONTEXT + 2,  # its first two places are those of padding
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return RobertaForMaskedLM(config)


TOKENIZERS: Mapping[str, Callable[[Sequence[str]], PreTrainedTokenizerFast]] = {
    "causal": byte_pairs,
    "masked": enclosing_byte_pairs,
}
"""By the kind of the models."""
MODELS: Mapping[str, Callable[[Any, int], PreTrainedModel]] = {"causal": _gpt2, "masked": _roberta}
"""By kind: (tokenizer, layers) -> a model with random weights."""
