"""Hub data sets: read from the local cache, refused clearly when out of reach."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdaudit.errors import ExitCode, HubError, RecordsError
from kdaudit.records import read


def test_a_hub_data_set_out_of_reach_is_exit_4_with_the_command_that_fetches_it(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError) as caught:
        read("hub:nobody/no-such-notes:train", option="--members")
    assert caught.value.exit_code is ExitCode.FAILED
    assert caught.value.hint.endswith("hf download --repo-type dataset nobody/no-such-notes")


@pytest.mark.parametrize("source", ["hub:", "hub:name", "hub:../up:train", "hub:a:b:c:d"])
def test_a_hub_source_of_another_form_is_refused(source: str) -> None:
    with pytest.raises(RecordsError) as caught:
        read(source, option="--members")
    assert str(caught.value) == f"--members {source}: not of the form hub:name[:config]:split"


def test_a_folder_does_not_stand_in_for_a_hub_data_set(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordsError, match="'notes' is also a path here"):
        read("hub:notes:train", option="--members")


SCRIPT = """
from kdaudit.errors import RecordsError
from kdaudit.records import read
for end in ["train", "default:train[1:]", "tes", "x:train"]:
    try:
        print([(r.id, r.text, r.line) for r in read(f"hub:acme/notes:{end}", option="--members").records])
    except RecordsError as error:
        print(error)
"""


def test_a_hub_data_set_is_read_from_what_hf_download_left(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "datasets--acme--notes"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    (snapshot / "train.jsonl").write_text('{"id": 5, "text": "one"}\n{"id": 6, "text": "two"}\n')
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    env["HF_DATASETS_CACHE"] = str(tmp_path / "datasets")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines() == [
        "[('5', 'one', 1), ('6', 'two', 2)]",
        "[('6', 'two', 1)]",
        "--members hub:acme/notes:tes: Unknown split \"tes\". Should be one of ['train'].",
        "--members hub:acme/notes:x:train: BuilderConfig 'x' not found. Available: ['default']",
    ]
    assert done.stderr == ""
