"""A model that is cut says what the whole one says, and comes together again; here in a group of one process."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from kdaudit.distill.sharding import (
    Asked,
    cut_layers,
    gather_optimizer,
    gather_weights,
    layer_classes,
    set_optimizer,
    set_weights,
)
from kdaudit.distill.student import speaker
from kdaudit.models.altered import save
from tests import families, tiny
from tests.distill.training import PROBE


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group with this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def cut_student(architecture: str) -> Any:
    """A student that is cut as accelerate cuts it."""
    student = tiny.model(architecture, seed=1).requires_grad_(True)
    for layer in [one for one in student.modules() if type(one).__name__ in layer_classes(student)]:
        fully_shard(layer)
    return fully_shard(student)


def step(student: Any, optimizer: torch.optim.Optimizer) -> None:
    student(**PROBE.tensors).logits.log_softmax(-1).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_layer_is_cut_and_neither_embeddings_nor_head(architecture: str) -> None:
    model = tiny.model(architecture)
    classes = layer_classes(model)
    assert len(classes) == 1
    layers = [one for one in model.modules() if type(one).__name__ in classes]
    assert len(layers) == model.config.num_hidden_layers
    inside = {weight for layer in layers for weight in layer.parameters()}
    assert not inside & {*model.get_input_embeddings().parameters(), *model.get_output_embeddings().parameters()}


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.usefixtures("group")
def test_a_teacher_that_is_cut_says_what_it_said(architecture: str) -> None:
    model = tiny.model(architecture, seed=1).requires_grad_(False)
    speak = speaker(model, PROBE, with_hidden=True)
    with torch.no_grad():
        before = speak(PROBE)
        cut_layers(model, "cpu")
        after = Asked(model, speak)(PROBE)
    assert torch.equal(before.outputs.states, after.outputs.states)
    assert [torch.equal(*both) for both in zip(before.hidden, after.hidden, strict=True)] == [True, True]
    kinds = {name: isinstance(weight, DTensor) for name, weight in model.named_parameters()}
    assert {name for name, is_cut in kinds.items() if is_cut} == {
        name for name in kinds if ".0." in name or ".1." in name
    }


@pytest.mark.usefixtures("group")
def test_weights_and_optimiser_are_those_of_one_process_and_go_back() -> None:
    plain, cut = tiny.model("gpt2", seed=1).requires_grad_(True), cut_student("gpt2")
    optimizers = [torch.optim.AdamW(one.parameters(), lr=1e-2) for one in (plain, cut)]
    for model, optimizer in zip((plain, cut), optimizers, strict=True):
        step(model, optimizer)
    weights, state = gather_weights(cut, is_kept=True), gather_optimizer(optimizers[1], is_kept=True)
    whole = dict(plain.named_parameters())
    assert weights.keys() == whole.keys()
    assert all(torch.allclose(weights[name], whole[name], atol=1e-6) for name in weights)
    expected = optimizers[0].state_dict()["state"]
    assert state["state"].keys() == expected.keys()
    assert all(torch.allclose(state["state"][i][name], expected[i][name]) for i in expected for name in expected[i])

    again = cut_student("gpt2")
    optimizer = torch.optim.AdamW(again.parameters(), lr=1e-2)
    set_weights(again, weights)
    set_optimizer(optimizer, deepcopy(state))  # in a group of one process it is the other's own
    for model, its_own in ((again, optimizer), (cut, optimizers[1])):
        step(model, its_own)
    first, second = (gather_weights(one, is_kept=True) for one in (again, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bart", "bert"])
def test_what_is_gathered_is_what_is_saved(family: str, tmp_path: Path) -> None:
    model = families.untrained(family)
    model.save_pretrained(tmp_path / "plain")
    save(model, tmp_path / "gathered", gather_weights(model, is_kept=True))
    plain, gathered = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "gathered"))
    assert gathered.keys() == plain.keys()
    assert all(torch.equal(gathered[name], plain[name]) for name in plain)


@pytest.mark.usefixtures("group")
def test_a_process_that_keeps_nothing_is_given_nothing() -> None:
    cut = cut_student("llama")
    assert gather_weights(cut, is_kept=False) == {}
    assert gather_optimizer(torch.optim.AdamW(cut.parameters()), is_kept=False) == {}


@pytest.mark.usefixtures("group")
def test_a_weight_of_another_size_is_refused() -> None:
    cut = cut_student("llama")
    with pytest.raises(ValueError, match="cannot take the place of one of"):
        set_weights(cut, {"lm_head.weight": torch.zeros(2, 2)})
