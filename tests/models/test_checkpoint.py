"""What is taken for a checkpoint, what is said about one that is none, and when two count as the same."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdaudit.errors import CheckpointError, ExitCode, KdauditError, ModelError
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import loaded
from tests import tiny

Copied = Callable[[], Path]
IDS = torch.arange(1, 20)[None]


def found(folder: Path | str, **options: Any) -> Checkpoint:
    return find(str(folder), option="--teacher", **options)


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    with loaded(checkpoint, device="cpu", dtype="float32") as model, torch.no_grad():
        return model(input_ids=IDS).logits  # type: ignore[no-any-return]


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def pickle_weights(folder: Path) -> Path:
    path = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), path)
    (folder / "model.safetensors").unlink()
    return path


def test_a_folder_says_what_it_holds(base: Path) -> None:
    checkpoint = found(base)
    model = tiny.model()
    assert (checkpoint.name, checkpoint.folder, checkpoint.revision) == (str(base), base, None)
    assert checkpoint.n_parameters == model.num_parameters()
    assert checkpoint.memory_bytes("float32") == 4 * checkpoint.n_parameters
    assert checkpoint.memory_bytes("bfloat16") == 2 * checkpoint.n_parameters
    assert (checkpoint.architecture, checkpoint.context, checkpoint.dtype) == ("GPT2LMHeadModel", 64, "float32")
    assert (checkpoint.hidden_size, checkpoint.n_layers, checkpoint.vocab_size) == (32, 2, tiny.VOCABULARY)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_architecture_says_what_it_can_read_at_once(architecture: str, tmp_path: Path) -> None:
    checkpoint = found(tiny.save(tmp_path, architecture))
    assert checkpoint.context == (None if architecture == "mamba" else tiny.CONTEXT)
    assert (checkpoint.hidden_size, checkpoint.n_layers) == (32, 2)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_dtype_is_that_of_the_stored_weights(dtype: str, tmp_path: Path) -> None:
    tiny.model().to(getattr(torch, dtype)).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    assert found(tmp_path).dtype == dtype


def header(content: Any) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


def remove(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()

    return change


def put(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def as_index(placed: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))

    return change


DAMAGES: list[tuple[Callable[[Path], Any], str, type[KdauditError]]] = [
    (remove("model.safetensors"), "holds no weights", CheckpointError),
    (remove("config.json"), r"has no config\.json", CheckpointError),
    (remove("tokenizer.json"), "has no tokenizer", CheckpointError),
    (pickle_weights, "only pickled weights", CheckpointError),
    (put("config.json", b"{"), r"config\.json cannot be read", CheckpointError),
    (put("config.json", b"[]"), r"config\.json is not a JSON object", CheckpointError),
    (put("generation_config.json", b"[]"), r"generation_config\.json is not a JSON object", CheckpointError),
    (put("config.json", b"\xff\xfe"), r"config\.json cannot be read", CheckpointError),
    (lambda folder: edit_config(folder, model_type="nosuch"), "does not recognize", CheckpointError),
    (lambda folder: edit_config(folder, n_embd="wide"), "n_embd", CheckpointError),
    (as_index({"a": "one.safetensors", "b": "two.safetensors"}), r"lacks one\.safetensors, two\.saf", CheckpointError),
    (as_index({}), "lacks every shard", CheckpointError),
    (as_index(["one.safetensors"]), "says not which weights", CheckpointError),
    (as_index({"a": 3}), "says not which weights", CheckpointError),
    (put("model.safetensors", b""), "damaged or incomplete", ModelError),
    (put("model.safetensors", b"\xff" * 40), "damaged or incomplete", ModelError),
    (put("model.safetensors", header([])), "damaged or incomplete", ModelError),
    (put("model.safetensors", header({"a": {"dtype": "F32"}})), "damaged or incomplete", ModelError),
]


@pytest.mark.parametrize(("damage", "message", "kind"), DAMAGES, ids=[message for _, message, _ in DAMAGES])
def test_a_folder_that_is_no_checkpoint_is_refused_with_the_reason(
    copied: Copied, damage: Callable[[Path], Any], message: str, kind: type[KdauditError]
) -> None:
    folder = copied()
    damage(folder)
    with pytest.raises(kind, match=message) as caught:
        found(folder)
    assert str(caught.value).startswith("--teacher: ")
    assert str(folder) in str(caught.value)
    assert caught.value.exit_code == (ExitCode.BAD_INPUT if kind is CheckpointError else ExitCode.FAILED)


@pytest.mark.parametrize("n_missing", [1, 1000])
def test_truncated_weights_are_refused(copied: Copied, n_missing: int) -> None:
    folder = copied()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-n_missing])
    with pytest.raises(ModelError, match="damaged or incomplete"):
        found(folder)


def test_a_file_and_an_empty_folder_are_no_checkpoints(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file"):
        found(base / "config.json")
    with pytest.raises(CheckpointError, match="holds no weights"):
        found(tmp_path)


def test_a_sharded_checkpoint_is_whole(base: Path, tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path, max_shard_size="40KB")
    tiny.tokenizer().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert found(tmp_path).n_parameters == found(base).n_parameters
    assert torch.equal(logits(found(tmp_path)), logits(found(base)))
    shards[0].unlink()
    with pytest.raises(CheckpointError, match=f"lacks {shards[0].name}"):
        found(tmp_path)


def test_the_weights_that_are_fingerprinted_are_those_that_would_be_loaded(base: Path, tmp_path: Path) -> None:
    tiny.model(seed=1).save_pretrained(tmp_path, max_shard_size="40KB")
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, tmp_path)
    assert torch.equal(logits(found(tmp_path)), logits(found(base)))
    assert found(tmp_path).weights_sha256 == found(base).weights_sha256


def test_pickled_weights_are_read_where_that_is_allowed(base: Path, copied: Copied) -> None:
    folder = copied()
    pickle_weights(folder)
    with pytest.raises(CheckpointError) as caught:
        found(folder)
    assert "--allow-pickle" in caught.value.hint
    checkpoint = found(folder, allow_pickle=True)
    assert torch.equal(logits(checkpoint), logits(found(base)))
    assert checkpoint.fingerprint != found(base).fingerprint


class Attack:
    """What a pickle can do when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_even_an_allowed_pickle_runs_no_code(copied: Copied, tmp_path: Path) -> None:
    folder, mark = copied(), tmp_path / "was-run"
    torch.save({"transformer.wte.weight": Attack(mark)}, pickle_weights(folder))
    with pytest.raises(ModelError, match="pickled weights"):
        logits(found(folder, allow_pickle=True))
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_damaged_pickle_is_refused(copied: Copied, content: bytes) -> None:
    folder = copied()
    pickle_weights(folder).write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        logits(found(folder, allow_pickle=True))


def test_a_checkpoints_own_code_is_not_run_unasked(copied: Copied, tmp_path: Path) -> None:
    folder, mark = copied(), tmp_path / "was-run"
    (folder / "theirs.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    edit_config(folder, model_type="theirs", auto_map={"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M"})
    with pytest.raises(CheckpointError) as caught:
        found(folder)
    assert "--trust-remote-code" in caught.value.hint
    edit_config(folder, model_type="gpt2")
    assert torch.isfinite(logits(found(folder))).all()
    assert not mark.exists()


def test_trusted_code_is_part_of_the_fingerprint(copied: Copied) -> None:
    folder = copied()
    edit_config(folder, auto_map={"AutoModelForCausalLM": "theirs.M"})
    prints = set()
    for code in ("scale = 1\n", "scale = 2\n"):
        (folder / "theirs.py").write_text(code)
        prints |= {found(folder).fingerprint, found(folder, trust_remote_code=True).fingerprint}
    assert len(prints) == 3, "code that is never run changes nothing"


def test_a_copied_folder_is_the_same_checkpoint(base: Path, copied: Copied) -> None:
    assert found(copied()).fingerprint == found(base).fingerprint


def test_how_it_is_loaded_is_part_of_the_fingerprint(base: Path) -> None:
    assert len({found(base, load=load).fingerprint for load in (None, "4bit", "8bit")}) == 3
    small = [found(base, load=load).memory_bytes("float32") for load in ("4bit", "8bit", None)]
    assert small == sorted(small)


def flip(weights: dict[str, torch.Tensor]) -> None:
    weights["transformer.ln_f.bias"][0] += 1e-6


def test_one_other_weight_makes_another_checkpoint(base: Path, copied: Copied) -> None:
    folder = copied()
    edit_weights(folder, lambda weights: None)
    assert load_file(folder / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    before = found(folder).fingerprint
    edit_weights(folder, flip)
    assert found(folder).fingerprint != before


def test_another_setting_makes_another_checkpoint(base: Path, copied: Copied) -> None:
    folder = copied()
    edit_config(folder, layer_norm_epsilon=1e-3)
    assert found(folder).fingerprint != found(base).fingerprint
    assert found(folder).weights_sha256 == found(base).weights_sha256
