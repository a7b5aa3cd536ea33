"""A text is read by the rules of its own length, whatever it shares a batch or a cache with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from kdaudit.models.lengths import LengthRules, length_rules
from kdaudit.signals.engine import measure
from kdaudit.signals.running import settle
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame
from tests import tiny

ORIGINAL = 16
"""Tokens up to which the short set of factors, or the plain frequencies, hold."""
LENGTHS = (40, 33, 16, 17, 15, 9, 16, 17, 30, 30, 2, 12)
HALF_HEAD = 8

LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * HALF_HEAD, "long_factor": [4.0] * HALF_HEAD,
    "original_max_position_embeddings": ORIGINAL, "factor": 4.0, "short_mscale": 1.0, "long_mscale": 1.4,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
RULES = {"longrope": (LONGROPE, 64), "dynamic": (DYNAMIC, ORIGINAL)}
BY_LENGTH = [
    ("phi3", "longrope"), ("phimoe", "longrope"), ("llama", "longrope"), ("llama", "dynamic"), ("gpt_neox", "dynamic"),
    ("gemma3_text", "longrope"),
]  # fmt: skip


def settings_of(model_type: str, kind: str) -> dict[str, Any]:
    rope, context = RULES[kind]
    shared = {
        "vocab_size": tiny.VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": context,
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    special: Mapping[str, dict[str, Any]] = {
        "phimoe": {"num_local_experts": 2}, "gpt_neox": {"rotary_pct": 1.0},
        "gemma3_text": {"rope_parameters": {"full_attention": rope, "sliding_attention": {"rope_theta": 1e4}},
                        "layer_types": ["full_attention", "sliding_attention"]},
        "minicpm3": {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16,
                     "v_head_dim": 16},
    }  # fmt: skip
    return {**shared, "rope_parameters": dict(rope), **special.get(model_type, {})}


def made(model_type: str, kind: str, **changes: Any) -> Any:
    config = transformers.CONFIG_MAPPING[model_type](**{**settings_of(model_type, kind), **changes})
    config.original_max_position_embeddings = ORIGINAL
    config.rope_parameters.setdefault("original_max_position_embeddings", ORIGINAL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(6 if weight.ndim > 1 else 1)
    return model


def passages(lengths: tuple[int, ...]) -> list[Passage]:
    rng = np.random.default_rng(1)
    ends = [np.arange(1, n + 1, dtype=np.int32) for n in lengths]
    return [Passage(rng.integers(1, 250, len(end)).astype(np.int32), end, end) for end in ends]


def alone(model: Any, ids: list[int], first: int) -> list[float]:
    """Log-probabilities of the tokens from `first` on, in a pass of their own through a model that is like new."""
    for module in model.modules():
        if "dynamic" in str(getattr(module, "rope_type", "")):
            torch.nn.Module.__setattr__(module, "max_seq_len_cached", module.original_max_seq_len)
            module.inv_freq = module.original_inv_freq
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    return [float(logits[i - 1, ids[i]]) for i in range(first, len(ids))]


def check_each(model: Any, front: Frame, batch_tokens: int) -> None:
    shard = passages(LENGTHS)
    found = next(measure(model, [shard], front, batch_tokens=batch_tokens))
    before = [*front.lead, *front.prefix]
    for passage, signals in zip(shard, found, strict=True):
        expected = alone(model, [*before, *passage.ids.tolist()], len(before) + (0 if front.lead else 1))
        assert signals.logprob == pytest.approx(np.array(expected), abs=1e-4)


FRONTS = [
    Frame(CAUSAL),
    Frame(CAUSAL, (0,)),
    Frame(CAUSAL, (0,), (7, 9, 11)),
    Frame(CAUSAL, (0,), tuple(range(1, 15))),
    Frame(CAUSAL, (), (5,) * 20),
]


@pytest.mark.parametrize(("model_type", "kind"), BY_LENGTH)
def test_a_score_never_depends_on_batch_mates_or_prefix_where_rules_change_by_length(
    model_type: str, kind: str
) -> None:
    model = made(model_type, kind)
    for front, batch_tokens in [*((front, 10_000) for front in FRONTS), (FRONTS[1], 60)]:
        check_each(model, front, batch_tokens)


@pytest.mark.parametrize(("model_type", "kind"), BY_LENGTH)
def test_padding_does_change_these_models(model_type: str, kind: str) -> None:
    """Else the test above would show nothing."""
    model = made(model_type, kind)
    ids = passages((12,))[0].ids.tolist()
    gaps = np.array(alone(model, ids, 1)) - np.array(alone(model, [*ids, *[0] * 12], 1)[:11])
    assert np.abs(gaps).max() > 1e-3


def test_a_cached_prefix_serves_the_lengths_that_are_read_as_it_was() -> None:
    runner = settle(made("llama", "longrope"), passages((10, 9)), Frame(CAUSAL, (0,), (7, 9)))
    assert runner.at(ORIGINAL).n_cached == 2
    assert runner.at(ORIGINAL + 1).n_cached == 0


class Shifting(torch.nn.Module):
    """Reads sequences of more than 20 tokens otherwise, and no configuration says so."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.inner(ids)
        return states * (3 if ids.shape[1] > 20 else 1)


@pytest.mark.parametrize("lead", [(), (0,)])
def test_a_rule_that_no_configuration_names_is_found_by_trying(lead: tuple[int, ...]) -> None:
    model = tiny.model("gpt2")
    model.transformer.wte = Shifting(model.transformer.wte)
    model.get_input_embeddings = lambda: model.transformer.wte.inner
    check_each(model, Frame(CAUSAL, lead), 10_000)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_models_that_read_all_lengths_alike_are_padded_as_ever(architecture: str) -> None:
    assert length_rules(tiny.model(architecture)) == LengthRules()


def test_rules_are_those_of_the_length_alone() -> None:
    rules = LengthRules((4, 8), own_from=10)
    assert rules.rule(1) == rules.rule(4) != rules.rule(5)
    assert len({rules.rule(n) for n in (4, 8, 9, 10)}) == 3
    assert len({rules.rule(n) for n in range(11, 20)}) == 9
    assert rules.n_alike([12, 12, 11]) == 2
    assert rules.n_alike([8, 7, 5, 4, 1]) == 3
    assert rules.n_alike([3]) == 1


def every_rotary_model() -> Iterator[str]:
    import inspect

    for model_type, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        found = getattr(transformers, name, None)
        if found is not None and "dynamic_rope_update" in inspect.getsource(inspect.getmodule(found)):  # type: ignore[arg-type]
            yield model_type


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_architecture_that_can_be_told_to_change_its_rules_is_scored_text_by_text() -> None:
    n_tried, failures = 0, []
    for model_type in every_rotary_model():
        for kind in RULES:
            try:
                small = transformers.CONFIG_MAPPING[model_type](**settings_of(model_type, kind))
                with torch.device("meta"):
                    size = sum(w.numel() for w in transformers.AutoModelForCausalLM.from_config(small).parameters())
                model = made(model_type, kind) if size < 3_000_000 else None
                if model is None:
                    continue
                alone(model, [1, 2, 3], 1)
            except Exception:
                continue
            n_tried += 1
            try:
                check_each(model, FRONTS[1], 10_000)
                check_each(model, FRONTS[3], 10_000)
            except Exception as error:
                failures.append((model_type, kind, repr(error)[:300]))
    assert n_tried > 60
    assert not failures, failures
