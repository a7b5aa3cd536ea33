"""Norms are replaced by the elementwise scale that is closest to them on the training texts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from kdaudit.distill.data import Curriculum
from kdaudit.distill.student import Distiller, LossTerms, speaker
from kdaudit.distill.trainer import Settings, Watch, _DistillTrainer
from kdaudit.errors import ConfigError, ExitCode, ModelError
from kdaudit.mitigate.base import Operation
from kdaudit.mitigate.no_norm import no_norm
from kdaudit.models.surgery import NoNorm
from kdaudit.targets.causal import CAUSAL
from tests import encoders, families, tiny
from tests.distill.training import read
from tests.families import untrained

INPUTS = {"input_ids": torch.randint(0, tiny.VOCABULARY, (16, 40), generator=torch.Generator().manual_seed(0))}
NORMS = {
    "gpt2": 5, "gpt_neox": 5, "llama": 5, "opt": 5, "mamba": 3, "gemma2": 9, "bert": 5, "roberta": 5, "distilbert": 5,
    "albert": 3, "electra": 5, "deberta-v2": 5, "modernbert": 5, "t5": 12, families.GATED: 12, "bart": 12,
    "pegasus": 12, "mbart": 14,
}  # fmt: skip
"""All but those of the head, which is `HEAD` in masked models."""
HEAD = "cls|lm_head|vocab_layer_norm|predictions|generator_predictions|head"
POST_NORM = {"bert", "roberta", "distilbert", "albert", "electra", "deberta-v2", "bart"}


def read_by(architecture: str) -> Mapping[str, torch.Tensor]:
    return families.inputs(architecture) if architecture in families.FAMILIES else INPUTS


def norms_of(model: Any) -> dict[str, Any]:
    return {path: module for path, module in model.named_modules() if re.search("Norm$", type(module).__name__)}


@pytest.mark.parametrize("architecture", list(NORMS))
def test_every_norm_of_the_body_is_replaced_and_an_rmsnorm_gets_no_bias(architecture: str) -> None:
    model = untrained(architecture)
    before = norms_of(model)
    assert no_norm(model, read_by(architecture)).n_replaced == NORMS[architecture]
    after = norms_of(model)
    assert after.keys() == before.keys()
    kept = {path for path, part in after.items() if not isinstance(part, NoNorm)}
    assert kept == {path for path in before if re.match(f"({HEAD})\\b", path)}
    assert len(kept) == (architecture in encoders.FAMILIES)
    for path, part in after.items():
        if path not in kept:
            assert (part.bias is None) == ("RMS" in type(before[path]).__name__ or "t5" in architecture)


def test_a_mobilebert_is_refused_since_it_was_trained_so() -> None:
    with pytest.raises(ConfigError, match="no RMSNorm below its head: plain scales") as caught:
        no_norm(untrained("mobilebert"), read_by("mobilebert"))
    assert "NoNorm" in caught.value.hint


def test_a_mobilebert_with_norms_loses_those_of_its_layers() -> None:
    config = encoders.config("mobilebert", len(encoders.word_pieces()))
    config.normalization_type = "layer_norm"
    model = transformers.MobileBertForMaskedLM(config).eval()
    n = len(norms_of(model))
    assert no_norm(model, read_by("mobilebert")) == Operation(n - 1)
    with pytest.raises(ConfigError, match="plain scales"):
        no_norm(model, read_by("mobilebert"))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_each_is_the_least_squares_fit_to_its_norm_on_what_reaches_it_then(architecture: str) -> None:
    model, reference = untrained(architecture), norms_of(untrained(architecture))
    no_norm(model, INPUTS)
    states: dict[str, torch.Tensor] = {}
    for path, part in norms_of(model).items():
        part.register_forward_hook(lambda _, given, __, path=path: states.update({path: given[0].flatten(0, -2)}))
    with torch.no_grad():
        model(**INPUTS)
        for path, part in norms_of(model).items():
            x, y = states[path].double().numpy(), reference[path](states[path]).double().numpy()
            for unit in range(0, x.shape[1], 7):
                columns = [x[:, unit], *([] if part.bias is None else [np.ones(len(x))])]
                fit, *_ = np.linalg.lstsq(np.stack(columns, axis=1), y[:, unit], rcond=None)
                ours = [part.weight[unit].item(), *([] if part.bias is None else [part.bias[unit].item()])]
                assert ours == pytest.approx(fit, rel=1e-3, abs=1e-4), (path, unit)


@pytest.mark.parametrize(("architecture", "is_pre_norm"), [(a, a not in POST_NORM) for a in NORMS])
def test_a_pre_norm_model_gets_a_warning(architecture: str, is_pre_norm: bool) -> None:
    warnings = no_norm(untrained(architecture), read_by(architecture)).warnings
    assert len(warnings) == is_pre_norm
    assert all("pre-norm" in warning for warning in warnings)


def test_a_post_norm_causal_model_gets_no_warning() -> None:
    config = tiny.config("opt")
    config.do_layer_norm_before = False
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert no_norm(model, INPUTS).warnings == ()


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt", "gpt_neox"])
def test_the_changed_model_starts_far_closer_to_the_old_one_than_without_a_start(architecture: str) -> None:
    fitted, bare, reference = (untrained(architecture) for _ in range(3))
    no_norm(fitted, INPUTS)
    no_norm(bare, INPUTS)
    others = torch.randint(0, tiny.VOCABULARY, (4, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for part in norms_of(bare).values():
            part.weight.fill_(1.0)
            if part.bias is not None:
                part.bias.zero_()
        old, ours, theirs = (m(input_ids=others).logits for m in (reference, fitted, bare))
    assert float((ours - old).square().mean()) < 0.5 * float((theirs - old).square().mean())
    assert float((ours - old).square().mean()) < float(old.var())


@pytest.mark.parametrize("family", [name for name in families.FAMILIES if name in NORMS])
def test_the_loss_of_every_token_starts_closer_to_the_old_one_than_without_a_fit(family: str) -> None:
    """Without one: with the scales of the norms themselves, or with none."""
    fitted, own, bare, reference = (untrained(family) for _ in range(4))
    for model in (fitted, own, bare):
        no_norm(model, read_by(family))
    with torch.no_grad():
        for path, norm in norms_of(reference).items():
            if isinstance(own.get_submodule(path), NoNorm):
                own.get_submodule(path).weight.copy_(norm.weight)
                bare.get_submodule(path).weight.fill_(1.0)
                if own.get_submodule(path).bias is not None:
                    own.get_submodule(path).bias.copy_(0.0 if norm.bias is None else norm.bias)
                    bare.get_submodule(path).bias.zero_()
    expected = families.losses(reference, family)
    far, *others = (float((families.losses(model, family) - expected).abs().mean()) for model in (fitted, own, bare))
    assert far < 0.6 * min(others)


def longer(inputs: Mapping[str, torch.Tensor], n: int) -> dict[str, torch.Tensor]:
    """The same texts with more padding, of tokens that are anything but alike."""
    rng = torch.Generator().manual_seed(3)
    return {
        name: torch.cat(
            [table, torch.zeros(len(table), n, dtype=table.dtype) if "mask" in name else
             torch.randint(5, 90, (len(table), n), generator=rng)], dim=1,
        )
        for name, table in inputs.items()
    }  # fmt: skip


@pytest.mark.parametrize("family", [name for name in families.FAMILIES if name in NORMS])
def test_padding_has_no_part_in_a_fit(family: str) -> None:
    one, other = untrained(family), untrained(family)
    no_norm(one, read_by(family))
    no_norm(other, longer(read_by(family), 3))
    for path, part in norms_of(one).items():
        fits = [dict(made.named_parameters()) for made in (part, other.get_submodule(path))]
        torch.testing.assert_close(fits[1], fits[0], atol=1e-4, rtol=1e-4)


def test_a_norm_that_all_layers_share_is_fitted_to_what_reaches_it_in_all_of_them() -> None:
    model, reference = (untrained("albert") for _ in range(2))
    path = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.LayerNorm"
    states: list[torch.Tensor] = []
    norm = model.get_submodule(path)
    norm.register_forward_hook(lambda _, given, __: states.append(given[0]))
    given = read_by("albert")
    no_norm(model, given)
    assert len(states) == 2
    x = torch.cat([one[given["attention_mask"].bool()] for one in states]).double()
    y = reference.double().get_submodule(path)(x).detach()
    for unit in range(0, 32, 5):
        columns = np.stack([x[:, unit].numpy(), np.ones(len(x))], axis=1)
        fit, *_ = np.linalg.lstsq(columns, y[:, unit].numpy(), rcond=None)
        part = model.get_submodule(path)
        assert [part.weight[unit].item(), part.bias[unit].item()] == pytest.approx(fit, rel=1e-4, abs=1e-5)


def test_the_table_of_distances_in_a_deberta_is_not_taken_for_tokens() -> None:
    config = encoders.config("deberta-v2", len(encoders.word_pieces()))
    config.norm_rel_ebd = "layer_norm"
    config.hidden_size, config.position_buckets = 32, 12  # (2 * 12, 32): as many texts as rows, as long as it is wide
    model = transformers.DebertaV2ForMaskedLM(config).eval()
    ids = torch.randint(5, 90, (24, 32), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[:, 20:] = 0
    table, norm = model.deberta.encoder.rel_embeddings.weight.detach()[:24], model.deberta.encoder.LayerNorm
    expected = norm(table).detach()
    no_norm(model, {"input_ids": ids, "attention_mask": mask})
    fitted = model.deberta.encoder.LayerNorm
    assert isinstance(fitted, NoNorm)
    assert fitted.bias is not None
    x, y = table[:, 0].numpy(), expected[:, 0].numpy()
    assert [fitted.weight[0].item(), fitted.bias[0].item()] == pytest.approx(np.polyfit(x, y, 1), rel=1e-3, abs=1e-5)


def test_the_model_is_left_without_hooks_and_in_its_mode() -> None:
    model = tiny.model("gpt2").train()
    no_norm(model, INPUTS)
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_feature_that_never_varies_is_given_by_the_bias() -> None:
    model = tiny.model("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight[:, 3] = model.transformer.wpe.weight[:, 3] = 0.0
    no_norm(model, INPUTS)
    assert model.transformer.h[0].ln_1.weight[3] == 0
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_a_model_without_a_norm_is_refused_with_what_it_is_made_of() -> None:
    model = tiny.model("gpt2")
    for path in norms_of(model):
        model.set_submodule(path, torch.nn.Identity())
    with pytest.raises(ConfigError, match="GPT2LMHeadModel has no LayerNorm and no RMSNorm") as caught:
        no_norm(model, INPUTS)
    assert "5 Identity" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_values_that_are_not_finite_are_refused() -> None:
    model = tiny.model("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight[INPUTS["input_ids"][0, 0]] = torch.inf
    with pytest.raises(ModelError, match=r"transformer\.h\.0\.ln_1 gives values that are not finite"):
        no_norm(model, INPUTS)


def test_weight_decay_spares_the_scales_as_it_spares_those_of_the_norms_before(tmp_path: Path) -> None:
    norms, scales = tiny.model("gpt2"), tiny.model("gpt2")
    no_norm(scales, INPUTS)
    spared = [names - decayed(model, tmp_path) for model in (norms, scales) if (names := weights_of(model))]
    assert spared[0] == spared[1]
    assert "student.transformer.h.0.ln_1.weight" in spared[1]
    assert "student.transformer.h.0.mlp.c_fc.weight" in decayed(scales, tmp_path)


def weights_of(model: Any) -> set[str]:
    return {f"student.{name}" for name, _ in model.named_parameters()}


def decayed(model: Any, work: Path) -> set[str]:
    settings = Settings(
        lr=1e-3, schedule="linear", warmup=0.1, weight_decay=0.01, gradient_accumulation=1, mixed_precision="no",
        seed=0, use_cpu=True, report_to="none",
    )  # fmt: skip
    terms = LossTerms("forward-kl", None, 0.5, 1.0)
    distiller = Distiller(model, speaker(model, read(INPUTS["input_ids"][:1])), terms, None)
    trainer = _DistillTrainer(
        distiller, [], CAUSAL, Curriculum(([[[0]]],), (1,)), lambda *_: None, settings, work, lambda *_: None, Watch()
    )
    return set(trainer.get_decay_parameter_names(distiller))
