"""Encoder-decoders are scored as transformers' own loss says, whatever stands beside a record in its batch."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from kdaudit.signals.engine import measure
from kdaudit.signals.running import settle
from kdaudit.signals.tokens import TokenSignals
from kdaudit.targets.passage import Passage, encode_apart
from kdaudit.targets.plan import Frame
from kdaudit.targets.seq2seq import pair_frame
from tests import pairs
from tests.targets.test_passage import wordwise

RECORDS = pairs.texts(12, seed=0)
NAMES = ("logprob", "logprob_mean", "logprob_std", "logprob_top")


@cache
def model_of(family: str) -> Any:
    return pairs.model(family)


def frame_of(family: str) -> Frame:
    config = model_of(family).config
    return pair_frame(pairs.tokenizer(family), config.decoder_start_token_id, config.model_type)


def passages(family: str, records: Sequence[tuple[str, str]] = RECORDS) -> list[Passage]:
    texts, prompts = [prompt + completion for prompt, completion in records], [len(prompt) for prompt, _ in records]
    return encode_apart(pairs.tokenizer(family), texts, prompts)


def run(family: str, shard: Sequence[Passage], *, batch_tokens: int = 200) -> list[TokenSignals]:
    return next(measure(model_of(family), [shard], frame_of(family), batch_tokens=batch_tokens))


def labelled(family: str, prompt: str, completion: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What one trains with: the prompt, and the completion with its special tokens."""
    split = pairs.tokenizer(family)
    return torch.tensor([split(prompt)["input_ids"]]), torch.tensor([split(text_target=completion)["input_ids"]])


@pytest.mark.parametrize("family", pairs.FAMILIES)
def test_a_score_is_minus_the_loss_that_transformers_gives_the_completion(family: str) -> None:
    model, split = model_of(family), pairs.tokenizer(family)
    for (prompt, completion), found in zip(RECORDS, run(family, passages(family)), strict=True):
        read, labels = labelled(family, prompt, completion)
        is_special = torch.isin(labels, torch.tensor(split.all_special_ids))
        shifted = model.prepare_decoder_input_ids_from_labels(labels)
        with torch.no_grad():
            scored = labels.masked_fill(is_special, -100)
            loss = model(input_ids=read, decoder_input_ids=shifted, labels=scored).loss
        n_tokens = len(split(completion, add_special_tokens=False)["input_ids"])
        assert found.logprob.size == n_tokens
        assert found.logprob.mean(dtype=np.float64) == pytest.approx(-float(loss), abs=1e-5)


@pytest.mark.parametrize("family", pairs.FAMILIES)
def test_all_four_signals_are_those_of_a_record_alone(family: str) -> None:
    model, split = model_of(family), pairs.tokenizer(family)
    for (prompt, completion), passage, found in zip(
        RECORDS, passages(family), run(family, passages(family)), strict=True
    ):
        read, labels = labelled(family, prompt, completion)
        with torch.no_grad():
            shifted = model.prepare_decoder_input_ids_from_labels(labels)
            scores = model(input_ids=read, decoder_input_ids=shifted).logits[0].double().log_softmax(-1)
        is_scored = ~torch.isin(labels[0], torch.tensor(split.all_special_ids))
        scores, targets = scores[is_scored], labels[0][is_scored]
        mean = (scores.exp() * scores).sum(-1)
        expected = torch.stack(
            [
                scores.gather(-1, targets[:, None])[:, 0],
                mean,
                (scores.exp() * (scores - mean[:, None]) ** 2).sum(-1).sqrt(),
                scores.amax(-1),
            ]
        )
        assert np.stack([getattr(found, name) for name in NAMES]) == pytest.approx(expected.numpy(), abs=1e-4)
        assert found.byte_start == len(prompt.encode())
        assert found.n_bytes == len(completion.encode())
        assert passage.byte_end[-1] == len((prompt + completion).encode())


@pytest.mark.parametrize("family", pairs.FAMILIES)
def test_neither_batch_mates_nor_padding_nor_order_moves_a_signal(family: str) -> None:
    shard = passages(family)
    alone = run(family, shard, batch_tokens=1)
    order = np.random.default_rng(0).permutation(len(shard))
    together = run(family, [shard[i] for i in order], batch_tokens=10_000)
    for position, i in enumerate(order):
        for name in NAMES:
            assert getattr(together[position], name) == pytest.approx(getattr(alone[i], name), abs=1e-4)


@pytest.mark.parametrize("family", pairs.FAMILIES)
def test_the_head_is_applied_where_a_token_is_predicted_and_nowhere_else(family: str) -> None:
    model, shard = pairs.model(family), passages(family)
    rows: list[int] = []
    frame = frame_of(family)
    runner = settle(model, shard[:2], frame)
    assert runner.head is not None
    model.get_output_embeddings().register_forward_hook(lambda *call: rows.append(call[2].shape[:-1].numel()))
    with torch.inference_mode():
        runner.run([frame.plan(one).showings[0] for one in shard], frame.kind, torch.device("cpu"))
    assert sum(rows) == sum(int(one.ids.size) - one.n_given for one in shard) + 1, "one row tells the vocabulary"


@pytest.mark.parametrize("is_tied", [True, False])
def test_both_heads_of_t5_are_found(is_tied: bool) -> None:
    import transformers

    given = {**pairs.config("t5").to_dict(), "tie_word_embeddings": is_tied}
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**given)).eval()
    assert settle(model, passages("t5")[:2], frame_of("t5")).head is not None


def test_a_batch_holds_no_more_than_its_tokens_with_the_padding_of_both_sides() -> None:
    widths: list[int] = []
    model = pairs.model("bart")

    def count(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        widths.append((named["input_ids"] if "input_ids" in named else given[0]).numel())

    for side in (model.model.encoder, model.model.decoder):
        side.register_forward_pre_hook(count, with_kwargs=True)
    words = " ".join(["knee"] * 12)
    shard = passages("bart", [(words, "a"), ("a", words)] * 10)
    assert len({one.ids.size for one in shard}) == 1
    list(measure(model, [shard], frame_of("bart"), batch_tokens=120))
    whole = [sum(pair) for pair in zip(widths[::2], widths[1::2], strict=True)]
    assert max(whole) <= 120
    assert len(whole) > 4


def test_prompt_and_completion_are_split_each_by_itself() -> None:
    split = pairs.tokenizer("t5")
    (found,) = passages("t5", [("pain in kn", "ee since Monday")])
    expected = [split(part, add_special_tokens=False)["input_ids"] for part in ("pain in kn", "ee since Monday")]
    assert found.ids.tolist() == [*expected[0], *expected[1]]
    assert found.n_given == len(expected[0])
    assert found.char_end[found.n_given - 1] == len("pain in kn")
    assert found.char_end[-1] == len("pain in knee since Monday")


def test_a_prompt_without_a_token_is_none_of_the_bytes_that_are_scored() -> None:
    (found,) = encode_apart(wordwise(), ["   knee"], [3])
    assert (found.n_given, found.byte_start) == (0, 3)
    (signals,) = run("t5", [found])
    assert (signals.byte_start, signals.n_bytes) == (3, 4)


def test_an_empty_prompt_is_read_and_an_empty_completion_is_not_scored() -> None:
    empty, unscored = passages("bart", [("", "knee"), ("knee", "")])
    assert frame_of("bart").plan(unscored).showings == ()
    (showing,) = frame_of("bart").plan(empty).showings
    assert showing.source.tolist() == [3, 1]
    found = run("bart", [empty, unscored])
    assert [one.logprob.size for one in found] == [empty.ids.size, 0]
    assert found[1].byte_start == 4


def test_what_is_learnt_is_the_completion_with_its_end_as_one_trains() -> None:
    for family in pairs.FAMILIES:
        frame, ((prompt, completion), *_) = frame_of(family), RECORDS
        read, labels = labelled(family, prompt, completion)
        shown = frame.kind.learn(frame.kind.example(passages(family)[0], frame, 64), 0)
        model = model_of(family)
        taught = labels if family != "mbart" else labels.masked_fill(labels == labels[0, -1], -100)
        with torch.no_grad():
            read_by_us, written = (torch.from_numpy(ids)[None].long() for ids in (shown.source, shown.ids))
            logits = model(input_ids=read_by_us, decoder_input_ids=written).logits[0]
            shifted = model.prepare_decoder_input_ids_from_labels(labels)
            own = model(input_ids=read, decoder_input_ids=shifted, labels=taught).loss
        found = functional.cross_entropy(logits[shown.columns], torch.from_numpy(shown.targets).long())
        assert float(found) == pytest.approx(float(own), abs=1e-4)


WORDS = ["▁", "▁knee", "▁pain", "▁left", "a", "b", "c", "d", "e", "f", "k", "n", "p", "i", "l", "t"]


@pytest.mark.parametrize(("name", "start"), [("MBartTokenizer", ["ro_RO"]), ("MBart50Tokenizer", ["</s>", "ro_RO"])])
def test_a_decoder_is_told_the_language_that_it_writes(name: str, start: list[str]) -> None:
    import transformers

    vocabulary = [(word, -float(place)) for place, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])]
    split = getattr(transformers, name)(vocab=vocabulary, src_lang="en_XX", tgt_lang="ro_RO")
    frame = pair_frame(split, split.convert_tokens_to_ids("en_XX"), "mbart")
    assert frame.start == tuple(split.convert_tokens_to_ids(start))
    assert split.convert_tokens_to_ids("en_XX") in frame.lead + frame.tail
    (passage,) = encode_apart(split, ["left knee pain"], [9])
    assert split.convert_ids_to_tokens(passage.ids.tolist()) == ["▁left", "▁knee", "▁pain"]
    config = transformers.MBartConfig(**{**pairs.config("mbart").to_dict(), "pad_token_id": 1, "eos_token_id": 2})
    model = transformers.MBartForConditionalGeneration(config).eval()
    labels = torch.tensor([split(text_target=" pain")["input_ids"]])
    shifted = model.prepare_decoder_input_ids_from_labels(labels)[0].tolist()
    (showing,) = frame.plan(passage).showings
    assert showing.ids.tolist() == shifted[: showing.ids.size]
    assert showing.source.tolist() == split("left knee")["input_ids"]


def test_where_no_tokenizer_says_the_language_the_configuration_does() -> None:
    assert pair_frame(pairs.tokenizer("mbart"), 7, "mbart").start == (7,)
    assert pair_frame(pairs.tokenizer("mbart"), None, "mbart").start == (4,)
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        pair_frame(pairs.tokenizer("t5"), None, "t5")


OTHERS = (
    "bigbird_pegasus", "blenderbot", "blenderbot-small", "led", "longt5", "m2m_100", "mt5", "mvp", "nllb-moe",
    "pegasus_x", "seamless_m4t", "switch_transformers", "umt5",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", OTHERS)
def test_other_families_are_scored_as_their_own_logits_say(model_type: str) -> None:
    import transformers

    settings: dict[str, Any] = {
        **pairs.config("bart").to_dict(), **pairs.config("t5").to_dict(), "num_decoder_layers": 2, "hidden_size": 32,
        "attention_window": [8, 8], "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64,
    }  # fmt: skip
    dropped = ("model_type", "architectures", "num_hidden_layers", "dtype", "transformers_version", "is_gated_act")
    kept = {name: value for name, value in settings.items() if name not in dropped}
    config = transformers.CONFIG_MAPPING[model_type](**{**kept, "decoder_start_token_id": 0})
    with torch.device("meta"):
        size = sum(w.numel() for w in transformers.AutoModelForSeq2SeqLM.from_config(config).parameters())
    assert size < 3_000_000
    torch.manual_seed(0)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    split, shard = pairs.tokenizer("bart"), passages("bart")
    frame = pair_frame(split, 0, model_type)
    assert settle(model, shard[:2], frame).head is not None
    for (prompt, completion), found in zip(
        RECORDS, next(measure(model, [shard], frame, batch_tokens=300)), strict=True
    ):
        read, labels = labelled("bart", prompt, completion)
        with torch.no_grad():
            scores = model(input_ids=read, labels=labels).logits[0].log_softmax(-1)
        is_scored = ~torch.isin(labels[0], torch.tensor(split.all_special_ids))
        expected = scores.gather(-1, labels[0][:, None])[:, 0][is_scored]
        assert found.logprob == pytest.approx(expected.numpy(), abs=2e-4)
