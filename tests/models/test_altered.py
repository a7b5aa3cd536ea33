"""A changed architecture survives saving: kdaudit rebuilds it by itself, plain transformers by the file beside it."""

import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.models.altered import (
    ARGUMENTS,
    MODELLING_FILE,
    RECORD,
    alter,
    model_class,
    read_alteration,
    read_config,
    save,
)
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import load_tokenizer, loaded
from kdaudit.models.surgery import PARTS
from tests import families, tiny

IDS = torch.arange(1, 20)[None]
NARROW = {"kind": "bottleneck", "inputs": 32, "width": 5}
SCALE = {"kind": "no-norm", "size": 32, "has_bias": True}
ALTERED: dict[str, dict[str, dict[str, Any]]] = {
    "gpt2": {"transformer.h.1.mlp.c_fc": {**NARROW, "outputs": 128}, "transformer.ln_f": SCALE},
    "gpt_neox": {"gpt_neox.layers.0.mlp.dense_h_to_4h": {**NARROW, "outputs": 64}, "gpt_neox.final_layer_norm": SCALE},
    "llama": {
        "model.layers.1.mlp.up_proj": {**NARROW, "outputs": 64}, "model.norm": {**SCALE, "has_bias": False},
    },
    "opt": {"model.decoder.layers.0.fc1": {**NARROW, "outputs": 64}, "model.decoder.final_layer_norm": SCALE},
    "bert": {
        "bert.encoder.layer.0.intermediate.dense": {**NARROW, "outputs": 64}, "bert.embeddings.LayerNorm": SCALE,
    },
    "roberta": {
        "roberta.encoder.layer.0.intermediate.dense": {**NARROW, "outputs": 64}, "roberta.embeddings.LayerNorm": SCALE,
    },
    "distilbert": {
        "distilbert.transformer.layer.1.ffn.lin1": {**NARROW, "outputs": 64}, "distilbert.embeddings.LayerNorm": SCALE,
    },
    "mobilebert": {
        "mobilebert.encoder.layer.0.intermediate.dense": {**NARROW, "inputs": 16, "outputs": 64},
        "cls.predictions.transform.LayerNorm": SCALE,
    },
    "albert": {
        "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn": {**NARROW, "outputs": 64},
        "albert.embeddings.LayerNorm": {**SCALE, "size": 16},
    },
    "electra": {
        "electra.encoder.layer.0.intermediate.dense": {**NARROW, "outputs": 64},
        "electra.embeddings.LayerNorm": {**SCALE, "size": 16},
    },
    "deberta-v2": {
        "deberta.encoder.layer.1.intermediate.dense": {**NARROW, "outputs": 64}, "deberta.embeddings.LayerNorm": SCALE,
    },
    "modernbert": {"model.layers.1.mlp.Wi": {**NARROW, "outputs": 128}, "model.final_norm": SCALE},
    "t5": {
        "encoder.block.0.layer.1.DenseReluDense.wi": {**NARROW, "outputs": 64},
        "decoder.block.1.layer.2.layer_norm": {**SCALE, "has_bias": False},
    },
    families.GATED: {
        "decoder.block.0.layer.2.DenseReluDense.wi_1": {**NARROW, "outputs": 64},
        "encoder.final_layer_norm": {**SCALE, "has_bias": False},
    },
    **{
        family: {
            "model.encoder.layers.0.fc1": {**NARROW, "outputs": 64}, "model.decoder.layers.1.final_layer_norm": SCALE,
        } for family in ("bart", "pegasus", "mbart")
    },
}  # fmt: skip
PLAIN = """
import sys, torch, transformers
folders, kind, out = sys.argv[3:], sys.argv[1], sys.argv[2]
logits = []
for folder in folders:
    kind_of_model, given = torch.load(folder + ".inputs")
    auto = getattr(transformers, "AutoModelFor" + kind_of_model)
    model, info = auto.from_pretrained(folder, trust_remote_code=kind == "trusting", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        logits.append(model.eval()(**given).logits)
    for one, other in model.all_tied_weights_keys.items():
        assert model.get_parameter(one) is model.get_parameter(other), (folder, one)
    model.save_pretrained(out + "-again")
    again = auto.from_pretrained(out + "-again", trust_remote_code=kind == "trusting")
    with torch.no_grad():
        assert torch.equal(again.eval()(**given).logits, logits[-1])
assert not any(name.startswith("kdaudit") for name in sys.modules)
torch.save(logits, out)
"""


def unaltered(architecture: str) -> Any:
    return families.untrained(architecture, **({} if architecture == families.GATED else {"seed": 4}))


def altered(architecture: str) -> Any:
    """A changed model whose new parts are no start any more."""
    model = unaltered(architecture)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        alter(model, ALTERED[architecture])
        for path in ALTERED[architecture]:
            for weight in model.get_submodule(path).parameters():
                weight.copy_(torch.randn(weight.shape))
    return model


def given_to(architecture: str) -> Mapping[str, torch.Tensor]:
    return families.inputs(architecture, 6) if architecture in families.FAMILIES else {"input_ids": IDS}


def logits_of(model: Any, architecture: str = "gpt2") -> torch.Tensor:
    with torch.no_grad():
        return model(**given_to(architecture)).logits  # type: ignore[no-any-return]


def found(folder: Path, **options: Any) -> Checkpoint:
    return find(str(folder), option="--student", **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for architecture in ALTERED:
        made[architecture] = tmp_path_factory.mktemp("altered") / architecture
        save(altered(architecture), made[architecture])
        families.tokenizer(architecture).save_pretrained(made[architecture])
    return made


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[[], Path]:
    return lambda: shutil.copytree(folders["gpt2"], tmp_path / "copy")


@pytest.mark.parametrize("architecture", [name for name in ALTERED if name != "bert"])
def test_kdaudit_loads_a_changed_model_without_any_code_of_its_folder(
    architecture: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders[architecture], tmp_path / "copy")
    (folder / MODELLING_FILE).write_text("raise RuntimeError('this was run')\n")
    for trust in (False, True) if architecture == "gpt2" else (False,):
        with loaded(found(folder, trust_remote_code=trust), device="cpu", dtype="float32") as model:
            assert torch.equal(logits_of(model, architecture), logits_of(altered(architecture), architecture))
            assert not torch.equal(logits_of(model, architecture), logits_of(unaltered(architecture), architecture))
            check_tied(model, unaltered(architecture))


def check_tied(model: Any, original: Any) -> None:
    """What shares its weights in the original shares them in the changed model."""
    for one, other in original.all_tied_weights_keys.items():
        assert model.get_parameter(one) is model.get_parameter(other), (one, other)


def test_every_family_of_encoders_and_encoder_decoders_is_tried() -> None:
    assert set(families.FAMILIES) <= ALTERED.keys()
    tied = [set(unaltered(family).all_tied_weights_keys) for family in ("bert", "t5")]
    assert tied[0] == {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert tied[1] == {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}


def test_a_changed_masked_model_is_rebuilt_too_and_is_no_causal_one(folders: dict[str, Path]) -> None:
    alteration = read_alteration(folders["bert"], "--student")
    assert alteration is not None
    config = read_config(folders["bert"], alteration, "--student")
    model = model_class(alteration).from_pretrained(folders["bert"], config=config).eval()
    assert torch.equal(logits_of(model, "bert"), logits_of(altered("bert"), "bert"))
    with loaded(found(folders["bert"]), device="cpu", dtype="float32") as model:
        assert torch.equal(logits_of(model, "bert"), logits_of(altered("bert"), "bert"))
    causal = find(str(folders["bert"]), option="--student", kind="causal")
    with (
        pytest.raises(ModelError, match="not a causal language model but a changed BertForMaskedLM"),
        loaded(causal, device="cpu", dtype="float32"),
    ):
        pass


def run_plainly(kind: str, folders: list[Path], out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PLAIN, kind, str(out), *map(str, folders)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=out.parent, stdin=subprocess.DEVNULL
    )


def test_plain_transformers_gives_the_same_logits_in_a_process_without_kdaudit(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))  # where transformers copies modelling files to
    for architecture, folder in folders.items():
        kind = (
            "CausalLM"
            if architecture not in families.FAMILIES
            else ("Seq2SeqLM" if architecture in families.PAIRED else "MaskedLM")
        )
        torch.save((kind, dict(given_to(architecture))), f"{folder}.inputs")
    done = run_plainly("trusting", list(folders.values()), tmp_path / "logits.pt")
    assert done.returncode == 0, done.stderr
    for architecture, logits in zip(folders, torch.load(tmp_path / "logits.pt"), strict=True):
        assert torch.equal(logits, logits_of(altered(architecture), architecture)), architecture


def test_plain_transformers_that_does_not_trust_it_refuses_instead_of_loading_another_model(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    torch.save(("CausalLM", {"input_ids": IDS}), f"{folders['gpt2']}.inputs")
    done = run_plainly("distrusting", [folders["gpt2"]], tmp_path / "logits.pt")
    assert done.returncode != 0
    assert "trust_remote_code" in done.stderr
    assert not (tmp_path / "logits.pt").exists()


def test_a_changed_model_that_was_loaded_can_be_changed_again_and_saved(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    again = {"transformer.ln_f": {"kind": "no-norm", "size": 32, "has_bias": False}, "transformer.h.0.ln_1": SCALE}
    with loaded(found(folders["gpt2"]), device="cpu", dtype="float32") as model:
        alter(model, again)
        expected = logits_of(model)
        save(model, tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with loaded(found(tmp_path), device="cpu", dtype="float32") as model:
        assert torch.equal(logits_of(model), expected)


def test_its_tokenizer_is_the_one_that_was_saved_with_it(folders: dict[str, Path]) -> None:
    text = tiny.texts(1, seed=0)[0]
    for architecture, folder in folders.items():
        expected = families.tokenizer(architecture)(text)["input_ids"]
        assert load_tokenizer(found(folder))(text)["input_ids"] == expected


def test_a_model_that_was_not_changed_is_saved_as_transformers_saves_it(tmp_path: Path) -> None:
    model = tiny.model("gpt_neox")
    model.save_pretrained(tmp_path / "theirs")
    save(model, tmp_path / "ours")
    theirs, ours = ({path.name: path.read_bytes() for path in (tmp_path / n).iterdir()} for n in ("theirs", "ours"))
    assert ours == theirs


def test_new_parts_take_over_dtype_and_mode() -> None:
    model = tiny.model().to(torch.bfloat16).train()
    alter(model, ALTERED["gpt2"])
    for path in ALTERED["gpt2"]:
        part = model.get_submodule(path)
        assert part.training
        assert {weight.dtype for weight in part.parameters()} == {torch.bfloat16}


def edit_record(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    settings = json.loads((folder / "config.json").read_text())
    change(settings[RECORD])
    (folder / "config.json").write_text(json.dumps(settings))


def test_the_fingerprint_holds_what_was_changed_and_how(copied: Callable[[], Path], folders: dict[str, Path]) -> None:
    folder = copied()
    assert found(folder).fingerprint == found(folders["gpt2"]).fingerprint
    assert found(folder).fingerprint == found(folder, trust_remote_code=True).fingerprint
    edit_record(folder, lambda record: record["parts"].pop("transformer.ln_f"))  # the weights have the same names
    assert found(folder).fingerprint != found(folders["gpt2"]).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(format=2),
        lambda record: record.pop("parts"),
        lambda record: record.update(parts={}),
        lambda record: record.update(architecture=3),
        lambda record: record["parts"].update({"transformer.ln_f": {"kind": "eval"}}),
        lambda record: record["parts"]["transformer.ln_f"].pop("size"),
        lambda record: record["parts"]["transformer.ln_f"].update(size="32"),
        lambda record: record["parts"]["transformer.ln_f"].update(size=0),
        lambda record: record["parts"]["transformer.ln_f"].update(has_bias=1),
        lambda record: record["parts"]["transformer.ln_f"].update(more=1),
    ],
)
def test_a_record_that_cannot_be_used_is_refused(change: Callable[[Any], Any], copied: Callable[[], Path]) -> None:
    folder = copied()
    edit_record(folder, change)
    with pytest.raises(CheckpointError, match=rf"config\.json holds a {RECORD} that cannot be used"):
        found(folder)


@pytest.mark.parametrize("name", ["NoSuchModel", "AutoModelForCausalLM", "logging"])
def test_a_record_names_a_model_of_transformers_or_nothing_is_loaded(name: str, copied: Callable[[], Path]) -> None:
    folder = copied()
    edit_record(folder, lambda record: record.update(architecture=name))
    with pytest.raises(ModelError, match="not a causal"), loaded(found(folder), device="cpu", dtype="float32"):
        pass


def test_parts_that_the_model_does_not_have_are_refused(copied: Callable[[], Path]) -> None:
    folder = copied()
    edit_record(folder, lambda record: record["parts"].update({"transformer.h.7.ln_1": SCALE}))
    with pytest.raises(ModelError, match="cannot be loaded"), loaded(found(folder), device="cpu", dtype="float32"):
        pass


def test_weights_that_a_changed_model_lacks_are_never_made_up(copied: Callable[[], Path]) -> None:
    folder = copied()
    weights = load_file(folder / "model.safetensors")
    weights.pop("transformer.h.1.mlp.c_fc.down.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with (
        pytest.raises(ModelError, match=r"lacks 1 weights .*c_fc\.down\.weight"),
        loaded(found(folder), device="cpu", dtype="float32"),
    ):
        pass


def test_what_a_record_must_hold_is_what_the_parts_are_built_with() -> None:
    assert ARGUMENTS.keys() == PARTS.keys()
    for kind, part in PARTS.items():
        built_with = {name: p.annotation for name, p in inspect.signature(part).parameters.items()}
        assert built_with == {name: of.__name__ for name, of in ARGUMENTS[kind].items()}
