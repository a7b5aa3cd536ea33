"""Families of encoder-decoders, each from a tiny checkpoint on disk, are scored as their own logits say, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from kdaudit.errors import CheckpointError
from kdaudit.models.checkpoint import find
from kdaudit.models.headers import check_headers
from kdaudit.models.loading import load_tokenizer, loaded
from kdaudit.signals.engine import measure
from kdaudit.targets.frames import frame_of
from tests import pairs

WORDS = pairs.VOCABULARY
IDS: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3}
SIZE: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip


def like_bart(model_type: str, **settings: Any) -> Any:
    given = {
        **IDS, "vocab_size": WORDS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "max_position_embeddings": 64, "decoder_start_token_id": 0,
    }  # fmt: skip
    return t.CONFIG_MAPPING[model_type](**{**given, **settings})


def gemma() -> Any:
    half = {**SIZE, **IDS, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 32}
    encoder, decoder = t.T5GemmaModuleConfig(**half), t.T5GemmaModuleConfig(**half, is_decoder=True)
    return t.T5GemmaConfig(encoder=encoder, decoder=decoder, vocab_size=WORDS, **IDS)


def two_in_one(decoder: Any) -> Any:
    config: Any = t.EncoderDecoderConfig.from_encoder_decoder_configs(t.BertConfig(**SIZE, pad_token_id=0), decoder)
    config.decoder_start_token_id, config.pad_token_id = 3, 0
    return config


PROPHETNET: dict[str, Any] = {
    **IDS, "vocab_size": WORDS, "hidden_size": 32, "encoder_ffn_dim": 64, "num_encoder_layers": 1,
    "num_encoder_attention_heads": 2, "decoder_ffn_dim": 64, "num_decoder_layers": 1, "num_decoder_attention_heads": 2,
    "max_position_embeddings": 64, "decoder_start_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, Callable[[], Any]] = {
    "T5Gemma": gemma,
    "FSMT": lambda: like_bart(
        "fsmt", langs=["en", "de"], src_vocab_size=WORDS, tgt_vocab_size=WORDS, decoder_start_token_id=1
    ),
    "Marian": lambda: like_bart("marian"),
    "PLBART": lambda: like_bart("plbart", decoder_start_token_id=None),
    "LED": lambda: like_bart(
        "led", attention_window=[8, 8], max_encoder_position_embeddings=64, max_decoder_position_embeddings=64
    ),
    "BigBird-Pegasus": lambda: like_bart("bigbird_pegasus"),
    "NLLB": lambda: like_bart("m2m_100"),
    "BERT to BERT": lambda: two_in_one(t.BertConfig(**SIZE, pad_token_id=0)),
    "BERT to GPT-2": lambda: two_in_one(t.GPT2Config(vocab_size=WORDS, n_positions=64, n_embd=32, n_layer=2, n_head=2)),
}
STARTS = {"T5Gemma": 3, "FSMT": 1, "PLBART": 1, "BERT to BERT": 3, "BERT to GPT-2": 3}
"""The first token of the decoder where it is not 0; PLBART's is the last one of what it writes."""

pytestmark = pytest.mark.filterwarnings("ignore")


def save(config: Any, folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = t.AutoModelForSeq2SeqLM.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(3 if weight.ndim > 1 else 1)
    model.save_pretrained(folder)
    pairs.tokenizer("bart").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_models_own_logits_alone_and_in_a_batch(family: str, tmp_path: Path) -> None:
    checkpoint = find(str(save(FAMILIES[family](), tmp_path)), option="--student")
    check_headers(checkpoint, "cpu")
    split, records = load_tokenizer(checkpoint), pairs.texts(6, seed=0)
    frame = frame_of(
        checkpoint.kind, split, decoder_start=checkpoint.decoder_start, model_type=checkpoint.model_type,
        has_prompts=True,
    )  # fmt: skip
    assert frame.start[0] == STARTS.get(family, 0)
    shard = frame.kind.encode(split, [a + b for a, b in records], [len(prompt) for prompt, _ in records])
    with loaded(checkpoint, device="cpu", dtype="float32") as model:
        alone, together = (next(measure(model, [shard], frame, batch_tokens=size)) for size in (1, 400))
        for (prompt, completion), *found in zip(records, alone, together, strict=True):
            read, labels = (torch.tensor([split(text)["input_ids"]]) for text in (prompt, completion))
            shifted = torch.cat([torch.tensor([[frame.start[0]]]), labels[:, :-1]], dim=1)
            with torch.no_grad():
                scores = model(input_ids=read, decoder_input_ids=shifted, use_cache=False).logits[0].log_softmax(-1)
            is_scored = ~torch.isin(labels[0], torch.tensor(split.all_special_ids))
            expected = scores.gather(-1, labels[0][:, None])[:, 0][is_scored].numpy()
            for one in found:
                assert one.logprob == pytest.approx(expected, abs=1e-5)
    assert np.ptp(np.concatenate([one.logprob for one in together])) > 0.1, "the same everywhere would show nothing"


def test_prophetnet_is_refused_since_padding_moves_its_logits(tmp_path: Path) -> None:
    folder = save(t.ProphetNetConfig(**PROPHETNET), tmp_path)
    with pytest.raises(CheckpointError, match="whose logits change with the padding behind a text"):
        find(str(folder), option="--student")
    model = t.ProphetNetForConditionalGeneration.from_pretrained(folder).eval()
    read, written = torch.arange(5, 15)[None], torch.arange(20, 27)[None]
    padded, is_text = torch.zeros(1, 10, dtype=torch.int64), torch.zeros(1, 10, dtype=torch.int64)
    padded[:, :7], is_text[:, :7] = written, 1
    with torch.no_grad():
        own = model(input_ids=read, decoder_input_ids=written, use_cache=False).logits
        other = model(input_ids=read, decoder_input_ids=padded, decoder_attention_mask=is_text, use_cache=False).logits[
            :, :7
        ]
    assert float((own - other).abs().max()) > 1e-3, "as soon as this fails, ProphetNet can be scored"
