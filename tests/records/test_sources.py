"""What may be named as records: files of every kind, packed or not, several of them, and standard input."""

import bz2
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from kdaudit.errors import RecordsError
from kdaudit.records import RecordSet, packed, read, rows

ROWS = [
    {"id": "01", "text": "One, two\nthree."},
    {"id": "2024-01-05", "text": "NA"},
    {"id": "1e5", "text": " x\u2028y"},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = pa.table({name: [row[name] for row in ROWS] for name in ("id", "text")})


def found(source: str | list[str], **layout: Any) -> RecordSet:
    return read(source, option="--members", **layout)


def shown(source: str | list[str], **layout: Any) -> list[tuple[str, str]]:
    return [(record.id, record.text) for record in found(source, **layout).records]


def refusal(source: str | list[str], **layout: Any) -> str:
    with pytest.raises(RecordsError) as caught:
        found(source, **layout)
    return f"{caught.value} | {caught.value.hint}"


def arrow_stream() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return bytes(sink.getvalue())


def feather(**how: object) -> bytes:
    out = io.BytesIO()
    pyarrow.feather.write_feather(TABLE, out, **how)
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(TABLE, out)
    return out.getvalue()


def csv(delimiter: str) -> bytes:
    quoted = ['"' + row["text"].replace('"', '""') + '"' for row in ROWS]
    body = [f"{row['id']}{delimiter}{text}" for row, text in zip(ROWS, quoted, strict=True)]
    return "\n".join([f"id{delimiter}text", *body, ""]).encode()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda raw: bytes(pa.compress(raw, codec="zstd", asbytes=True)),
}  # fmt: skip
FILES = {
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS, "tags": ["x"]}).encode(),
    "lines.json": LINES,
    "a.arrow": arrow_stream(),
    "a.feather": feather(),
    "packed.feather": feather(compression="zstd"),
    "a.parquet": parquet(),
    **{f"{i}.csv": csv(delimiter) for i, delimiter in enumerate(",;\t|~^\x01§")},
    **{f"a.jsonl{suffix}": pack(LINES) for suffix, pack in PACK.items()},
    "many.jsonl.gz": b"".join(gzip.compress(line) for line in LINES.splitlines(keepends=True)),
    "a.csv.gz": gzip.compress(csv(";")),
    "a.parquet.gz": gzip.compress(parquet()),
    "lines": LINES,
    "listed": json.dumps(ROWS).encode(),
    "columns": parquet(),
    "stream": arrow_stream(),
    "table": csv(";"),
    "wide": csv(";").decode().encode("utf-16"),
    "wide.json": json.dumps(ROWS, ensure_ascii=False).encode("utf-16"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_container_gives_the_same_records_and_the_same_hash(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain.jsonl").write_bytes(LINES)
    (tmp_path / name).write_bytes(FILES[name])
    one = found(str(tmp_path / name))
    assert [(record.id, record.text) for record in one.records] == [(row["id"], row["text"]) for row in ROWS]
    assert one.sha256 == found(str(tmp_path / "plain.jsonl")).sha256


def test_what_was_found_out_about_a_file_is_said(tmp_path: Path) -> None:
    for name in ("4.csv", "2.csv", "table", "a.jsonl.gz"):
        (tmp_path / name).write_bytes(FILES[name])
    label = f"--members {tmp_path}"
    assert found(str(tmp_path / "4.csv")).notes == (f"{label}/4.csv: its columns are separated by '~'",)
    assert found(str(tmp_path / "2.csv")).notes == (f"{label}/2.csv: its columns are separated by '\\t'",)
    assert found(str(tmp_path / "a.jsonl.gz")).notes == ()
    assert found(str(tmp_path / "table")).notes == (
        f"{label}/table: read as a table, by how it begins", f"{label}/table: its columns are separated by ';'"
    )  # fmt: skip


def test_several_files_are_one_set_and_their_hash_is_that_of_one_file(tmp_path: Path) -> None:
    parts = [tmp_path / "a.jsonl", tmp_path / "b.csv"]
    parts[0].write_text('{"text": "one", "id": 1}\n{"text": "two", "id": 2}\n')
    parts[1].write_text("id,text\n3,three\n1,one\n")
    (tmp_path / "whole.jsonl").write_text("".join(f'{{"text": "{t}", "id": {i}}}\n' for i, t in
                                                  enumerate(("one", "two", "three"), start=1)))  # fmt: skip
    both, whole = found([str(part) for part in parts]), found(str(tmp_path / "whole.jsonl"))
    assert both.sha256 == whole.sha256
    assert both.n_duplicates == 1
    assert both.named == tuple(map(str, parts))
    assert both.source == f"{parts[0]} + {parts[1]}"
    assert [record.place for record in both.records] == [f"{parts[0]}:1", f"{parts[0]}:2", f"{parts[1]}:2"]
    assert [record.place for record in whole.records] == ["1", "2", "3"]


def test_an_error_in_one_of_several_files_names_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"text": "one", "id": 1}\n{"txt": "two"}\n')
    second.write_text('{"text": "three"}\n{"text": 3}\n{"text": "other", "id": 1}\n')
    assert refusal([str(first), str(second)]).startswith(
        f"--members {first} + {second}: 3 lines cannot be used\n  {first}, line 2: no field 'text'; fields: txt\n  "
        f"{second}, line 2: field 'text' is a number, not a string\n  {second}, line 3: id '1' stands in {first} too"
    )
    first.write_text('{"text": "one"}\n')
    assert refusal([str(first), str(second)]).startswith(f"--members {second}, line 2: field 'text' is a number")


def test_a_folder_of_shards_and_a_pattern_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        shard = tmp_path / f"train-{number:05}-of-00010.jsonl.gz"
        shard.write_bytes(gzip.compress(f'{{"text": "shard {number}"}}\n'.encode()))
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".hidden.jsonl").write_text("{}")
    expected = ["shard 1", "shard 2", "shard 10"]
    for source in (tmp_path, f"{tmp_path}/", tmp_path / "train-*.gz", tmp_path / "**" / "*.jsonl.gz"):
        assert [text for _, text in shown(str(source))] == expected
    assert found(str(tmp_path)).sha256 == found([str(one) for one in sorted(tmp_path.glob("train*"))]).sha256
    (tmp_path / "train-00003-of-00010.jsonl").write_text('{"text": 3}\n')
    message = refusal(str(tmp_path / "train-*"))
    assert f"{tmp_path}/train-00003-of-00010.jsonl, line 1: field 'text' is a number" in message


def test_a_folder_of_different_sets_is_not_read_as_one(tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "train-1.jsonl", "test-0.jsonl"):
        (tmp_path / name).write_text('{"text": "x"}\n')
    message = refusal(str(tmp_path))
    assert (
        "is a folder of 3 files with different names (test-0.jsonl, train-1.jsonl), which may be different" in message
    )
    assert f"such as '{tmp_path}/test-*.jsonl'" in message
    (tmp_path / "empty").mkdir()
    assert "is a folder without files that can be read" in refusal(str(tmp_path / "empty"))
    assert "no file has such a name" in refusal(str(tmp_path / "empty" / "*.jsonl"))


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one\n")
    (tmp_path / "a1.txt").write_text("two\n")
    assert [text for _, text in shown(str(tmp_path / "a[1].txt"))] == ["one"]


def test_a_text_file_is_read_by_lines_paragraphs_or_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n\none\r\nmore\r\n  \r\n\r\ntwo\n three\n")
    paragraphs = found(str(path), txt_record="paragraph").records
    assert [(record.text, record.line) for record in paragraphs] == [("one\r\nmore", 3), ("two\n three", 7)]
    assert [record.text for record in found(str(path), txt_record="file").records] == [
        "\n\none\r\nmore\r\n  \r\n\r\ntwo\n three"
    ]
    (tmp_path / "bob.txt").write_text("of Bob\n")
    whole = found(str(tmp_path), txt_record="file")
    assert [record.text for record in whole.records][1] == "of Bob"
    assert len(found(str(path), skip_empty=True).records) == 4


def test_a_text_of_many_lines_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_CHARACTERS", 100)
    (tmp_path / "a.txt").write_text("ten chars\n" * 20)
    for unit in ("paragraph", "file"):
        message = refusal(str(tmp_path / "a.txt"), txt_record=unit)
        assert "the text that begins in line 1 has more than 100 characters" in message
    assert len(found(str(tmp_path / "a.txt")).records) == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.parquet"])
def test_empty_texts_are_left_out_and_counted_where_that_is_asked_for(name: str, tmp_path: Path) -> None:
    texts = ["one", "", " \t", "two"]
    content = {
        "a.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in texts), "a.txt": "\n".join(texts),
        "a.csv": "text\n" + "\n".join(f'"{text}"' for text in texts),
    }  # fmt: skip
    path = tmp_path / name
    pq.write_table(pa.table({"text": texts}), path) if name == "a.parquet" else path.write_text(content[name])
    assert "--skip-empty leaves such records out" in refusal(str(path))
    one = found(str(path), skip_empty=True)
    assert ([record.text for record in one.records], one.n_empty) == (["one", "two"], 2)
    assert one.notes == (f"--members {path}: 2 empty texts are left out (--skip-empty)",)
    path.write_bytes(b"text\n \n") if name == "a.csv" else path.write_bytes(b'{"text": ""}\n')
    if name in {"a.jsonl", "a.csv"}:
        assert "holds no record: all 1 of its texts are empty" in refusal(str(path), skip_empty=True)


def test_a_null_is_no_empty_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": null}\n')
    assert "field 'text' is null" in refusal(str(tmp_path / "a.jsonl"), skip_empty=True)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.feather", "a.json"])
def test_a_field_of_a_struct_is_named_with_a_dot(name: str, tmp_path: Path) -> None:
    listed = [{"doc": {"text": "one", "n": 1}, "meta": {"key": "k1"}}, {"doc": {"text": "two"}, "meta": {"key": "k2"}}]
    path = tmp_path / name
    table = pa.Table.from_pylist(listed)
    if name == "a.parquet":
        pq.write_table(table, path)
    elif name == "a.feather":
        pyarrow.feather.write_feather(table, path)
    else:
        joined = "".join(json.dumps(row) + "\n" for row in listed) if name == "a.jsonl" else json.dumps(listed)
        path.write_text(joined)
    assert shown(str(path), text_field="doc.text", id_field="meta.key") == [("k1", "one"), ("k2", "two")]
    assert "no field 'doc.txt'" in refusal(str(path), text_field="doc.txt")
    assert "no record has the field 'meta.kee'" in refusal(str(path), text_field="doc.text", id_field="meta.kee")


def test_a_field_whose_own_name_has_a_dot_comes_first(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"doc.text": "own", "doc": {"text": "inner"}}\n')
    assert shown(str(tmp_path / "a.jsonl"), text_field="doc.text")[0][1] == "own"


@pytest.mark.parametrize("n_splits", [0, 2])
def test_a_data_set_that_was_saved_is_read_split_by_split(n_splits: int, tmp_path: Path) -> None:
    data = datasets.Dataset.from_list([*ROWS, {"id": "x", "text": "last"}]).select([2, 0, 1])
    folder = str(tmp_path / "saved")
    if not n_splits:
        data.save_to_disk(folder)
        assert [text for _, text in shown(folder)] == [ROWS[i]["text"] for i in (2, 0, 1)]
        assert "the data set has no splits" in refusal(f"{folder}:train")
        return
    other = datasets.Dataset.from_list([{"id": 7, "text": "held out"}])
    datasets.DatasetDict({"train": data.with_format("numpy"), "test": other}).save_to_disk(folder)
    assert shown(f"{folder}:test") == [("7", "held out")]
    assert [own for own, _ in shown(f"{folder}:train")] == [ROWS[i]["id"] for i in (2, 0, 1)]
    assert f"a data set with several splits; splits: train, test | give one of them: {folder}:train" in refusal(folder)
    assert "no split 'tset'; splits: train, test" in refusal(f"{folder}:tset")
    assert "no column 'body'; columns: id, text" in refusal(f"{folder}:train", text_field="body")


@pytest.mark.parametrize("name", ["lines", "listed", "columns", "table", "a.jsonl.zst"])
def test_standard_input_is_read_whatever_it_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FILES[name])))
    assert shown("-") == [(row["id"], row["text"]) for row in ROWS]


def test_standard_input_without_anything_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert refusal("-") == "--members -: is empty | pipe at least one text into the command"
    monkeypatch.setattr(packed, "MAX_PIPED", 3)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"four")))
    assert "more than 3 bytes" in refusal("-")


@pytest.mark.parametrize("suffix", PACK)
def test_what_unpacks_to_more_than_texts_can_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "UNPACKED", 2**22)
    path = tmp_path / f"bomb.jsonl{suffix}"
    path.write_bytes(PACK[suffix](b"\n" * 2**24))
    message = refusal(str(path))
    assert "that unpack to more than" in message
    assert "texts are packed 100 times at most" in message


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_file_that_is_cut_off_or_holds_nothing_is_one_message(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACK[suffix](LINES * 50)[:-20])
    assert "not readable as " in refusal(str(path))
    path.write_bytes(PACK[suffix](b""))
    assert "is empty" in refusal(str(path))


BAD = {
    "a.json": (b"{", "not readable JSON: "),
    "b.json": (b'{"a": [{"text": "x"}], "b": [{"text": "y"}]}', "an object with 2 lists of records: a, b"),
    "c.json": (b'{"text_": ["x"]}', "holds no list of records"),
    "d.json": (b"3", "holds no list of records"),
    "e.json": (b'[{"text": "x"}, 3]', "row 2: a number where a JSON object is needed"),
    "a.arrow": (b"ARROW1 and nothing else", "not a readable Arrow file"),
    "b.arrow": (arrow_stream()[:-200], "not a readable Arrow file"),
    "noise": (b"\x00\x01\x02", "has no suffix and is not text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_container_is_one_message(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BAD[name][0])
    assert BAD[name][1] in refusal(str(tmp_path / name))


def test_a_json_value_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_JSON_LIST", 10)
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    assert "one JSON value of more than 10 bytes | write one JSON object per line" in refusal(str(tmp_path / "a.json"))
