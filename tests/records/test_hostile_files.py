"""Record files that would hang a reader or eat its memory are refused by their sizes, before anything is built."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdaudit.errors import RecordsError
from kdaudit.records import read, rows
from kdaudit.records.rows import MAX_CHARACTERS

SECONDS = 20  # on a busy machine


def many_columns(path: Path) -> Path:
    path = path.with_suffix(".csv")
    path.write_text(",".join(f"c{i}" for i in range(100_000)) + ",text\n" + "x," * 100_000 + "y\n")
    return path


def a_long_field(path: Path) -> Path:
    path = path.with_suffix(".csv")
    path.write_text("id,text\n1," + "a" * 5_000_000 + "\n2,b\n")
    return path


def a_long_header(path: Path) -> Path:
    path = path.with_suffix(".csv")
    path.write_text("a" * 5_000_000 + ",b\n1,2\n")
    return path


def a_long_text(path: Path) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text('{"text": "' + "a" * (MAX_CHARACTERS + 1) + '"}\n')
    return path


def millions_of_bad_lines(path: Path) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("{\n" * 5_000_000)
    return path


def millions_of_lines_of_no_text(path: Path) -> Path:
    path = path.with_suffix(".csv")
    path.write_bytes(b"text\n" + b"\xff\n" * 5_000_000)
    return path


def one_line_of_zeros(path: Path) -> Path:
    path = path.with_suffix(".txt")
    with path.open("wb") as file:
        file.truncate(2**40)
    return path


def a_pipe(path: Path) -> Path:
    os.mkfifo(path.with_suffix(".jsonl"))
    return path.with_suffix(".jsonl")


def a_device(path: Path) -> Path:
    path.with_suffix(".jsonl").symlink_to("/dev/zero")
    return path.with_suffix(".jsonl")


def a_loop(path: Path) -> Path:
    path.with_suffix(".jsonl").symlink_to(path.with_suffix(".jsonl").name)
    return path.with_suffix(".jsonl")


def parquet_of(words: list[str], indices: list[int]) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        column = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(words))
        path = path.with_suffix(".parquet")
        pq.write_table(pa.table({"text": column}), path, write_statistics=False)
        return path

    return make


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "100,000 columns": many_columns,
    "a field of 5 MB": a_long_field,
    "a header of 5 MB": a_long_header,
    "a text that is too long": a_long_text,
    "millions of bad lines": millions_of_bad_lines,
    "millions of lines of no text": millions_of_lines_of_no_text,
    "a line of a terabyte": one_line_of_zeros,
    "a pipe": a_pipe,
    "a device": a_device,
    "a loop of links": a_loop,
    "a text of 20 MB in Parquet": parquet_of(["a" * 20_000_000], [0]),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_it_is_refused_quickly_and_in_little_memory(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "records")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(RecordsError, match="--members") as raised:
        read(str(path), option="--members")
    assert time.monotonic() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet", "a.arrow", "a"])
def test_a_pointer_of_git_lfs_is_called_so(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", encoding="utf-8")
    with pytest.raises(RecordsError, match="is a pointer of Git LFS") as caught:
        read(str(tmp_path / name), option="--members")
    assert "git lfs pull" in str(caught.value.hint)


def test_texts_that_are_packed_as_no_text_is_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "UNPACKED", 2**24)
    path, schema = tmp_path / "bomb.parquet", pa.schema({"text": pa.string()})
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False, write_statistics=False) as writer:
        for i in range(6):  # row groups that are harmless by themselves, of texts that all differ
            writer.write_table(pa.table({"text": [f"{i} {j}" + " " * 1_000_000 for j in range(10)]}, schema))
    with pytest.raises(RecordsError, match=r"--members .* bytes that would unpack to 60,\d\d\d,\d\d\d, and texts are"):
        read(str(path), option="--members")


def test_a_text_that_parquet_packs_many_times_is_one_text(tmp_path: Path) -> None:
    path = parquet_of(["a" * 1_000_000, "b"], [0] * 600 + [1])(tmp_path / "records")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read(str(path), option="--members")
    assert (len(found.records), found.n_duplicates) == (2, 599)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_a_chat_that_parquet_packs_many_times_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    chat = [{"role": "user", "content": "a" * 1_000_000}, {"role": "assistant", "content": "b"}]
    pq.write_table(pa.table({"messages": [chat] * 200}), path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asked = "a" * 1_000_000
    found = read(str(path), option="--members", render=lambda chat: (asked, f"{chat.messages[0]['content']}b"))
    assert (len(found.records), found.n_duplicates) == (1, 199)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_a_packed_column_with_gaps_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], "id": [None, "x", "y"]}), path)
    assert [record.text for record in read(str(path), option="--members").records] == ["a", "b", "c"]
    assert [record.id for record in read(str(path), option="--members").records][1:] == ["x", "y"]
    pq.write_table(pa.table({"text": ["a", None]}), path)
    with pytest.raises(RecordsError, match="row 2: field 'text' is null"):
        read(str(path), option="--members")
