"""Reading records: what is accepted, and one clear message for everything that is not."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.errors import ExitCode, RecordsError
from kdaudit.records import Record, RecordSet, read

SECRET = "the patient was told"
Write = Callable[[str, bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return _write


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def read_members(source: str, *, text_field: str = "text", id_field: str = "id") -> RecordSet:
    return read(source, option="--members", text_field=text_field, id_field=id_field)


def refusal(source: str, *, text_field: str = "text", id_field: str = "id") -> tuple[str, str]:
    with pytest.raises(RecordsError) as caught:
        read_members(source, text_field=text_field, id_field=id_field)
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert str(caught.value).startswith(f"--members {source}")
    assert SECRET not in str(caught.value) + caught.value.hint
    return str(caught.value).removeprefix(f"--members {source}"), caught.value.hint


def parquet(path: Path, **columns: object) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


TABLE = {"id": ["a", "b"], "text": ["One, two\nthree.", 'She said "four".']}


def as_csv(delimiter: str) -> bytes:
    return f'id{delimiter}text\r\na{delimiter}"One, two\nthree."\r\nb{delimiter}"She said ""four""."\r\n'.encode()


def test_the_same_records_come_out_of_every_format(write: Write, tmp_path: Path) -> None:
    rows = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]
    sources = [
        write("a.jsonl", lines(*rows)),
        write("a.NDJSON", lines(*rows)),
        write("a.csv", as_csv(",")),
        write("a.tsv", as_csv("\t")),
        parquet(tmp_path / "a.parquet", **TABLE),
    ]
    sets = [read_members(source) for source in sources]
    assert {tuple((record.id, record.text) for record in s.records) for s in sets} == {
        (("a", "One, two\nthree."), ("b", 'She said "four".'))
    }
    assert len({s.sha256 for s in sets}) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_the_delimiter_is_the_one_under_which_the_header_holds_the_text(
    name: str, delimiter: str, write: Write
) -> None:
    found = read_members(write(name, as_csv(delimiter)))
    assert [(record.id, record.text) for record in found.records] == list(zip(*TABLE.values(), strict=True))
    said = read_members(write(name, f"sep={delimiter}\r\n".encode() + as_csv(delimiter)))
    assert [record.line for record in said.records] == [3, 5]


def test_a_delimiter_in_names_or_texts_does_not_mislead(write: Write) -> None:
    assert read_members(write("a.csv", b"text,a;b\none;two,x\n")).records[0].text == "one;two"
    assert read_members(write("b.csv", b"\n\ntext\none; two\n")).records[0].text == "one; two"
    prompts = b'prompt;completion\n"Say, please: ";yes\n'
    assert read_members(write("c.csv", prompts)).records[0].text == "Say, please: yes"
    assert refusal(write("d.csv", b"id;note\n1;x\n"))[0] == ": no column 'text' among 1"


def test_a_text_file_holds_one_text_a_line(write: Write) -> None:
    assert read_members(write("a.txt", b"one\n two \nthree")).records[1].text == " two "
    assert len(read_members(write("b.txt", b"one\ntwo\n")).records) == 2


def test_only_line_feeds_end_a_line(write: Write) -> None:
    text = "a\u2028b\x85c\x0cd\x1ee"
    assert [r.text for r in read_members(write("a.txt", f"{text}\nf\n".encode())).records] == [text, "f"]
    raw = json.dumps({"text": text.replace("\x0c", "").replace("\x1e", "")}, ensure_ascii=False)
    assert len(read_members(write("a.jsonl", raw.encode())).records) == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_bom_and_windows_line_ends_change_nothing(write: Write, name: str) -> None:
    body = {"a.jsonl": lines({"text": "one"}, {"text": "two"}), "a.csv": b"text\none\ntwo\n", "a.txt": b"one\ntwo\n"}[
        name
    ]
    plain = read_members(write(name, body))
    windows = read_members(write(name, b"\xef\xbb\xbf" + body.replace(b"\n", b"\r\n")))
    assert windows == plain


def test_blank_lines_of_jsonl_hold_no_record_but_count_as_lines(write: Write) -> None:
    source = write("a.jsonl", b'\n{"text": "one"}\n  \n{"text": "two"}\n\n')
    assert [record.line for record in read_members(source).records] == [2, 4]


def test_a_csv_record_is_named_by_its_first_line(write: Write) -> None:
    source = write("a.csv", b'text\n"one\n\nmore"\n\ntwo\n')
    assert [record.line for record in read_members(source).records] == [2, 6]


def test_a_csv_text_may_be_longer_than_the_default_limit(write: Write) -> None:
    assert len(read_members(write("a.csv", b"text\n" + b"x" * 200_000)).records[0].text) == 200_000


def test_duplicates_are_kept_once_and_counted(write: Write) -> None:
    found = read_members(
        write("a.jsonl", lines({"text": "x", "id": 7}, {"text": "y", "id": 8}, {"text": "x", "id": 7}))
    )
    assert found.n_duplicates == 1
    assert found.records == (Record("7", "x", 1), Record("8", "y", 2))


def test_records_without_an_id_get_one_beside_those_that_have_one(write: Write) -> None:
    source = write("a.jsonl", lines({"text": "x", "id": "own"}, {"text": "y"}, {"text": "z", "id": None}))
    first, second, third = read_members(source).records
    assert first.id == "own"
    assert len({second.id, third.id}) == 2
    assert len(second.id) == 16
    assert read_members(source).records[1].id == second.id


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(texts, min_size=1, unique=True))
def test_any_text_survives_the_way_through_jsonl(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_bytes(lines(*({"text": value} for value in values)))
    assert [record.text for record in read_members(str(path)).records] == values


def test_a_missing_file_is_answered_with_the_nearest_name(write: Write, tmp_path: Path) -> None:
    write("members.jsonl", b"")
    message, hint = refusal(str(tmp_path / "member.jsonl"))
    assert message == ": no such file"
    assert hint == f"did you mean '{tmp_path / 'members.jsonl'}'?"


def test_a_file_that_must_not_be_read_is_said_so(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write("a.jsonl", lines({"text": "x"}))

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert refusal(source) == (": cannot be opened: Permission denied", "check its permissions")


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", b""), ("a.parquet", b""), ("a.csv", b"")])
def test_an_empty_file_is_refused(write: Write, name: str, content: bytes) -> None:
    assert refusal(write(name, content))[0] == ": is empty"


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", b"\n\n"), ("a.csv", b"text\n"), ("a.csv", b"\n")])
def test_a_file_without_a_record_is_refused(write: Write, name: str, content: bytes) -> None:
    assert refusal(write(name, content))[0] == ": holds no record"


def test_an_unknown_suffix_is_answered_with_the_known_ones(write: Write) -> None:
    message, hint = refusal(write("a.docx", b"PK"))
    assert message == ": unknown kind of file '.docx'"
    assert ".parquet" in hint


def test_a_broken_line_17_is_named_with_its_column(write: Write) -> None:
    good = [{"text": f"{SECRET} {i}"} for i in range(16)]
    message, _ = refusal(
        write("a.jsonl", lines(*good) + f'{{"text": "{SECRET}" "id"}}\n'.encode() + lines({"text": "x"}))
    )
    assert message == ", line 17: broken JSON at column 33: Expecting ',' delimiter"


BAD_JSON_VALUES = [
    ([SECRET], "a list where a JSON object is needed"),
    (3, "a number where a JSON object is needed"),
    ({"body": SECRET, "id": 1}, "no field 'text'; fields: body, id"),
    ({"text": 3}, "field 'text' is a number, not a string"),
    ({"text": None}, "field 'text' is null, not a string"),
    ({"text": [SECRET]}, "field 'text' is a list, not a string"),
    ({"text": ""}, "an empty text"),
    ({"text": " \n\t\u2003"}, "only whitespace"),
    ({"text": f"{SECRET}\ud800"}, "field 'text' holds half a surrogate pair at character 21"),
    ({"text": f"{SECRET}\0"}, "field 'text' holds a NUL character"),
    ({"text": SECRET, "id": 1.5}, "field 'id' is a number"),
    ({"text": SECRET, "id": True}, "field 'id' is true or false"),
    ({"text": SECRET, "id": {"a": 1}}, "field 'id' is an object"),
    ({"text": SECRET, "id": "\udfff"}, "field 'id' holds half a surrogate pair at character 1"),
]


@pytest.mark.parametrize(("value", "what"), BAD_JSON_VALUES)
def test_a_record_that_cannot_be_used_is_named_with_its_line(write: Write, value: object, what: str) -> None:
    assert refusal(write("a.jsonl", lines({"text": "good"}, value)))[0] == f", line 2: {what}"


@pytest.mark.parametrize("raw", [b'{"text": ' + b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}"])
def test_json_beyond_the_limits_of_the_parser_is_one_message(write: Write, raw: bytes) -> None:
    assert refusal(write("a.jsonl", raw))[0].startswith(", line 1: JSON with a number or a nesting")


def test_the_nearest_field_is_suggested(write: Write) -> None:
    assert refusal(write("a.jsonl", lines({"Text": "x"})))[1] == "did you mean '--text-field Text'?"
    assert refusal(write("a.csv", b"txt,id\nx,1\n"))[1] == "did you mean '--text-field txt'?"
    assert refusal(write("a.csv", b"body,id\nx,1\n"))[1] == "name the field by --text-field"


def test_an_id_field_that_no_record_has_is_refused(write: Write) -> None:
    source = write("a.jsonl", lines({"text": "x", "key": 1}))
    assert read_members(source, id_field="key").records[0].id == "1"
    assert refusal(source, id_field="kee")[0] == ": no record has the field 'kee'"


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_bytes_that_are_not_utf8_are_named_by_line_and_offset(write: Write, name: str) -> None:
    raw = b"text\n" + SECRET.encode() + b"\n\xff\n"
    message, hint = refusal(write(name, raw.replace(b"text\n", b"\n") if name == "a.jsonl" else raw))
    assert f"line 3: not valid UTF-8 at byte {23 if name == 'a.jsonl' else 27} of the file" in message
    assert ("one JSON object per line" if name == "a.jsonl" else "iconv") in hint


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", "one\u2028b\r\ntwo"), ("a.csv", "text\none\u2028b\n\"two\"\n"),
                          ("a.jsonl", '{"text": "one\u2028b"}\n{"text": "two"}\n'),
                          ("a.json", '[{"text": "one\u2028b"}, "two"]')],
)  # fmt: skip
def test_wide_encodings_with_a_bom_are_read(name: str, content: str, write: Write, encoding: str) -> None:
    bom = "\ufeff" if encoding == "utf-16-be" else ""
    found = read_members(write(name, (bom + content).encode(encoding)))
    assert [(record.text, record.line) for record in found.records] == [
        ("one\u2028b", 2 if name == "a.csv" else 1), ("two", 3 if name == "a.csv" else 2)
    ]  # fmt: skip


def test_a_broken_wide_encoding_is_one_message(write: Write) -> None:
    message, hint = refusal(write("a.txt", "one\n".encode("utf-16") + b"\x00\xd8\n\0"))
    assert message.startswith(": not valid UTF-16: ")
    assert "iconv" in hint


def test_a_nul_byte_is_named_by_its_offset(write: Write) -> None:
    assert refusal(write("a.txt", b"abc\nd\0e\n"))[0] == ", line 2: a NUL byte at byte 6 of the file"


def test_a_blank_line_of_a_text_file_is_an_empty_text(write: Write) -> None:
    assert refusal(write("a.txt", b"one\n\ntwo\n"))[0] == ", line 2: an empty text"


def test_the_first_lines_and_the_count_stand_for_many(write: Write) -> None:
    many = [{"text": 1}] * 7 + [{"text": ""}, {"txt": SECRET}, [], 1, 2]
    message, _ = refusal(write("a.jsonl", lines({"text": "good"}, *many)))
    assert message == (
        ": 12 lines cannot be used"
        "\n  lines 2, 3, 4, 5, 6 and 2 more: field 'text' is a number, not a string"
        "\n  line 9: an empty text"
        "\n  line 10: no field 'text'; fields: txt"
        "\n  and 3 more"
    )


def test_one_id_on_two_texts_is_refused_with_both_lines(write: Write) -> None:
    source = write("a.jsonl", lines({"id": 7, "text": SECRET}, {"id": 8, "text": "x"}, {"id": "7", "text": "y"}))
    assert refusal(source)[0] == ", line 3: id '7' stands on line 1 too, with another text"


BAD_TABLES = [
    (b"body,id\nx,1\n", ": no column 'text' among 2"),
    (b"id,text,id\n1,x,1\n", ": column id stands in the header twice"),
    (b"text,id\nx,1\nx, y,2\n", ", line 3: 3 fields where the header has 2"),
    (b"text,id\nx\n", ", line 2: 1 fields where the header has 2"),
    (b'text\nx\n"open\ny\n', ", line 3: broken table row: unexpected end of data"),
    (b'text\n"x" y\n', ", line 2: broken table row: ',' expected after '\"'"),
]


@pytest.mark.parametrize(("content", "message"), BAD_TABLES)
def test_a_broken_table_is_refused(write: Write, content: bytes, message: str) -> None:
    assert refusal(write("a.csv", content))[0] == message


def test_a_table_without_a_header_does_not_show_its_first_text(write: Write) -> None:
    assert refusal(write("a.csv", f"1,{SECRET}\n".encode()))[0] == ": no column 'text' among 2"


def test_a_parquet_file_is_checked_like_the_others(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "a.parquet"
    assert refusal(parquet(path, body=["x"]))[0] == ": no column 'text'; columns: body"
    assert refusal(parquet(path, text=["x", None]))[0] == ", row 2: field 'text' is null, not a string"
    assert refusal(parquet(path, text=[1, 2]))[0].startswith(
        ": 2 rows cannot be used\n  rows 1, 2: field 'text' is a num"
    )
    assert refusal(write("b.parquet", b"PAR1 and nothing else"))[0].startswith(
        ": not a readable Parquet file: Parquet magic"
    )
    assert read_members(parquet(path, text=["x"] * 3000 + ["y"], id=range(3001))).records[1] == Record(
        "3000", "y", 3001
    )


def test_reading_a_file_loads_no_heavy_library(write: Write) -> None:
    source = write("a.jsonl", lines({"text": "x"}))
    code = (
        f"import sys\nfrom kdaudit.records import read\nread({source!r}, option='--members')\n"
        "print(sorted({'pandas', 'datasets', 'huggingface_hub', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
