"""The engine gives what each text alone gives, for every architecture, batch and prefix."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from kdaudit.errors import ModelError
from kdaudit.signals import engine, running, vocabulary
from kdaudit.signals.engine import device_name, measure
from kdaudit.signals.running import PROBE_TOKENS, settle
from kdaudit.signals.tokens import TokenSignals
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Frame
from tests import tiny

LENGTHS = (23, 2, 9, 1, 0, 17, 23, 5, 12, 3)
LEADS = [(), (0,)]
ALONE = Frame(CAUSAL)
NAMES = ("logprob", "logprob_mean", "logprob_std", "logprob_top")
TOLERANCE = 1e-4


@cache
def model_of(architecture: str) -> Any:
    return tiny.model(architecture)


@cache
def passages(lengths: tuple[int, ...] = LENGTHS, *, seed: int = 0) -> list[Passage]:
    """Real texts, each cut to one of these numbers of tokens."""
    whole = encode(tiny.tokenizer(), tiny.texts(len(lengths), seed=seed, n_words=100))
    return [Passage(p.ids[:n], p.char_end[:n], p.byte_end[:n]) for p, n in zip(whole, lengths, strict=True)]


def prefix(n_tokens: int) -> tuple[int, ...]:
    return tuple(passages((n_tokens,), seed=7)[0].ids.tolist())


def run(model: Any, shard: Sequence[Passage], front: Frame = ALONE, *, batch_tokens: int = 60) -> list[TokenSignals]:
    return next(measure(model, [shard], front, batch_tokens=batch_tokens))


def alone(model: Any, passage: Passage, front: Frame) -> NDArray[np.float64]:
    """(4, T) in float64: one text without any batch, every logit kept, shifted by one token."""
    ids = [*front.lead, *front.prefix, *passage.ids.tolist()]
    if len(ids) < 2:
        return np.zeros((4, 0))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].double()
    first = len(ids) - passage.ids.size + (0 if front.lead else 1)
    logp = logits.log_softmax(-1)[first - 1 :]
    mean = (logp.exp() * logp).sum(-1)
    std = (logp.exp() * (logp - mean[:, None]) ** 2).sum(-1).sqrt()
    at_target = logp.gather(-1, torch.tensor(ids[first:]).long()[:, None])[:, 0]
    return torch.stack([at_target, mean, std, logp.amax(-1)]).numpy()


def stacked(found: TokenSignals) -> NDArray[np.float32]:
    return np.stack([getattr(found, name) for name in NAMES])


def check_each(model: Any, shard: Sequence[Passage], front: Frame, found: Sequence[TokenSignals]) -> None:
    assert len(found) == len(shard)
    for passage, signals in zip(shard, found, strict=True):
        expected = alone(model, passage, front)
        assert stacked(signals).shape == expected.shape
        assert stacked(signals) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_signals_are_those_of_the_text_alone(architecture: str, lead: tuple[int, ...]) -> None:
    model, front = model_of(architecture), Frame(CAUSAL, lead)
    check_each(model, passages(), front, run(model, passages(), front))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_neither_batch_nor_order_nor_a_missing_pad_token_matters(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shard = model_of(architecture), passages()
    expected = run(model, shard)
    order = np.random.default_rng(0).permutation(len(shard))
    shuffled = run(model, [shard[i] for i in order], batch_tokens=10_000)
    monkeypatch.setattr(model.config, "pad_token_id", None)
    one_by_one = run(model, shard, batch_tokens=1)
    for position, i in enumerate(order):
        for found in (shuffled[position], one_by_one[i]):
            assert stacked(found) == pytest.approx(stacked(expected[i]), abs=TOLERANCE)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_prefix_gives_what_one_pass_over_everything_gives(architecture: str, lead: tuple[int, ...]) -> None:
    model, front = model_of(architecture), Frame(CAUSAL, lead, prefix(30))
    runner = settle(model, passages()[:3], front)
    assert (runner.n_cached > 0) == (architecture != "mamba")
    assert runner.head is not None
    check_each(model, passages(), front, run(model, passages(), front))


@pytest.mark.parametrize("size", [1, 2])
def test_a_prefix_of_hardly_any_token_counts_too(size: int) -> None:
    front = Frame(CAUSAL, (), prefix(size))
    check_each(model_of("gpt2"), passages(), front, run(model_of("gpt2"), passages(), front))


@pytest.mark.parametrize("n_prefix", [5, 8, 30])
def test_a_prefix_may_be_longer_than_the_attention_window(n_prefix: int) -> None:
    config = transformers.MistralConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, sliding_window=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)
    front = Frame(CAUSAL, (0,), prefix(n_prefix))
    check_each(model, passages(), front, run(model, passages(), front))


def test_a_cached_prefix_is_not_computed_again() -> None:
    model = tiny.model("llama")
    widths: list[int] = []
    model.model.register_forward_pre_hook(lambda *call: widths.append(call[2]["input_ids"].shape[1]), with_kwargs=True)
    list(measure(model, [passages((20,) * 8)] * 5, Frame(CAUSAL, (0,), prefix(40)), batch_tokens=100))
    assert sum(width > 40 for width in widths) <= 2, "once for the cache, once to check it"
    assert widths[-10:] == [21] * 10


def on_cache(model: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Let the model's body do something else wherever it is given a cache that is filled."""

    def check(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        if named.get("past_key_values") is not None:
            change(named)
        return given, named

    model.model.register_forward_pre_hook(check, with_kwargs=True)


def forget(named: dict[str, Any]) -> None:
    named["past_key_values"] = None


def refuse_two(named: dict[str, Any]) -> None:
    if named["input_ids"].shape[0] > 1:
        raise RuntimeError("Sizes of tensors must match except in dimension 2. Expected size 1 but got size 2")


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
@pytest.mark.parametrize("change", [forget, refuse_two])
def test_a_cache_that_does_not_serve_is_left_out(change: Callable[[dict[str, Any]], None], batch_tokens: int) -> None:
    model, front = tiny.model("llama"), Frame(CAUSAL, (0,), prefix(30))
    on_cache(model, change)
    check_each(model, passages(), front, run(model, passages(), front, batch_tokens=batch_tokens))


def test_the_first_token_is_scored_only_after_a_lead() -> None:
    shard = passages((4,))
    bare, led = (run(model_of("gpt2"), shard, Frame(CAUSAL, lead))[0] for lead in LEADS)
    assert (bare.logprob.size, led.logprob.size) == (3, 4)
    assert (bare.byte_start, led.byte_start) == (int(shard[0].byte_end[0]), 0)
    assert led.byte_end.tolist() == shard[0].byte_end.tolist()
    assert bare.byte_end.tolist() == shard[0].byte_end[1:].tolist()
    assert bare.n_bytes + bare.byte_start == led.n_bytes


@pytest.mark.parametrize("lead", LEADS)
def test_texts_with_nothing_to_score_keep_their_place(lead: tuple[int, ...]) -> None:
    shard = passages((0, 1, 6, 0, 1))
    found = run(model_of("gpt2"), shard, Frame(CAUSAL, lead))
    n_unscored = 0 if lead else 1
    assert [one.logprob.size for one in found] == [max(0, n - n_unscored) for n in (0, 1, 6, 0, 1)]
    assert [one.byte_end.size for one in found] == [one.logprob.size for one in found]
    assert [one.byte_start for one in found] == [int(p.byte_end[0]) if p.ids.size and not lead else 0 for p in shard]


def test_a_shard_may_be_empty_or_hold_nothing_to_score() -> None:
    shard = passages((5,))
    found = list(measure(model_of("gpt2"), [[], passages((0, 1)), shard, []], ALONE, batch_tokens=60))
    assert [[one.logprob.size for one in signals] for signals in found] == [[], [0, 0], [4], []]


def test_progress_adds_up_to_the_tokens_of_all_texts() -> None:
    counts: list[int] = []
    shards = [passages(), passages((3, 1, 0))]
    list(measure(model_of("gpt2"), shards, ALONE, batch_tokens=30, on_tokens=counts.append))
    assert sum(counts) == sum(LENGTHS) + 4
    assert len(counts) > 4


def test_logits_of_a_whole_batch_never_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = 16
    monkeypatch.setitem(vocabulary.CHUNK_ELEMENTS, "cpu", chunk * tiny.VOCABULARY)
    model = tiny.model("gpt2", context=256)
    shapes: list[tuple[int, ...]] = []
    model.lm_head.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape)))
    shard = passages((200,) * 6)
    found = run(model, shard, batch_tokens=10_000)
    check_each(model, shard[:1], ALONE, found[:1])
    probes = [shape for shape in shapes[:-1] if len(shape) == 3]
    assert all(rows * tokens <= engine.PROBE_PASSAGES * PROBE_TOKENS for rows, tokens, _ in probes)
    chunks = [shape for shape in shapes[:-1] if len(shape) == 2]
    assert all(rows <= chunk for rows, _ in chunks)
    assert sum(rows for rows, _ in chunks) >= 6 * 199


@pytest.mark.parametrize("front", [ALONE, Frame(CAUSAL, (), prefix(30))], ids=["alone", "prefix"])
def test_logits_that_no_head_gives_are_the_models_own(front: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("gpt2")
    expected = run(model, passages(), front)
    assert settle(model, passages()[:2], front).head is not None
    monkeypatch.setattr(running, "_heads", lambda _: iter(()))
    assert settle(model, passages()[:2], front).head is None
    for found, other in zip(run(model, passages(), front), expected, strict=True):
        assert stacked(found) == pytest.approx(stacked(other), abs=TOLERANCE)


LIKE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
CHANGED: dict[str, dict[str, Any]] = {
    "CohereConfig": {"logit_scale": 0.3}, "GraniteConfig": {"logits_scaling": 7.0},
    "FalconH1Config": {"lm_head_multiplier": 0.6}, "Gemma2Config": {"head_dim": 16, "final_logit_softcapping": 0.5},
    "RecurrentGemmaConfig": {"logits_soft_cap": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("spread", [0.02, 4.0])
def test_a_head_scales_or_caps_its_logits_as_the_model_does(name: str, spread: float) -> None:
    settings = getattr(transformers, name)(**LIKE, **CHANGED[name])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(settings).eval()
        ids = torch.randint(1, 300, (2, 12))
    torch.nn.Module.get_parameter(model, "lm_head.weight").data.mul_(spread / 0.02)
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits
        split = running.split_head(model, {"input_ids": ids}, own)
        assert split is not None
        states = 30 * torch.randn(5, 32)
        head: Any = split.head
        factor, cap = head.factor, head.cap
        plain = model.get_output_embeddings()(states)
        expected = plain * factor if cap is None else cap * torch.tanh(plain / cap)
        assert (factor is None) != (cap is None)
        torch.testing.assert_close(head(states), expected)


def mask_words(model: Any) -> Any:
    """The model with some words made impossible, as some do with the padding of their vocabulary."""

    def mask(_: Any, __: Any, output: Any) -> Any:
        output.logits[..., -3:] = -torch.inf
        return output

    model.register_forward_hook(mask)
    return model


def test_impossible_words_neither_blind_the_checks_nor_spoil_the_signals() -> None:
    shard = [Passage(p.ids % 290, p.char_end, p.byte_end) for p in passages()]
    with pytest.raises(ModelError, match="later tokens"):
        run(mask_words(tiny.model("bert")), shard)
    found = run(mask_words(tiny.model("gpt2")), shard)
    assert all(np.isfinite(stacked(one)).all() for one in found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_full_precision(dtype: torch.dtype) -> None:
    front = Frame(CAUSAL, (0,), prefix(20))
    expected = run(model_of("llama"), passages(), front)
    half = tiny.model("llama").to(dtype)
    for found, other in zip(run(half, passages(), front), expected, strict=True):
        assert found.logprob.dtype == np.float32
        assert stacked(found) == pytest.approx(stacked(other), abs=0.05)


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
def test_an_encoder_is_refused_whether_or_not_two_texts_go_together(batch_tokens: int) -> None:
    with pytest.raises(ModelError, match="not a causal language model") as caught:
        run(model_of("bert"), passages(), batch_tokens=batch_tokens)
    assert "BERT" in caught.value.hint


def test_logits_that_are_no_numbers_are_refused() -> None:
    model = tiny.model("gpt2")
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        run(model, passages())


ENDS = np.array([1, 2], np.int32)


@pytest.mark.parametrize("front", [ALONE, Frame(CAUSAL, (280,)), Frame(CAUSAL, (), (280, 1))])
def test_a_token_outside_the_models_vocabulary_is_refused(front: Frame) -> None:
    model = tiny.model("gpt2", vocabulary=280)
    known = [Passage(p.ids % 280, p.char_end, p.byte_end) for p in passages()]
    shard = known if front.lead or front.prefix else [Passage(np.array([1, 299], np.int32), ENDS, ENDS)]
    with pytest.raises(ModelError, match="knows 280 tokens"):
        run(model, shard, front)


def fail_above(model: Any, n_rows: int, error: BaseException) -> list[int]:
    """Let the model's body fail on batches of more rows than that; gives the rows of every attempt."""
    attempts: list[int] = []

    def check(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else given[0]
        attempts.append(ids.shape[0])
        if ids.shape[0] > n_rows:
            raise error

    getattr(model, model.base_model_prefix).register_forward_pre_hook(check, with_kwargs=True)
    return attempts


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("front", [ALONE, Frame(CAUSAL, (0,), prefix(20))], ids=["plain", "prefixed"])
@pytest.mark.parametrize("n_rows", [1, 5])
def test_where_memory_runs_out_the_batch_halves_and_stays_halved(
    n_rows: int, front: Frame, error: BaseException
) -> None:
    shard = passages((20,) * 37)
    expected = run(model_of("gpt2"), shard, front)
    model = tiny.model("gpt2")
    attempts = fail_above(model, n_rows, error)
    found = run(model, shard, front, batch_tokens=40 * 20)
    for one, other in zip(found, expected, strict=True):
        assert stacked(one) == pytest.approx(stacked(other), abs=TOLERANCE)
    failed = [rows for rows in attempts if rows > n_rows]
    assert 1 <= len(failed) <= 6
    assert failed == sorted(failed, reverse=True)
    assert all(rows <= n_rows for rows in attempts[2 * len(attempts) // 3 :])


def test_a_text_too_large_for_memory_by_itself_is_an_error_with_a_way_out() -> None:
    model = tiny.model("gpt2")
    fail_above(model, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(ModelError, match="single text of 23 tokens") as caught:
        run(model, passages())
    assert "--max-tokens" in caught.value.hint


def test_any_other_failure_of_the_model_is_not_taken_for_a_lack_of_memory() -> None:
    model = tiny.model("gpt2")
    attempts = fail_above(model, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(ModelError, match="cannot be run on texts: mat1 and mat2"):
        run(model, passages())
    assert len(attempts) == 1


def test_a_cpu_is_named_as_what_it_is() -> None:
    assert device_name("cpu") == "cpu"
