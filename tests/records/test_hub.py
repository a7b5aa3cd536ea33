"""Hub data sets: read from the local cache, refused clearly when out of reach."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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


ALIKE = """
import sys
from pathlib import Path
from kdaudit.errors import KdauditError
from kdaudit.records import read
for spec in sys.argv[1:]:
    name, _, source = spec.partition("=")
    try:
        found = read(source, option="--members")
        print(name, [(r.id, r.text) for r in found.records], found.sha256[:8])
    except KdauditError as error:
        print(name, type(error).__name__, str(error).replace(source, "…"), error.hint)
"""
ROWS = [("01", "2024-01-05"), ("2024-01-05", "NA"), ("1e5", "007"), ("true", "null"), ("+3", " padded ")]
"""Ids and texts that a reader which guesses types takes for numbers, dates or nothing."""


def as_files() -> dict[str, str]:
    listed = [{"id": own, "text": text} for own, text in ROWS]
    table = "".join(f'{own};"{text}"\n' for own, text in [("id", "text"), *ROWS])
    return {
        "jsonl": "".join(json.dumps(row) + "\n" for row in listed),
        "csv": table.replace(";", ","),
        "semicolons.csv": table,
        "tsv": table.replace(";", "\t"),
        "json": json.dumps(listed, indent=1),
    }


def hub_of(folder: Path, **repositories: dict[str, str | bytes]) -> dict[str, str]:
    """What `hf download acme/NAME` leaves, and the environment that finds it."""
    for repository, files in repositories.items():
        kept = folder / "hub" / f"datasets--acme--{repository}"
        (kept / "refs").mkdir(parents=True)
        (kept / "refs" / "main").write_text("a" * 40)
        for name, content in files.items():
            path = kept / "snapshots" / ("a" * 40) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    env = {**os.environ, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub")}
    return {**env, "HF_DATASETS_CACHE": str(folder / "datasets")}


def read_all(env: dict[str, str], **sources: str) -> dict[str, str]:
    """By name what each source gives, all in one process."""
    specs = [f"{name}={source}" for name, source in sources.items()]
    done = subprocess.run([sys.executable, "-c", ALIKE, *specs], capture_output=True, text=True, check=True, env=env)
    assert done.stderr == ""
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_a_hub_data_set_and_a_file_give_the_same_rows(tmp_path: Path) -> None:
    table = pa.table({name: [row[i] for row in ROWS] for i, name in enumerate(("id", "text"))})
    pq.write_table(table, tmp_path / "own.parquet")
    named = as_files()
    card = '---\nconfigs:\n- config_name: default\n  data_files: train.csv\n  sep: ";"\n---\n'
    env = hub_of(
        tmp_path,
        lines={"train.jsonl": named["jsonl"]},
        listed={"train.json": named["json"]},
        field={"train.json": f'{{"data": {named["json"]}}}',
               "README.md": "---\nconfigs:\n- config_name: default\n  data_files: train.json\n  field: data\n---\n"},
        csv={"train.csv": named["csv"]},
        semicolons={"train.csv": named["semicolons.csv"]},
        said={"train.csv": named["semicolons.csv"], "README.md": card},
        tsv={"train.tsv": named["tsv"]},
        zipped={"train.jsonl.gz": gzip.compress(named["jsonl"].encode())},
        parquet={"train.parquet": (tmp_path / "own.parquet").read_bytes()},
    )  # fmt: skip
    own = {}
    for name in named.keys() - {"json"}:
        own[name] = str(tmp_path / f"own.{name}")
        Path(own[name]).write_text(named[name])
    hubs = ("lines", "listed", "field", "csv", "semicolons", "said", "tsv", "zipped", "parquet")
    found = read_all(env, **own, own_parquet=str(tmp_path / "own.parquet"),
                     **{f"hub_{name}": f"hub:acme/{name}:train" for name in hubs})  # fmt: skip
    assert len(found) == 14
    assert {name for name, shown in found.items() if shown != f"{ROWS} {found['jsonl'][-8:]}"} == set()


def test_an_empty_split_or_a_slice_of_nothing_holds_no_record_as_an_empty_file_does(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), tmp_path / "none")
    empty = (tmp_path / "none").read_bytes()
    env = hub_of(tmp_path, notes={"train.jsonl": '{"id": 1, "text": "one"}\n', "test.jsonl": ""},
                 rows={"train.parquet": empty, "test.parquet": empty}, csv={"train.csv": "id,text\n"})  # fmt: skip
    found = read_all(
        env, empty="hub:acme/notes:test", slice="hub:acme/notes:train[1:]", all="hub:acme/notes:all",
        both="hub:acme/notes:train+test", wrong="hub:acme/notes:train[x:]", half="hub:acme/notes:train[:100%]",
        parquet="hub:acme/rows:train", csv="hub:acme/csv:train",
    )  # fmt: skip
    assert found["all"] == found["both"] == found["half"]
    assert found["both"].startswith("[('1', 'one')]")
    refused = "RecordsError --members …: holds no record give at least one text"
    assert {found[name] for name in ("empty", "slice", "parquet", "csv")} == {refused}
    assert found["wrong"].startswith("RecordsError --members …: ")
