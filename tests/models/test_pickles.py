"""Nothing pickled is ever read without the flag, whatever it is called and whatever names it."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdaudit.errors import CheckpointError, KdauditError
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import load

Copied = Callable[[], Path]


class Touch:
    """Unpickling it touches a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.mark,)


def weights(folder: Path, mark: Path, name: str) -> Path:
    """The weights of a folder as a pickle that is a program too."""
    path = folder / name
    torch.save({**load_file(folder / "model.safetensors"), "x": Touch(mark)}, path)
    return path


def index(folder: Path, name: str, *, kind: str = "model.safetensors") -> None:
    keys = load_file(folder / "model.safetensors")
    (folder / f"{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(keys, name)}))
    (folder / "model.safetensors").unlink()


def named_by_index(name: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, mark: Path) -> None:
        weights(folder, mark, Path(name).name if "\\" in name else name)
        index(folder, name)

    return change


def outside(folder: Path, mark: Path) -> None:
    weights(folder, mark, "../elsewhere.safetensors")
    index(folder, "../elsewhere.safetensors")


def absolute(folder: Path, mark: Path) -> None:
    index_name = str(weights(folder, mark, "weights.safetensors"))
    index(folder, index_name)


def under_a_safe_name(folder: Path, mark: Path) -> None:
    weights(folder, mark, "model.bin").rename(folder / "model.safetensors")


def bare_pickle(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Touch(mark)))


def linked(folder: Path, mark: Path) -> None:
    weights(folder, mark, "weights.bin")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("weights.bin")


def named_by_config(folder: Path, mark: Path) -> None:
    weights(folder, mark, "adapter_model.bin")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "transformers_weights": "adapter_model.bin"}))


def only_pickled(folder: Path, mark: Path) -> None:
    weights(folder, mark, "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickled_index(folder: Path, mark: Path) -> None:
    weights(folder, mark, "weights.bin")
    index(folder, "weights.bin", kind="pytorch_model.bin")


HIDDEN: dict[str, Callable[[Path, Path], None]] = {
    "index names weights.bin": named_by_index("weights.bin"),
    "index names pytorch_model.bin": named_by_index("pytorch_model.bin"),
    "index names a pickle as safetensors": named_by_index("weights.safetensors"),
    "index names a file outside": outside,
    "index names an absolute path": absolute,
    "a pickle called model.safetensors": under_a_safe_name,
    "an old pickle called model.safetensors": bare_pickle,
    "a link to a pickle": linked,
    "config.json names it": named_by_config,
    "pytorch_model.bin alone": only_pickled,
    "an index of pickles": pickled_index,
}


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
def test_a_pickle_is_refused_wherever_it_hides(
    hide: Callable[[Path, Path], None], copied: Copied, tmp_path: Path
) -> None:
    folder, mark = copied(), tmp_path / "mark"
    hide(folder, mark)
    with pytest.raises(CheckpointError):
        load(find(str(folder), option="--teacher"), device="cpu", dtype="float32")
    assert not mark.exists()


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
def test_with_the_flag_a_pickle_still_runs_no_program(
    hide: Callable[[Path, Path], None], copied: Copied, tmp_path: Path
) -> None:
    folder, mark = copied(), tmp_path / "mark"
    hide(folder, mark)
    with pytest.raises(KdauditError):
        load(find(str(folder), option="--teacher", allow_pickle=True), device="cpu", dtype="float32")
    assert not mark.exists()


def test_with_the_flag_shards_of_pickles_are_read_and_fingerprinted(copied: Copied) -> None:
    folder = copied()
    whole = find(str(folder), option="--teacher")
    torch.save(load_file(folder / "model.safetensors"), folder / "weights.bin")
    index(folder, "weights.bin", kind="pytorch_model.bin")
    found = find(str(folder), option="--teacher", allow_pickle=True)
    model = load(found, device="cpu", dtype="float32")
    assert model.num_parameters() == whole.n_parameters
    shutil.copy(folder / "weights.bin", folder / "other.bin")
    torch.save({name: weight + 1 for name, weight in model.state_dict().items()}, folder / "weights.bin")
    assert find(str(folder), option="--teacher", allow_pickle=True).weights_sha256 != found.weights_sha256


def test_an_index_may_name_nothing_but_plain_names_of_its_own_folder(copied: Copied) -> None:
    folder = copied()
    shard = folder / "model.safetensors"
    for name in ("/etc/passwd", "../model.safetensors", "a/b.safetensors", "x" * 10_000 + ".safetensors", "..", "",
                 "\0.safetensors", "~root.safetensors/x", "..\\model.safetensors"):  # fmt: skip
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        shard.unlink(missing_ok=True)
        with pytest.raises(CheckpointError, match="its own folder") as raised:
            find(str(folder), option="--teacher")
        assert len(str(raised.value)) < 600
