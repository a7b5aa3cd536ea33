"""Checkpoints of the Hub, from a cache laid out by hand: found without a network, with their commit."""

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from kdaudit.errors import CheckpointError, ExitCode, ModelError
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import load_tokenizer, loaded
from tests import tiny

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def cache(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache that downloads leave: two commits of one repository, a branch and a tag."""
    repository = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(base, repository / "snapshots" / NEW)
    tiny.save(repository / "snapshots" / OLD, seed=1)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEW)
    (repository / "refs" / "v1").write_text(OLD)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


def found(name: str) -> Checkpoint:
    return find(name, option="--student")


@pytest.mark.parametrize(
    ("given", "commit"), [("", NEW), ("@main", NEW), ("@v1", OLD), (f"@{OLD}", OLD), (f"@{NEW}", NEW)]
)
def test_a_revision_in_the_cache_is_found_and_its_commit_recorded(cache: Path, given: str, commit: str) -> None:
    checkpoint = found(f"owner/name{given}")
    assert (checkpoint.name, checkpoint.revision) == ("owner/name", commit)
    assert checkpoint.folder.samefile(cache / "snapshots" / commit)


def test_it_is_the_checkpoint_that_a_folder_with_the_same_files_is(cache: Path, base: Path) -> None:
    assert found("owner/name").fingerprint == found(str(base)).fingerprint != found("owner/name@v1").fingerprint
    assert load_tokenizer(found("owner/name")).is_fast
    with loaded(found("owner/name@v1"), device="cpu", dtype="float32") as model:
        assert torch.equal(model.state_dict()["transformer.wte.weight"], tiny.model(seed=1).transformer.wte.weight)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("owner/other", "hf download owner/other"),
        ("gpt-nowhere", "hf download gpt-nowhere"),
        ("owner/name@v9", "hf download owner/name --revision v9"),
        ("owner/other@" + OLD, f"hf download owner/other --revision {OLD}"),
    ],
)
def test_what_is_not_in_the_cache_is_named_with_the_command_that_fetches_it(
    cache: Path, name: str, command: str
) -> None:
    with pytest.raises(ModelError, match="not in the local cache") as caught:
        found(name)
    assert caught.value.exit_code == ExitCode.FAILED
    assert str(caught.value).startswith("--student: ")
    assert caught.value.hint.endswith(command)


@pytest.mark.parametrize(
    "name",
    [
        "/nowhere/at/all", "./nowhere", "../nowhere", "~/nowhere-at-all", "one/two/three", "one\\two", "@main",
        "two words", "owner/na me@v1", "-dash/", "a..b", "nul\0", "long" * 200,
    ],
)  # fmt: skip
def test_what_can_be_neither_a_folder_nor_a_hub_id_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"no folder|neither a folder nor a Hub id") as caught:
        found(name)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert caught.value.hint


def test_a_folder_comes_before_a_hub_id_of_the_same_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "owner" / "name", seed=2)
    assert found("owner/name").revision is None


def test_a_hub_checkpoint_of_which_only_pickles_exist_says_how_to_get_them(cache: Path) -> None:
    (cache / "snapshots" / NEW / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights") as caught:
        found("owner/name")
    assert "--allow-pickle" in caught.value.hint


@pytest.mark.parametrize("revision", ["/dev/zero", "../../x", "-x", "a b", "\x1b[31m", "x" + "/.." * 3])
def test_what_is_no_revision_is_refused_before_a_file_of_that_name_is_read(revision: str) -> None:
    with pytest.raises(CheckpointError, match="is not a revision of owner/name"):
        find(f"owner/name@{revision}", option="--teacher")
