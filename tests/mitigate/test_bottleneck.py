"""A bottleneck starts as the best map of its rank, and is put wherever a feed-forward expands."""

import math

import pytest
import torch
import transformers
from torch.nn import functional

from kdaudit.errors import ConfigError, ExitCode
from kdaudit.mitigate.bottleneck import HEIGHT, SLOPE, TURNING_POINT, bottleneck
from kdaudit.models.surgery import Bottleneck
from tests import families, tiny
from tests.families import untrained

T5 = ("encoder.block.{}.layer.1.DenseReluDense", "decoder.block.{}.layer.2.DenseReluDense")
EXPANSIONS = {
    "gpt2": ["transformer.h.{}.mlp.c_fc"],
    "gpt_neox": ["gpt_neox.layers.{}.mlp.dense_h_to_4h"],
    "llama": ["model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"],
    "opt": ["model.decoder.layers.{}.fc1"],
    "bert": ["bert.encoder.layer.{}.intermediate.dense"],
    "roberta": ["roberta.encoder.layer.{}.intermediate.dense"],
    "distilbert": ["distilbert.transformer.layer.{}.ffn.lin1"],
    "mobilebert": ["mobilebert.encoder.layer.{}.intermediate.dense"],
    "albert": ["albert.encoder.albert_layer_groups.0.albert_layers.0.ffn"],
    "electra": ["electra.encoder.layer.{}.intermediate.dense"],
    "deberta-v2": ["deberta.encoder.layer.{}.intermediate.dense"],
    "modernbert": ["model.layers.{}.mlp.Wi"],
    "t5": [f"{T5[0]}.wi", f"{T5[1]}.wi"],
    families.GATED: [f"{T5[0]}.wi_0", f"{T5[0]}.wi_1", f"{T5[1]}.wi_0", f"{T5[1]}.wi_1"],
    **{name: ["model.encoder.layers.{}.fc1", "model.decoder.layers.{}.fc1"] for name in ("bart", "pegasus", "mbart")},
}


def test_the_constants_are_those_of_gelu_at_its_turning_point() -> None:
    z = torch.tensor(TURNING_POINT, dtype=torch.float64, requires_grad=True)
    value = functional.gelu(z)
    (slope,) = torch.autograd.grad(value, z, create_graph=True)
    (bend,) = torch.autograd.grad(slope, z)
    assert (value.item(), slope.item()) == pytest.approx((HEIGHT, SLOPE), abs=1e-12)
    assert abs(bend.item()) < 1e-12


@pytest.mark.parametrize("architecture", list(EXPANSIONS))
def test_every_expansion_is_replaced_and_nothing_else(architecture: str) -> None:
    model = untrained(architecture)
    expected = {path.format(layer) for path in EXPANSIONS[architecture] for layer in range(2)}
    others = {name for name, _ in model.named_parameters() if name.rpartition(".")[0] not in expected}
    assert bottleneck(model, 4).n_replaced == len(expected)
    assert {path for path, module in model.named_modules() if isinstance(module, Bottleneck)} == expected
    kept = {name for name, _ in model.named_parameters() if name.split(".down.")[0].split(".up.")[0] not in expected}
    assert kept == others


@pytest.mark.parametrize("architecture", list(EXPANSIONS))
def test_it_starts_within_2_percent_of_the_best_map_of_its_rank(architecture: str) -> None:
    model, reference = untrained(architecture), untrained(architecture)
    bottleneck(model, 8)
    model.requires_grad_(False)
    reference.requires_grad_(False)
    for template in EXPANSIONS[architecture]:
        path = template.format(1)
        original, part = reference.get_submodule(path).double(), model.get_submodule(path).double()
        n = part.down.in_features
        x = torch.randn(500, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        bias = original(torch.zeros(1, n, dtype=torch.float64))
        weight = (original(torch.eye(n, dtype=torch.float64)) - bias).T
        left, values, right = torch.linalg.svd(weight)
        best = x @ (left[:, :8] * values[:8] @ right[:8]).T + bias
        gap = torch.linalg.norm(part(x) - best) / torch.linalg.norm(best - bias)
        assert float(gap) < 0.02
        assert float(torch.linalg.norm(part(x) - original(x))) < 1.02 * float(torch.linalg.norm(best - original(x)))


@pytest.mark.parametrize(("width", "expected"), [(0.25, 8), (0.01, 1), (0.49, 16), (5, 5), (20, 20)])
def test_a_width_below_1_is_a_share_of_the_hidden_states(width: float, expected: int) -> None:
    model = tiny.model("gpt2")  # 32 to 128
    bottleneck(model, width)
    assert model.transformer.h[0].mlp.c_fc.down.out_features == expected


@pytest.mark.parametrize("width", [26, 0.8, 1000])
def test_a_bottleneck_that_saves_no_weight_is_refused_and_the_model_left_as_it_was(width: float) -> None:
    model = tiny.model("gpt2")  # 32 * 128 / (32 + 128) = 25.6
    with pytest.raises(ConfigError, match="save no weight") as caught:
        bottleneck(model, width)
    assert caught.value.hint == "give at most 25"
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert not any(isinstance(module, Bottleneck) for module in model.modules())
    bottleneck(model, 25)


def test_a_width_that_saves_exactly_nothing_is_refused() -> None:
    model = tiny.model("llama")
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(32, 32)  # 16 * (32 + 32) = 32 * 32
    with pytest.raises(ConfigError, match="save no weight"):
        bottleneck(model, 16)


def test_every_family_of_encoders_and_encoder_decoders_is_tried() -> None:
    assert set(families.FAMILIES) <= EXPANSIONS.keys()


def test_a_masked_model_whose_expansions_have_other_names_is_refused() -> None:
    config = transformers.FunnelConfig(vocab_size=50, block_sizes=[1], d_model=8, n_head=2, d_head=4, d_inner=16)
    with pytest.raises(ConfigError, match="FunnelForMaskedLM has no feed-forward expansion") as caught:
        bottleneck(transformers.FunnelForMaskedLM(config), 0.25)
    assert "mlp.Wi" in caught.value.hint


def test_a_model_without_an_expansion_is_refused_with_what_it_is_made_of() -> None:
    with pytest.raises(ConfigError, match="MambaForCausalLM has no feed-forward expansion") as caught:
        bottleneck(tiny.model("mamba"), 0.25)
    assert "2 Conv1d" in caught.value.hint
    assert "Linear" in caught.value.hint
    assert "c_fc" in caught.value.hint


def test_dtype_is_kept_and_the_model_stays_close_in_it() -> None:
    model, reference = (tiny.model("gpt2").to(torch.bfloat16) for _ in range(2))
    bottleneck(model, 25)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    ids = torch.arange(1, 30)[None]
    with torch.no_grad():
        ours, theirs = (m(input_ids=ids).logits.float().log_softmax(-1) for m in (model, reference))
    assert math.sqrt(float((ours - theirs).square().mean())) < 0.5
