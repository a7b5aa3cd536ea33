"""Every parser of foreign files, what it reads when all is well, and values that programs stumble over."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from kdaudit import manifest, records
from kdaudit.cli.main import COMMANDS
from kdaudit.config import ReportConfig
from kdaudit.config_file import find_config_file, read_config_file
from kdaudit.errors import KdauditError
from kdaudit.models.altered import read_alteration
from kdaudit.models.repeatable import check_template
from kdaudit.models.weights import count_weights, weight_files
from kdaudit.recipes import TRAINERS
from kdaudit.recipes.recipe import read_config as read_config_of_trainer
from kdaudit.report.reading import read_report
from kdaudit.results import mitigation
from kdaudit.results.scores import load_scores
from kdaudit.results.seal import check_seal, sealed
from kdaudit.verdict import parse_gate

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Parser:
    """What reads a file, how that is called in its folder, and files that it takes."""

    read: Callable[[Path], object]
    file: str
    seeds: tuple[bytes, ...]


def nasty() -> list[Any]:
    """Values where others belong; every one was in a file that broke a neighbouring tool."""
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    return [
        None, True, -1, 0, 2**32, 2**63, 10**400, 1.5, -0.0, float("inf"), float("nan"), "", " ", "\0", "\ud800", "~",
        "~nosuchuser/x", "/etc/passwd", "../..", "x" * 10_000, "\x1b[31m", "::error::x", [], {}, [[]], {"": None}, deep,
        "é\u202e中", "1e999", "NaN", ["a", 1, None], {"a": {"a": {"a": 1}}}, "weights.bin", "2026-13-45", "[red]",
        "$HOME",
    ]  # fmt: skip


WEIRD_BYTES = (
    b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\r", b"\r\n", b"\n\n", b"[" * 3000, b'{"a":' * 3000, b"9" * 5000,
    b"\x1b[2J",
    b"\xed\xa0\x80", b'"', b"'", b",", b";", b"{", b"}", b"PAR1", b"\xff" * 8, b"1e999", b"NaN", b"-", b"sep=;\n",
    b"[[",
    b"null", b"\xe2\x80\xa8", b"=", b"#", b" " * 3000, b"@", b"<=",
)  # fmt: skip
"""What is put into a file as it is."""


def seeds_of_records() -> list[dict[str, Any]]:
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}]
    return [{"id": "a", "text": "one"}, {"id": 7, "prompt": "p", "completion": "c"}, {"messages": chat}]


def seeds_of_forms() -> list[dict[str, Any]]:
    user, answer = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    return [
        {"messages": [user, call, {"role": "tool", "content": "4"}, answer], "tools": [{"name": "f"}], "documents": []},
        {"messages": [{**user, "content": [{"type": "text", "text": "a"}]}, answer], "chat_template_kwargs": {}},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "there"}], "system": "s"},
        {"instruction": "Add", "input": "1", "output": "2"}, {"question": "a", "answer": "b"},
        {"prompt": [user], "completion": [answer]}, {"prompt": "a", "response": "b"},
        {"prompt": "a", "chosen": [user, answer], "rejected": "c"},
    ]  # fmt: skip


def shown(chat: records.Chat) -> tuple[str, str]:
    """A template that shows everything."""
    said = [f"{message['role']}: {message['content']}\n" for message in chat.messages]
    return "".join(said[: len(said) - chat.n_answer]), "".join(said)


def feather() -> bytes:
    out = io.BytesIO()
    pyarrow.feather.write_feather(pa.table({"id": ["a", "b"], "text": ["one", "two"]}), out)
    return out.getvalue()


def stream() -> bytes:
    out, table = io.BytesIO(), pa.table({"id": ["a", "b"], "text": ["one", "two"]})
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def parquet(**columns: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def safetensors(header: Mapping[str, Any], n_bytes: int = 16) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(n_bytes)


def as_bytes(value: object) -> bytes:
    return json.dumps(value).encode()


WEIGHTS = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
INDEX = {"metadata": {"total_size": 16}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
FIGURE = {"value": 1.0, "low": 0.5, "high": None}
LOSSES = dict.fromkeys(("nll", "bits_per_byte", "perplexity"), dict.fromkeys(("teacher", "start", "student"), FIGURE))
MANIFEST = {
    "schema": manifest.SCHEMA, "signature": "00", "student": {"weights_sha256": "0", "files_sha256": "0"},
    "training": {"chat_date": "2024-01-01", "objective": "jsd", "seed": 0}, "identity": {},
    "utility": {"n_records": 1, "n_tokens": 2, "agreement": {"top1": FIGURE, "forward_kl": FIGURE}, **LOSSES},
    "data": {"train": {"source": "t.jsonl", "sha256": "0", "records": 1}, "nonmembers": None, "rule": "0.2",
             "teacher_saw": "none", "text_field": "text", "id_field": "id", "members": ["0"], "held_out": ["1"],
             "key_file": "t.jsonl.kdaudit-key", "left_out": []},
    "teacher": {"name": "t", "weights_sha256": "0"},
    "start": {"name": "s", "origin": "layers", "is_reference": True, "revision": None, "weights_sha256": "0"},
}  # fmt: skip
TRAINED = {
    "model": {"pretrained_model_name_or_path": "s"}, "teacher_model": {"pretrained_model_name_or_path": "t"},
    "kd_ratio": 0.5, "kd_loss_fn": {"_target_": "x.KDLoss", "temperature": 2.0}, "optimizer": {"lr": "1e-5"},
    "loss_functions": [{"function": "kl", "weight": 0.5, "temperature": 2.0}], "teacher": {"kind": "hf", "path": "t"},
    "training_args": {"num_train_epochs": 2}, "beta": 0.5, "lmbda": 0.5, "seq_kd": False, "max_steps": 3,
    "kd_trainer": True, "kd_alpha": 0.9, "kd_ce_alpha": 0.1, "base_model": "s", "max_length": 64,
}  # fmt: skip
TOML = b"""
teacher = "t"
gates = ["student.auc <= 0.6", "difference.tpr@0.01[loss] <= 0.02"]
seed = 3
calibration-share = 0.5
exit_zero = true
[[waivers]]
gate = "student.auc <= 0.6"
reason = "known"
expires = 2030-01-31
"""
SCORES = parquet(id=["a", "b"], member=[True, False], model=["t", "t"], attack=["loss"] * 2, score=[0.5, None])


def read_records(path: Path) -> object:
    return records.read(str(path), option="--members")


def read_forms(path: Path) -> object:
    for answer_field in (None, "chosen"):
        for pairs in (None, "text", "alpaca"):
            with suppress(KdauditError):
                records.read(str(path), option="--members", render=shown, answer_field=answer_field, pairs=pairs)
    return records.read(str(path), option="--members", render=shown, skip_empty=True)


def read_apart(path: Path) -> object:
    with suppress(KdauditError):
        records.read_both(str(path), option="--data", text_fields=("text", "label"))
    return records.read_both(str(path), option="--data", member_field="label")


def read_texts(path: Path) -> object:
    with suppress(KdauditError):
        records.read(str(path), option="--members", txt_record="file", skip_empty=True)
    return records.read(str(path), option="--members", txt_record="paragraph")


def read_gate(path: Path) -> object:
    return parse_gate(path.read_bytes().decode("utf-8", "surrogateescape"))


def read_config(path: Path) -> object:
    find_config_file(path.parent)
    return read_config_file(path, known=[one for command in COMMANDS if command.reads_file for one in command.options])


def read_manifest(path: Path) -> object:
    found = manifest.load(path)
    return found.start, found.may_teacher_know_held_out


def read_results(path: Path) -> object:
    return read_report(ReportConfig(runs=(path,)))


def read_seal(path: Path) -> object:
    (path.parent / "results.json").write_bytes(b"{}")
    return check_seal(path.parent)


def sealed_manifest() -> bytes:
    with TemporaryDirectory() as folder:
        (Path(folder) / "results.json").write_bytes(b"{}")
        return as_bytes(sealed({"status": "complete", "command": "kdaudit attack"}, Path(folder)))


def read_weights(path: Path) -> object:
    (path.parent / "model-00001-of-00001.safetensors").write_bytes(safetensors(WEIGHTS))
    return count_weights(weight_files(path.parent, "--teacher", allow_pickle=False), "--teacher")


def read_altered(path: Path) -> object:
    return read_alteration(path.parent, "--teacher")


def read_trainer(path: Path) -> object:
    """The configuration of every trainer that is known."""
    for read in TRAINERS.values():
        with suppress(KdauditError):
            read(read_config_of_trainer(path))
    return read_config_of_trainer(path)


def read_template(path: Path) -> object:
    check_template(path.read_text(encoding="utf-8", errors="replace"))
    return None


def golden_results() -> bytes:
    """The results inside of an agreed report."""
    report = json.loads((GOLDEN / "report" / "report.json").read_text(encoding="utf-8"))
    return as_bytes({name: value for name, value in report["runs"][0].items() if name not in {"name", "path"}})


def golden_mitigation() -> bytes:
    return (GOLDEN / "mitigation" / "report.json").read_bytes()


PLAIN = b'{"text": "a"}\n{"text": "b", "id": "01"}\n'
LINES = b"".join(as_bytes(row) + b"\n" for row in seeds_of_records())
PARSERS: dict[str, Parser] = {
    "jsonl": Parser(read_records, "r.jsonl", (LINES, b'{"text": "a"}\n{"text": "b", "id": "01"}\n')),
    "csv": Parser(
        read_records, "r.csv", (b'id,text\n1,"a, b"\n2,c\n', b"sep=;\nid;text\n1;a\n", b"prompt,completion\na,b\n")
    ),
    "tsv": Parser(read_records, "r.tsv", (b"id\ttext\n1\ta\n",)),
    "txt": Parser(read_records, "r.txt", (b"one\ntwo\n",)),
    "parquet": Parser(read_records, "r.parquet", (parquet(id=["a", "b"], text=["one", "two"]), parquet(text=["x"]))),
    "json": Parser(
        read_records, "r.json", (b'[{"text": "a"}, "b"]', b'{"data": [{"text": "a", "id": 1}], "n": 2}', LINES)
    ),
    "gzip": Parser(read_records, "r.jsonl.gz", (gzip.compress(PLAIN), gzip.compress(b'{"text": "a"}\n'))),
    "xz": Parser(read_records, "r.jsonl.xz", (lzma.compress(PLAIN),)),
    "bz2": Parser(read_records, "r.jsonl.bz2", (bz2.compress(PLAIN),)),
    "zst": Parser(read_records, "r.jsonl.zst", (bytes(pa.compress(PLAIN, codec="zstd", asbytes=True)),)),
    "feather": Parser(read_records, "r.feather", (feather(),)),
    "arrow": Parser(read_records, "r.arrow", (stream(),)),
    "sniffed": Parser(
        read_records, "r", (PLAIN, b"id;text\n1;a\n", b"one\ntwo\n", feather(), "id;text\n1;a\n".encode("utf-16"))
    ),
    "forms": Parser(read_forms, "r.jsonl", tuple(as_bytes(row) + b"\n" for row in seeds_of_forms())),
    "apart": Parser(read_apart, "r.jsonl", (b'{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n',)),
    "texts": Parser(read_texts, "r.txt", (b"one\ntwo\n\nthree\n", "one\n\ntwo".encode("utf-16"))),
    "gate": Parser(
        read_gate, "gate", (b"student.auc <= 0.6", b"difference.tpr@0.01[min-k++]<=-0.1", b"student-2.auc<=1")
    ),
    "config": Parser(read_config, "kdaudit.toml", (TOML, b'[tool.kdaudit]\nseed = 1\n')),
    "pyproject": Parser(read_config, "pyproject.toml", (b'[project]\nname = "x"\n[tool.kdaudit]\nseed = 1\n',)),
    "manifest": Parser(read_manifest, "kdaudit.json", (as_bytes(MANIFEST),)),
    "trainer": Parser(
        read_trainer, "config.yaml", (as_bytes(TRAINED), b"kd_trainer: true\nkd_alpha: 1e-1\nbeta: &a [*a]\n")
    ),
    "key": Parser(lambda path: manifest.read_key(path), "key", (b"00" * 32 + b"\n",)),
    "results": Parser(read_results, "results.json", (golden_results(),)),
    "seal": Parser(read_seal, "manifest.json", (sealed_manifest(),)),
    "mitigation": Parser(lambda path: mitigation.load(path), "mitigation.json", (golden_mitigation(),)),
    "scores": Parser(lambda path: load_scores(path), "scores.parquet", (SCORES,)),
    "index": Parser(read_weights, "model.safetensors.index.json", (as_bytes(INDEX),)),
    "safetensors": Parser(read_weights, "model.safetensors", (safetensors(WEIGHTS),)),
    "alteration": Parser(read_altered, "config.json", (as_bytes({"model_type": "kdaudit", "kdaudit": {"parts": {}}}),)),
    "template": Parser(
        read_template, "chat_template.jinja", (b"{% for m in messages %}{{ m.role | trim }}{% endfor %}",)
    ),
}  # fmt: skip
