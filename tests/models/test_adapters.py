"""An adapter is its base and its own weights together, and is refused where the two do not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import load_tokenizer, loaded
from tests import tiny

IDS = torch.arange(1, 20)[None]

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def found(folder: Path, **options: Any) -> Checkpoint:
    return find(str(folder), option="--student", **options)


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    with loaded(checkpoint, device="cpu", dtype="float32") as model, torch.no_grad():
        return model(input_ids=IDS).logits  # type: ignore[no-any-return]


def save_adapter(folder: Path, base: str, *, seed: int = 0, **settings: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM", init_lora_weights=False, **settings
    )
    adapted = get_peft_model(tiny.model(), config)
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(str(folder))
    return adapted.eval()


@pytest.fixture
def pair(base: Path, tmp_path: Path) -> Path:
    """A folder with a base and an adapter that names it by its absolute path."""
    shutil.copytree(base, tmp_path / "base")
    save_adapter(tmp_path / "adapter", str(tmp_path / "base"))
    return tmp_path


def rename_base(adapter: Path, name: str, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": name, **changes}))


def edit_weights(adapter: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file(change({name: weight.clone() for name, weight in load_file(path).items()}), path)


def test_its_logits_are_those_that_peft_gives(base: Path, tmp_path: Path) -> None:
    adapted = save_adapter(tmp_path / "adapter", str(base), modules_to_save=["ln_f"])
    with torch.no_grad():
        adapted.base_model.model.transformer.ln_f.modules_to_save["default"].weight.mul_(1.5)
        adapted.save_pretrained(tmp_path / "adapter")
        expected = adapted(input_ids=IDS).logits
    assert torch.allclose(logits(found(tmp_path / "adapter")), expected, atol=1e-5)
    assert not torch.allclose(logits(found(base)), expected, atol=1e-2)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"use_rslora": True, "lora_alpha": 5}], ids=str)
@pytest.mark.parametrize("load", [None, "4bit"])
def test_dora_and_rslora_on_whole_and_quantised_bases_give_what_plain_peft_gives(
    settings: dict[str, Any], load: str | None, tmp_path: Path
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    base = tiny.save(tmp_path / "base", "llama", seed=3)

    def whole() -> Any:
        if load is None:
            return AutoModelForCausalLM.from_pretrained(base)
        packing = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
        return AutoModelForCausalLM.from_pretrained(base, quantization_config=packing, device_map={"": "cpu"})

    torch.manual_seed(0)
    config = LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    adapted = get_peft_model(whole(), config)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    plain: Any = PeftModel.from_pretrained(whole(), str(tmp_path / "adapter")).eval()
    for module in plain.modules():  # which would repack in eval mode where a CPU knows AVX512-BF16
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    with torch.no_grad():
        expected, without = plain(input_ids=IDS).logits, whole().eval()(input_ids=IDS).logits
    assert not torch.allclose(expected, without, atol=1e-2)
    assert torch.allclose(logits(found(tmp_path / "adapter", load=load)), expected, atol=1e-5)


def test_it_is_described_with_its_base(pair: Path) -> None:
    adapter, alone = found(pair / "adapter"), found(pair / "base")
    assert adapter.base == alone
    assert adapter.folder == pair / "adapter"
    n_own = sum(weight.numel() for weight in load_file(pair / "adapter" / "adapter_model.safetensors").values())
    assert adapter.n_parameters == alone.n_parameters + n_own
    assert (adapter.architecture, adapter.context) == (alone.architecture, alone.context)
    assert adapter.fingerprint != alone.fingerprint


def test_its_base_may_be_given_relative_to_the_adapter(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pair / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(pair / "a" / "b")  # a folder of that name, seen from here, would come first
    expected = logits(found(pair / "adapter"))
    shutil.copytree(pair / "base", pair / "adapter" / "base")
    for name in ("../base", "base"):
        rename_base(pair / "adapter", name)
        assert found(pair / "adapter").base is not None
        assert torch.equal(logits(found(pair / "adapter")), expected)


def test_two_folders_that_could_be_its_base_are_never_taken_for_each_other(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_base(pair / "adapter", "base")
    monkeypatch.chdir(pair)
    alone = found(pair / "adapter").base
    assert alone is not None
    shutil.copytree(pair / "base", pair / "adapter" / "base")
    with pytest.raises(CheckpointError, match="there are two of that name") as caught:
        found(pair / "adapter")
    assert "--student-base" in caught.value.hint
    assert found(pair / "adapter", base="adapter/base").base is not None


def test_a_base_that_moved_is_found_where_the_option_says(pair: Path) -> None:
    before, expected = found(pair / "adapter"), logits(found(pair / "adapter"))
    (pair / "base").rename(pair / "moved")
    with pytest.raises(CheckpointError, match=r"--student \(base\): there is no folder") as caught:
        found(pair / "adapter")
    assert "--student-base DIR" in caught.value.hint
    moved = found(pair / "adapter", base=str(pair / "moved"))
    assert moved.base is not None
    assert (moved.fingerprint, moved.base.name) == (before.fingerprint, str(pair / "moved"))
    assert torch.equal(logits(moved), expected)
    tiny.save(pair / "moved", seed=9)
    other = found(pair / "adapter", base=str(pair / "moved"))
    assert other.fingerprint != before.fingerprint
    assert not torch.allclose(logits(other), expected, atol=1e-2)


def test_a_base_is_not_given_to_what_is_no_adapter_and_is_no_adapter_itself(pair: Path) -> None:
    with pytest.raises(CheckpointError, match=r"--student-base: only an adapter .* is a whole model"):
        found(pair / "base", base=str(pair / "base"))
    with pytest.raises(CheckpointError, match="--student-base: there is no folder"):
        found(pair / "adapter", base="./nowhere")
    with pytest.raises(CheckpointError, match="is an adapter itself"):
        found(pair / "adapter", base=str(pair / "adapter"))


def test_its_base_may_be_a_revision_of_the_hub(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "c" * 40
    repository = pair / "hub" / "models--owner--name"
    shutil.copytree(pair / "base", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(pair / "hub"))
    rename_base(pair / "adapter", "owner/name", revision="v1")
    base = found(pair / "adapter").base
    assert base is not None
    assert (base.name, base.revision) == ("owner/name", commit)
    rename_base(pair / "adapter", "owner/name", revision="v2")
    with pytest.raises(ModelError, match=r"--student \(base\): owner/name is not a folder here"):
        found(pair / "adapter")


def test_a_base_that_is_gone_is_named(pair: Path) -> None:
    shutil.rmtree(pair / "base")
    with pytest.raises(CheckpointError, match=r"--student \(base\): there is no folder .*base"):
        found(pair / "adapter")


@pytest.mark.parametrize("name", [None, "", 3])
def test_an_adapter_without_a_base_is_refused(pair: Path, name: Any) -> None:
    rename_base(pair / "adapter", name)
    with pytest.raises(CheckpointError, match="names no base_model_name_or_path"):
        found(pair / "adapter")


def test_an_adapter_on_an_adapter_is_refused(pair: Path) -> None:
    shutil.copytree(pair / "adapter", pair / "second")
    rename_base(pair / "second", str(pair / "adapter"))
    with pytest.raises(CheckpointError, match="is an adapter itself") as caught:
        found(pair / "second")
    assert "merge" in caught.value.hint


def test_its_fingerprint_changes_with_its_weights_its_settings_and_its_base(pair: Path) -> None:
    prints = [found(pair / "adapter").fingerprint]
    edit_weights(pair / "adapter", lambda weights: {name: weight + 1e-6 for name, weight in weights.items()})
    prints.append(found(pair / "adapter").fingerprint)
    rename_base(pair / "adapter", str(pair / "base"), lora_alpha=3)
    prints.append(found(pair / "adapter").fingerprint)
    tiny.save(pair / "base", seed=5)
    prints.append(found(pair / "adapter").fingerprint)
    prints.append(found(pair / "adapter", load="4bit").fingerprint)
    assert len(set(prints)) == len(prints)


def test_the_tokenizer_is_the_adapters_own_or_its_bases(pair: Path) -> None:
    assert load_tokenizer(found(pair / "adapter")).backend_tokenizer.to_str() == (
        load_tokenizer(found(pair / "base")).backend_tokenizer.to_str()
    )
    tiny.tokenizer(bos=True).save_pretrained(pair / "adapter")
    assert load_tokenizer(found(pair / "adapter"))("a")["input_ids"][0] == 0


Weights = dict[str, torch.Tensor]
MISFITS: dict[str, Callable[[Weights], Weights]] = {
    "lacks a layer": lambda weights: {name: weight for name, weight in weights.items() if ".h.1." not in name},
    "has one more layer": lambda weights: (
        weights | {name.replace(".h.1.", ".h.7."): weight.clone() for name, weight in weights.items()}
    ),
    "is for another model": lambda weights: {
        name.replace(".transformer.", ".model."): weight for name, weight in weights.items()
    },
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS)
def test_an_adapter_that_does_not_fit_its_base_is_never_left_out_in_silence(
    pair: Path, change: Callable[[Weights], Weights]
) -> None:
    edit_weights(pair / "adapter", change)
    with pytest.raises(ModelError, match="does not fit its base") as caught:
        logits(found(pair / "adapter"))
    assert str(pair / "base") in caught.value.hint


def test_an_adapter_of_another_width_is_refused(pair: Path) -> None:
    edit_weights(pair / "adapter", lambda weights: {name: weight[:1] for name, weight in weights.items()})
    with pytest.raises(ModelError, match=r"the adapter .* cannot be loaded"):
        logits(found(pair / "adapter"))


def test_damaged_adapter_weights_are_refused(pair: Path) -> None:
    path = pair / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="damaged or incomplete"):
        found(pair / "adapter")


def test_pickled_adapter_weights_need_to_be_allowed(pair: Path) -> None:
    expected = logits(found(pair / "adapter"))
    path = pair / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(CheckpointError, match="only pickled weights"):
        found(pair / "adapter")
    assert torch.equal(logits(found(pair / "adapter", allow_pickle=True)), expected)


def test_a_prompt_learning_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model

    adapted = get_peft_model(tiny.model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match=r"prompt-learning adapter \(PROMPT_TUNING\)"):
        logits(found(tmp_path))
