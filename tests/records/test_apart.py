"""Members and non-members that stand in one file: told apart by a field, by two fields, or by what a benchmark is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdaudit.errors import RecordsError
from kdaudit.records import read_both
from tests.records.test_hub import hub_of


def write(tmp_path: Path, *rows: Any) -> str:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def apart(source: str, **how: Any) -> list[list[str]]:
    return [[record.text for record in side.records] for side in read_both(source, option="--data", **how)]


def refusal(source: str, **how: Any) -> str:
    with pytest.raises(RecordsError) as caught:
        read_both(source, option="--data", **how)
    return f"{caught.value} | {caught.value.hint}".replace(source, "…")


LABELS = [(1, 0), (True, False), ("1", "0"), ("true", "False"), ("member", "nonmember"), ("Member", "non-member")]


@pytest.mark.parametrize(("yes", "no"), LABELS)
def test_a_field_says_who_is_a_member(yes: object, no: object, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": yes}, {"text": "b", "label": no}, {"text": "c", "label": yes}]
    assert apart(write(tmp_path, *rows), member_field="label") == [["a", "c"], ["b"]]
    table = tmp_path / "a.csv"
    table.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows), encoding="utf-8")
    assert apart(str(table), member_field="label") == [["a", "c"], ["b"]]


def test_columns_of_a_parquet_file_say_it_too_and_a_struct_can(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    meta = [{"seen": True}, {"seen": False}, {"seen": False}]
    pq.write_table(pa.table({"input": ["a", "b", "c"], "label": [1, 0, 0], "more": [1, 2, 3], "meta": meta}), path)
    assert apart(path, member_field="label", text_field="input") == [["a"], ["b", "c"]]
    assert apart(path, member_field="meta.seen", text_field="input") == [["a"], ["b", "c"]]


@pytest.mark.parametrize("value", [2, "yes please", None, 1.0, [], -1])
def test_what_says_neither_is_refused_by_line(value: object, tmp_path: Path) -> None:
    source = write(tmp_path, {"text": "a", "label": 1}, {"text": "b", "label": value})
    message = refusal(source, member_field="label")
    assert message.startswith(
        "--data …, line 2: field 'label' is neither 1 nor 0, true nor false, member nor nonmember"
    )


def test_a_record_without_the_field_and_a_side_without_records_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path, {"text": "a", "label": 1}, {"text": "b", "labl": 0})
    assert "line 2: no field 'label'; fields: text, labl | did you mean '--member-field labl'?" in refusal(
        source, member_field="label"
    )
    source = write(tmp_path, {"text": "a", "label": 1})
    assert "--data (non-members) …: holds no record" in refusal(source, member_field="label")
    assert "--data …: nothing says who is a member | give --member-field FIELD" in refusal(source)


def test_two_fields_hold_a_text_of_each(tmp_path: Path) -> None:
    rows = [{"id": 1, "member": "a", "nonmember": "b"}, {"id": 2, "member": "c", "nonmember": None}]
    members, nonmembers = read_both(write(tmp_path, *rows), option="--data", text_fields=("member", "nonmember"))
    assert [record.text for record in members.records] == ["a", "c"]
    assert [record.text for record in nonmembers.records] == ["b"]
    assert len({record.id for record in (*members.records, *nonmembers.records)}) == 3
    assert "no field 'nonmembr'" in refusal(write(tmp_path, *rows), text_fields=("member", "nonmembr"))


def test_labels_work_for_chats_and_for_several_files(tmp_path: Path) -> None:
    first = write(tmp_path, {"prompt": "a", "completion": "b", "label": 1})
    second = tmp_path / "b.jsonl"
    second.write_text('{"prompt": "c", "completion": "d", "label": 0}\n', encoding="utf-8")
    members, nonmembers = read_both([first, str(second)], option="--data", member_field="label")
    assert (members.records[0].n_prompt, nonmembers.records[0].text) == (1, "cd")
    assert members.named == nonmembers.named == (first, str(second))


SCRIPT = """
import sys
from kdaudit.errors import KdauditError
from kdaudit.records import read_both
for source in sys.argv[1:]:
    try:
        sides = read_both(source, option="--data")
        print([[r.text for r in side.records] for side in sides], sides[0].notes)
    except KdauditError as error:
        print(type(error).__name__, error, "|", error.hint)
"""


CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: WikiMIA_length32
    path: data/WikiMIA_length32-*
---
"""


def test_the_benchmarks_of_the_field_are_known_by_name(tmp_path: Path) -> None:
    table = pa.table({"input": ["seen", "new"], "label": [1, 0]})
    pq.write_table(table, tmp_path / "part")
    env = hub_of(tmp_path, unused={})
    for owner, name, files in (
        (
            "swj0419",
            "WikiMIA",
            {"data/WikiMIA_length32-0.parquet": (tmp_path / "part").read_bytes(), "README.md": CARD},
        ),
        (
            "iamgroot42",
            "mimir",
            {
                "cache_100_200_1000_512/train/arxiv_ngram_13_0.8.jsonl": b'"seen\\nthere"\n',
                "cache_100_200_1000_512/test/arxiv_ngram_13_0.8.jsonl": b'"new"\n"newer"\n',
            },
        ),
    ):
        kept = tmp_path / "hub" / f"datasets--{owner}--{name}"
        (kept / "refs").mkdir(parents=True)
        (kept / "refs" / "main").write_text("a" * 40)
        for file, content in files.items():
            path = kept / "snapshots" / ("a" * 40) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    sources = [
        "hub:swj0419/WikiMIA:WikiMIA_length32", "hub:iamgroot42/mimir:arxiv:ngram_13_0.8",
        "hub:iamgroot42/mimir:ngram_13_0.8", "hub:iamgroot42/mimir:github:ngram_7_0.2",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", SCRIPT, *sources], capture_output=True, text=True, check=True, env=env)
    wiki, mimir, unsaid, elsewhere = done.stdout.splitlines()
    assert wiki == (
        "[['seen'], ['new']] (\"--data hub:swj0419/WikiMIA:WikiMIA_length32: a known benchmark; 'label' says who is a "
        "member of the texts in 'input'\",)"
    )
    assert mimir.startswith("[['seen\\nthere'], ['new', 'newer']] ('--data hub:iamgroot42/mimir:arxiv:ngram_13_0.8: a ")
    assert unsaid.startswith("RecordsError --data hub:iamgroot42/mimir:ngram_13_0.8: MIMIR needs a source and a split")
    assert elsewhere.startswith(
        "HubError --data hub:iamgroot42/mimir:github:ngram_7_0.2: the data set cannot be reached"
    )
    assert "hf download --repo-type dataset iamgroot42/mimir 'cache_100_200_1000_512/train/github_ngram_7_" in elsewhere
