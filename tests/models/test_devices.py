"""Models on several devices: where their parts are planned to lie, and that they say there what they say on one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from kdaudit.config import memory_by_device
from kdaudit.errors import ConfigError
from kdaudit.models.checkpoint import find
from kdaudit.models.devices import Placement, Spread, input_device
from kdaudit.models.loading import load, placed, why_not
from kdaudit.signals.agreement import disagreement
from kdaudit.signals.engine import measure
from kdaudit.signals.running import Rest, settle
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.masked import Masking, masked_frame
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Frame
from tests import encoders, sparse, tiny

GB = 10**9
N_LAYERS = 8


def config(**changes: Any) -> Any:
    shape: dict[str, Any] = {
        "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 512,
        "tie_word_embeddings": False,
    }  # fmt: skip
    return transformers.LlamaConfig(**{**shape, **changes})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sparse.save(tmp_path_factory.mktemp("sparse") / "large", config())


def placement(folder: Path, limits: dict[int | str, int], *, load: str | None = None, states: int = 0) -> Placement:
    found = find(str(folder), option="--model", load=load, is_hashed=False)
    made = placed(found, device="cuda", dtype="bfloat16", spread=Spread("auto", limits), states=states)
    assert made is not None
    return made


def test_layers_go_over_the_gpus_in_their_order_and_every_weight_is_counted_once(large: Path) -> None:
    made = placement(large, {0: GB, 1: GB, "cpu": 0}, states=GB // 10)
    found = find(str(large), option="--model", is_hashed=False)
    weights = sum(share.weights for share in made.shares)
    assert [share.device for share in made.shares] == [0, 1]
    assert sum(share.n_layers for share in made.shares) == N_LAYERS
    assert [share.others for share in made.shares] == [("embed_tokens",), ("norm", "lm_head")]
    assert weights == pytest.approx(2 * found.n_parameters, abs=10_000)  # with the frequencies of rotary embeddings
    assert all(share.peak == share.weights + GB // 10 <= GB for share in made.shares)
    assert made.is_split
    assert (made.spilled, why_not(found, made)) == (0, "")


def test_a_model_that_one_gpu_holds_is_not_split(large: Path) -> None:
    made = placement(large, {0: 4 * GB, 1: 4 * GB, "cpu": 0})
    assert [(share.device, share.n_layers) for share in made.shares] == [(0, N_LAYERS)]
    assert not made.is_split


def test_what_the_gpus_have_no_room_for_goes_onto_the_cpu_and_what_nothing_has_room_for_is_refused(large: Path) -> None:
    whole, packed = (find(str(large), option="--model", load=how, is_hashed=False) for how in (None, "4bit"))
    made = placement(large, {0: GB, "cpu": 8 * GB})
    assert [share.device for share in made.shares] == [0, "cpu"]
    assert made.spilled == made.shares[1].weights > 0
    assert made.shares[1].states == 0  # what lies there computes on the GPU
    assert why_not(whole, made) == ""
    assert "quantised" in why_not(packed, placement(large, {0: GB // 3, "cpu": 8 * GB}, load="4bit"))
    assert "fit on no device" in why_not(whole, placement(large, {0: GB, "cpu": 0}))


def test_layers_of_4_bits_take_half_a_byte_and_their_scales_while_embeddings_and_head_stay_whole(large: Path) -> None:
    made = placement(large, {0: 4 * GB, "cpu": 0}, load="4bit")
    in_layers = N_LAYERS * (2 * 2048 * 2048 + 2 * 512 * 2048 + 3 * 8192 * 2048)
    others = 2 * 32_000 * 2048 + (2 * N_LAYERS + 1) * 2048
    assert made.shares[0].weights == pytest.approx(in_layers * (0.5 + 4 / 64) + 2 * others, abs=10_000)
    assert made.shares[0].states == 2 * 8192 * 2048  # one weight at a time is unpacked


@pytest.mark.parametrize("kind", ["llama", "mixtral"])
@pytest.mark.parametrize("how", ["4bit", "8bit", None])
def test_a_model_takes_in_memory_what_was_planned(kind: str, how: str | None, tmp_path: Path) -> None:
    shape = config(vocab_size=320, hidden_size=256, intermediate_size=512, num_hidden_layers=2)
    if kind == "mixtral":
        shape = transformers.MixtralConfig(**{**shape.to_dict(), "model_type": kind, "num_local_experts": 4})
    made = transformers.AutoModelForCausalLM.from_config(shape)
    made.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    found = find(str(tmp_path), option="--model", load=how)
    planned = placed(found, device="cpu", dtype="float32", spread=Spread("auto", {"cpu": GB}), states=0)
    assert planned is not None
    assert (planned.packed_share > 0.5) == (how is None or kind == "llama")  # experts are left whole
    model = load(found, device="cpu", dtype="float32", placement=planned)
    held = sum(part.numel() * part.element_size() for part in model.state_dict().values())  # with scales and codes
    assert held == pytest.approx(planned.shares[0].weights, rel=0.002)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "mamba"])
@pytest.mark.parametrize("prefix", [(), (5, 6, 7, 8)])
def test_signals_of_a_model_that_lies_on_several_devices_are_those_of_the_plain_one(
    architecture: str, prefix: tuple[int, ...], tmp_path: Path
) -> None:
    passages = encode(tiny.tokenizer(), tiny.texts(6, seed=3))
    plain, split = on_two_devices(tiny.save(tmp_path / "model", architecture), transformers.AutoModelForCausalLM)
    check_same(plain, split, passages, Frame(CAUSAL, (), prefix))


def test_a_masked_model_on_several_devices_keeps_its_head_apart_and_says_the_same(tmp_path: Path) -> None:
    frame = masked_frame(encoders.word_pieces(), Masking())
    passages = encode(encoders.word_pieces(), tiny.texts(6, seed=3))
    plain, split = on_two_devices(encoders.save(tmp_path / "model"), transformers.AutoModelForMaskedLM)
    assert isinstance(settle(split, passages[:2], frame).head, Rest)
    check_same(plain, split, passages, frame)


def on_two_devices(folder: Path, auto: Any) -> tuple[Any, Any]:
    """A model, and the same one with every second part on the disk, so that accelerate moves inputs and weights."""
    plain = auto.from_pretrained(folder)
    device_map = {name: ("cpu", "disk")[k % 2] for k, name in enumerate(_parts(plain))}
    for tied, source in plain.all_tied_weights_keys.items():  # accelerate keeps them together
        one, other = (next(part for part in device_map if name.startswith(part)) for name in (tied, source))
        device_map[one] = device_map[other]
    split = auto.from_pretrained(folder, device_map=device_map, offload_folder=folder / "offload")
    assert {weight.device.type for weight in split.parameters()} == {"cpu", "meta"}
    assert input_device(split) == torch.device("cpu")
    return plain, split


def check_same(plain: Any, split: Any, passages: list[Passage], frame: Frame) -> None:
    of_plain, of_split = (next(measure(model, [passages], frame, batch_tokens=90)) for model in (plain, split))
    for one, other in zip(of_plain, of_split, strict=True):
        assert np.array_equal(one.logprob, other.logprob)
        assert np.array_equal(one.logprob_std, other.logprob_std)


def _parts(model: Any) -> list[str]:
    """The parts that hold all weights and buffers, layers whole."""
    found: list[str] = []
    for name, part in model.named_modules():
        is_whole = type(part).__name__ in (model._no_split_modules or ())
        is_leaf = [*part.parameters(recurse=False), *part.buffers(recurse=False)] != []
        if name and (is_whole or is_leaf) and not any(name.startswith(f"{one}.") for one in found):
            found.append(name)
    return found


def test_a_difference_beyond_rounding_is_told_and_one_in_the_tail_is_not() -> None:
    model = tiny.model("llama")
    whole = np.linspace(-8, 0, 40, dtype=np.float32)
    assert disagreement(whole, whole + np.float32(1e-5), model) == ""
    assert disagreement(whole, np.where(np.arange(40) < 2, whole - 1, whole), model) == ""
    assert "40 tokens" in disagreement(whole, whole[::-1], model)
    assert "inf" in disagreement(whole, np.full(40, np.nan, dtype=np.float32), model)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("24GiB,24GiB", {0: 24 * 2**30, 1: 24 * 2**30}),
        ("24GB, cpu=1.5TB", {0: 24 * GB, "cpu": 1500 * GB}),
        ("cpu=8MiB,24000MB", {"cpu": 2**23, 0: 24 * GB}),
    ],
)
def test_sizes_of_memory_are_read(text: str, found: dict[int | str, int]) -> None:
    assert memory_by_device(text) == found


@pytest.mark.parametrize("text", ["24", "24G", "-1GB", "0GB", "24GiB,", "gpu=2GB", "cpu=1GB,cpu=2GB", "1e9GB"])
def test_what_is_no_size_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--max-memory"):
        memory_by_device(text)
