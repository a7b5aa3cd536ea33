"""Norms are replaced by the elementwise scale that is closest to them on the training texts."""

import re
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
from kdaudit.mitigate.no_norm import no_norm
from kdaudit.models.surgery import NoNorm
from kdaudit.targets.causal import CAUSAL
from tests import tiny
from tests.distill.training import read

IDS = torch.randint(0, tiny.VOCABULARY, (16, 40), generator=torch.Generator().manual_seed(0))
NORMS = {"gpt2": 5, "gpt_neox": 5, "llama": 5, "opt": 5, "mamba": 3, "gemma2": 9, "bert": 6}


def untrained(architecture: str, **options: Any) -> Any:
    if architecture == "bert":
        torch.manual_seed(0)
        return transformers.BertForMaskedLM(tiny.config("bert")).eval()
    return tiny.model(architecture)


def norms_of(model: Any) -> dict[str, Any]:
    return {path: module for path, module in model.named_modules() if re.search("Norm$", type(module).__name__)}


@pytest.mark.parametrize("architecture", list(NORMS))
def test_every_norm_is_replaced_and_an_rmsnorm_gets_no_bias(architecture: str) -> None:
    model = untrained(architecture)
    before = norms_of(model)
    assert no_norm(model, IDS).n_replaced == NORMS[architecture] == len(before)
    after = norms_of(model)
    assert after.keys() == before.keys()
    for path, part in after.items():
        assert isinstance(part, NoNorm)
        assert (part.bias is None) == ("RMS" in type(before[path]).__name__)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_each_is_the_least_squares_fit_to_its_norm_on_what_reaches_it_then(architecture: str) -> None:
    model, reference = untrained(architecture), norms_of(untrained(architecture))
    no_norm(model, IDS)
    states: dict[str, torch.Tensor] = {}
    for path, part in norms_of(model).items():
        part.register_forward_hook(lambda _, given, __, path=path: states.update({path: given[0].flatten(0, -2)}))
    with torch.no_grad():
        model(input_ids=IDS)
        for path, part in norms_of(model).items():
            x, y = states[path].double().numpy(), reference[path](states[path]).double().numpy()
            for unit in range(0, x.shape[1], 7):
                columns = [x[:, unit], *([] if part.bias is None else [np.ones(len(x))])]
                fit, *_ = np.linalg.lstsq(np.stack(columns, axis=1), y[:, unit], rcond=None)
                ours = [part.weight[unit].item(), *([] if part.bias is None else [part.bias[unit].item()])]
                assert ours == pytest.approx(fit, rel=1e-3, abs=1e-4), (path, unit)


@pytest.mark.parametrize(("architecture", "is_pre_norm"), [(a, a != "bert") for a in NORMS])
def test_a_pre_norm_model_gets_a_warning(architecture: str, is_pre_norm: bool) -> None:
    warnings = no_norm(untrained(architecture), IDS).warnings
    assert len(warnings) == is_pre_norm
    assert all("pre-norm" in warning for warning in warnings)


def test_a_post_norm_causal_model_gets_no_warning() -> None:
    config = tiny.config("opt")
    config.do_layer_norm_before = False
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert no_norm(model, IDS).warnings == ()


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt", "gpt_neox"])
def test_the_changed_model_starts_far_closer_to_the_old_one_than_without_a_start(architecture: str) -> None:
    fitted, bare, reference = (untrained(architecture) for _ in range(3))
    no_norm(fitted, IDS)
    no_norm(bare, IDS)
    others = torch.randint(0, tiny.VOCABULARY, (4, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for part in norms_of(bare).values():
            part.weight.fill_(1.0)
            if part.bias is not None:
                part.bias.zero_()
        old, ours, theirs = (m(input_ids=others).logits for m in (reference, fitted, bare))
    assert float((ours - old).square().mean()) < 0.5 * float((theirs - old).square().mean())
    assert float((ours - old).square().mean()) < float(old.var())


def test_the_model_is_left_without_hooks_and_in_its_mode() -> None:
    model = tiny.model("gpt2").train()
    no_norm(model, IDS)
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_feature_that_never_varies_is_given_by_the_bias() -> None:
    model = tiny.model("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight[:, 3] = model.transformer.wpe.weight[:, 3] = 0.0
    no_norm(model, IDS)
    assert model.transformer.h[0].ln_1.weight[3] == 0
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_a_model_without_a_norm_is_refused_with_what_it_is_made_of() -> None:
    model = tiny.model("gpt2")
    for path in norms_of(model):
        model.set_submodule(path, torch.nn.Identity())
    with pytest.raises(ConfigError, match="GPT2LMHeadModel has no LayerNorm and no RMSNorm") as caught:
        no_norm(model, IDS)
    assert "5 Identity" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_values_that_are_not_finite_are_refused() -> None:
    model = tiny.model("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight[IDS[0, 0]] = torch.inf
    with pytest.raises(ModelError, match=r"transformer\.h\.0\.ln_1 gives values that are not finite"):
        no_norm(model, IDS)


def test_weight_decay_spares_the_scales_as_it_spares_those_of_the_norms_before(tmp_path: Path) -> None:
    norms, scales = tiny.model("gpt2"), tiny.model("gpt2")
    no_norm(scales, IDS)
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
    distiller = Distiller(model, speaker(model, read(IDS[:1])), terms, None)
    trainer = _DistillTrainer(
        distiller, [], CAUSAL, Curriculum(([[[0]]],), (1,)), lambda *_: None, settings, work, lambda *_: None, Watch()
    )
    return set(trainer.get_decay_parameter_names(distiller))
