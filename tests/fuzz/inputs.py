"""Malformed inputs by kind: what is done to a folder where all is well, and the command that meets it then."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kdaudit import manifest

Change = Callable[[Path], object]
ATTACK = (
    "attack", "--teacher", "teacher", "--student", "other", "--members", "m.jsonl", "--nonmembers", "n.jsonl",
    "--out", "new", "--attack", "loss", "--quiet",
)  # fmt: skip
AUDIT = ("attack", "--teacher", "teacher", "--student", "student", "--out", "new", "--attack", "loss", "--quiet")
"""Of a student with a manifest."""
AGAIN = tuple("run" if part == "new" else part for part in ATTACK)
"""Of what is in the run folder already."""
REPORT = ("report", "run")
REPEAT = (
    "mitigate", "--from", "student", "--out", "m.jsonl/x", "--method", "label-smoothing", "--epochs", "2", "--quiet",
)  # fmt: skip
"""Of what the manifest says; its folder cannot be, so that nothing is trained where the manifest can be read."""


def with_option(command: tuple[str, ...], name: str, value: str) -> tuple[str, ...]:
    """The command with this value of an option, in place of the one that it has."""
    if name not in command:
        return (*command, name, value)
    at = command.index(name)
    return (*command[: at + 1], value, *command[at + 2 :])


@dataclass(frozen=True)
class Case:
    """One malformed input: what is done to a copy of a folder where all is well, and the command that meets it."""

    kind: str
    name: str
    change: Change = lambda folder: None
    command: tuple[str, ...] = ATTACK


def put(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def link(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def directory(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return change


def terabyte(name: str) -> Change:
    """A file that takes no room on the disk."""

    def change(folder: Path) -> None:
        (folder / name).touch()
        os.truncate(folder / name, 2**40)

    return change


NO_FILES: dict[str, Callable[[str], Change]] = {
    "a pipe": pipe, "a folder": directory, "/dev/zero": lambda name: link(name, "/dev/zero"),
    "a terminal": lambda name: link(name, "/dev/tty"), "a loop": lambda name: link(name, Path(name).name),
}  # fmt: skip
"""What stands in the place of a file, by name."""


def edited(name: str, *path: str, value: Any) -> Change:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        (folder / name).write_text(json.dumps(content))

    return change


CONTENTS = {
    "empty": b"", "open": b"{", "list": b"[]", "null": b"null", "number": b"3", "text": b'"x"',
    "nested lists": b"[" * 100_000, "nested objects": b'{"a":' * 100_000, "not utf-8": b"\xff\xfe{}",
    "a NUL": b'{"a": "\0"}', "digits": b'{"a": ' + b"9" * 100_000 + b"}", "NaN": b'{"vocab_size": NaN}',
    "spaces": b" " * 20_000_000,
}  # fmt: skip
FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json",
    "model.safetensors.index.json", "special_tokens_map.json",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (0, -1, 10**6, 2**32, 2**63, 10**400, 1.5, "2", None, [], {}, True)
SETTINGS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("n_layer", "n_embd", "n_head", "vocab_size"), NUMBERS),
    "n_positions": (0, -1, 2**32, "2", []), "num_labels": (-1, 10**8, "2"), "n_inner": (-1, 0, 2**40),
    "architectures": (3, "x", [3], [None], {}, ["Nothing"]), "model_type": (3, None, "nosuch", "bert", "x" * 10_000),
    "activation_function": (3, "nosuch", None), "layer_norm_epsilon": ("x", None, -1), "dtype": (3, "float3", []),
    "id2label": (3, [], {"a": 3}, {str(i): str(i) for i in range(400_000)}), "bos_token_id": (-5, 2**40, "x"),
    "quantization_config": (3, {}, {"quant_method": "nosuch"}), "auto_map": (3, {"AutoConfig": "x.Y"}),
    "transformers_weights": ("other.safetensors", 3), "tie_word_embeddings": ("x",), "kdaudit_surgery": (3, {}, []),
    "hidden_size": (2**40,), "\x1b[31m": (1,),
}  # fmt: skip
TOKENIZERS: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "model": (("model",), (None, 3, {}, [], {"type": "nosuch"})),
    "vocab": (("model", "vocab"), (None, {}, {"a": -1}, {"a": 2**32}, {"a": 2**64}, {"a": 1.5}, [], "x")),
    "merges": (("model", "merges"), (None, ["x"], [["a"]], 3)),
    "added": (("added_tokens",), (3, [{}], [{"id": -1, "content": "x"}], [{"id": 2**32, "content": "x"}])),
    "pre-tokenizer": (
        ("pre_tokenizer",),
        (3, {"type": "nosuch"}, {"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}),
    ),
    "normaliser": (("normalizer",), (3, {"type": "nosuch"}, {"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
    "post-processor": (("post_processor",), (3, {"type": "nosuch"})),
    "truncation": (("truncation",), (3, {"max_length": 2**70})),
}


VALUES = ("", "~nosuchuser/x", "x" * 10_000, "\x1b[31mred", "/dev/zero", "::error::x", "[red]x", " " * 30_000)
"""Of options."""
OPTIONS = (
    "--teacher",
    "--student",
    "--members",
    "--out",
    "--config",
    "--reference",
    "--gate",
    "--attack",
    "--text-field",
)


def cases() -> Iterator[Case]:
    """All of them."""
    for made in (
        checkpoint_files, settings_of_models, tokenizers, weights, indices, adapters, chat_templates, options, records,
        manifests, run_folders, results, settings,
    ):  # fmt: skip
        yield from made()


def checkpoint_files() -> Iterator[Case]:
    for name in FILES:
        for label, content in CONTENTS.items():
            yield Case("json", f"{name}: {label}", put(f"teacher/{name}", content))
        for label, change in NO_FILES.items():
            yield Case("special file", f"{name}: {label}", change(f"teacher/{name}"))


def settings_of_models() -> Iterator[Case]:
    for name, values in SETTINGS.items():
        for value in values:
            yield Case("config", f"{name!r}: {value!r:.30}", edited("teacher/config.json", name, value=value))


def tokenizers() -> Iterator[Case]:
    for label, (path, values) in TOKENIZERS.items():
        for value in values:
            yield Case("tokenizer", f"{label}: {value!r:.40}", edited("teacher/tokenizer.json", *path, value=value))
    for name, value in {
        "tokenizer_class": 3, "tokenizer class": "nosuch", "model_max_length": "x", "bos_token": 3, "pad_token": {},
        "added_tokens_decoder": {"-1": {"content": "x"}}, "extra_special_tokens": 3, "auto_map": {"AutoTokenizer": 3},
        "chat_template": 3,
    }.items():  # fmt: skip
        changed = edited("teacher/tokenizer_config.json", name.replace(" ", "_"), value=value)
        yield Case("tokenizer", f"{name}: {value!r:.40}", changed)


def weights() -> Iterator[Case]:
    def damaged(change: Callable[[bytes], bytes]) -> Change:
        def do(folder: Path) -> None:
            path = folder / "teacher" / "model.safetensors"
            path.write_bytes(change(path.read_bytes()))

        return do

    def having(header: object) -> bytes:
        raw = json.dumps(header).encode()
        return struct.pack("<Q", len(raw)) + raw + bytes(64)

    tensor = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}
    changes: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda _: b"", "half": lambda all_: all_[: len(all_) // 2],
        "a length without end": lambda all_: b"\xff" * 8 + all_[8:], "a zip": lambda _: b"PK\x03\x04" + bytes(100),
        "zeros": lambda _: bytes(1000), "a header only": lambda all_: all_[:200], "one byte": lambda _: b"x",
        "a list": lambda _: b"\x02" + bytes(7) + b"[]", "nested": lambda _: struct.pack("<Q", 10**5) + b"[" * 10**5,
        "other names": lambda _: having({"x": tensor}),
        "a shape of strings": lambda _: having({"x": {**tensor, "shape": ["4"]}}),
        "a huge shape": lambda _: having({"x": {**tensor, "shape": [2**62, 2**62]}}),
        "a negative shape": lambda _: having({"x": {**tensor, "shape": [-4, -4]}}),
        "unknown numbers": lambda _: having({"x": {**tensor, "dtype": "F3"}}),
        "beyond the file": lambda _: having({"x": {**tensor, "data_offsets": [0, 2**60]}}),
        "a text for metadata": lambda _: having({"__metadata__": "x", "x": tensor}),
        "an escape in a name": lambda _: having({"\x1b[31mred": tensor}),
        "a name of 1 MB": lambda _: having({"x" * 10**6: tensor}),
        "100,000 names": lambda _: having({f"x{i}": {**tensor, "shape": [0], "data_offsets": [0,
        0]} for i in range(10**5)}),
    }  # fmt: skip
    for label, change in changes.items():
        yield Case("weights", label, damaged(change))
    for label, special in NO_FILES.items():
        yield Case("weights", label, special("teacher/model.safetensors"))
    yield Case("weights", "a terabyte of zeros", terabyte("teacher/model.safetensors"))


def indices() -> Iterator[Case]:
    name = "teacher/model.safetensors.index.json"
    targets: tuple[Any, ...] = (
        "/etc/passwd", "../other/model.safetensors", "x" * 10_000, "", ".", "\0", 3, None, [], {}, "/dev/zero",
        "\x1b[31m",
        "config.json", "nosuch.safetensors", "~/x", "http://x/y", "model.safetensors.index.json",
    )  # fmt: skip
    for target in targets:
        index = json.dumps({"metadata": {}, "weight_map": {"wte.weight": target}}).encode()

        def change(folder: Path, index: bytes = index) -> None:
            (folder / "teacher/model.safetensors").unlink()
            (folder / name).write_bytes(index)

        yield Case("index", f"names {target!r:.30}", change)
    maps: tuple[Any, ...] = (None, 3, [], {}, {"wte.weight": {}}, {str(i): "model.safetensors" for i in range(400_000)})
    for value in maps:
        yield Case("index", f"a map {value!r:.30}", put(name, json.dumps({"weight_map": value}).encode()))


def adapters() -> Iterator[Case]:
    good = {
        "base_model_name_or_path": "../other", "peft_type": "LORA", "r": 2, "lora_alpha": 2, "task_type": "CAUSAL_LM",
        "target_modules": ["c_attn"], "fan_in_fan_out": True,
    }  # fmt: skip

    def having(config: object, folder: Path) -> None:
        (folder / "teacher/config.json").unlink()
        (folder / "teacher/model.safetensors").rename(folder / "teacher/adapter_model.safetensors")
        (folder / "teacher/adapter_config.json").write_text(json.dumps(config))

    def case(name: str, config: object) -> Case:
        return Case("adapter", name, lambda folder: having(config, folder))

    yield case("weights of another", good)
    for base in ("", ".", "..", "~nosuchuser/x", "/", "x" * 10_000, "nobody/nothing", "\x1b[31m", "\0", 3, None,
    "teacher",
                 "/dev/zero", "../../../etc", "\ud800"):  # fmt: skip
        yield case(f"base {base!r:.20}", {**good, "base_model_name_or_path": base})
    changes: dict[str, tuple[Any, ...]] = {
        "peft_type": (3, None, "NOSUCH", "PREFIX_TUNING", []), "r": (0, -1, 2**40, "x", None), "lora_alpha": ("x",
        None),
        "target_modules": (3, [], ["nosuch"], "((", {}, "(a+)+$" + "a" * 3000), "task_type": (3, "NOSUCH"),
        "lora_dropout": ("x", -1), "modules_to_save": (3, ["nosuch"]), "rank_pattern": (3, {"((": 3}),
        "use_dora": ("x",), "layers_to_transform": ("x", [10**9]), "nosuch": (3,), "auto_mapping": (3,
        {"base_model_class": "os"}),
        "init_lora_weights": ("nosuch", "eva"), "corda_config": (3,), "loftq_config": (3,),
    }  # fmt: skip
    for name, values in changes.items():
        for value in values:
            yield case(f"{name}: {value!r:.30}", {**good, name: value})


CHAT = [{"role": "user", "content": "how are you"}, {"role": "assistant", "content": "well"}]
TEMPLATES = {
    "division": "{{ 1 // 0 }}", "types": "{{ messages + 1 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "include": "{% include '/etc/passwd' %}", "import": "{% import 'os' as os %}", "no template": "{% if %}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "2 GB": "{{ 'a' * 2000000000 }}", "powers": "{{ 10 ** (10 ** 10) }}", "20 MB": "{{ '" + "a" * 20_000_000 + "' }}",
    "doubling": "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}",
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "a width": "{{ '%2000000000d' | format(1) }}",
    "sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}", "nothing": "", "undefined": "{{ a.b.c }}",
    "raises": "{{ raise_exception('\x1b[31m' ~ messages[0].content) }}", "a NUL": "\0",
    "an escape": "\x1b[31m{{ a.b.c }}",
    "only text": "always the same", "list of 10**8": "{{ range(99999) | list * 1000 }}", "chance": "{{ lipsum() }}",
    "ifs": "{% if 1 %}" * 3000 + "{% endif %}" * 3000, "batch": "{{ 'a' | center(10 ** 9) }}",
    "slow lexer": "{{ 1 }}" * 140_000, "sorting": "{{ (range(99999) | list * 20) | sort | unique | join }}",
}  # fmt: skip


def chat_templates() -> Iterator[Case]:
    def having(template: str) -> Change:
        def change(folder: Path) -> None:
            (folder / "teacher/chat_template.jinja").write_text(template)
            for name in ("m.jsonl", "n.jsonl"):
                row = {"messages": [{**CHAT[0], "content": name}, CHAT[1]]}
                (folder / name).write_text(json.dumps(row) + "\n")

        return change

    for label, template in TEMPLATES.items():
        yield Case("chat template", label, having(template))


def options() -> Iterator[Case]:
    for option in OPTIONS:
        for value in VALUES:
            yield Case("option", f"{option} {value!r:.20}", command=with_option(ATTACK, option, value))
    for gate in (
        "student.auc <= " + "9" * 10_000, "student.auc <= 1e999", "student.auc <= nan", "." * 10_000, "student" * 5000,
        "student.tpr@" + "0" * 5000 + "1 <= 0.1", "student.auc[" + "[" * 5000, "student.auc" + " " * 30_000 + "<= 0.6",
        " " * 30_000 + "x", "student.auc <" + "=" * 10_000 + " 1", "é\u202e.auc <= 1", "\ud800",
    ):  # fmt: skip
        yield Case("option", f"--gate {gate!r:.25}", command=(*ATTACK, "--gate", gate))
    for command in (
        (*REPORT, "--format", "x" * 10_000), (*REPORT, "--out", "~nosuchuser/x"), ("report", "x" * 10_000), ("report",
        "~nosuchuser"),
        (*REPORT, "--baseline", "/dev/zero"), (*REPORT, "--template", "/dev/zero"), (*REPORT, "--model-card",
        "/dev/zero"),
        ("report", "\x1b[31m"), ("mitigate", "--from", "/dev/zero", "--out", "y"), ("mitigate", "--from",
        "~nosuchuser"),
        ("distill", "--teacher", "teacher", "--student", "other", "--train", "/dev/zero", "--out", "y"),
    ):  # fmt: skip
        yield Case("option", " ".join(command)[:40], command=command)


def records() -> Iterator[Case]:
    def parquet(**columns: Any) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink, write_statistics=False)
        return bytes(sink.getvalue())

    def repeated(text: str, n: int) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([text]))

    contents: dict[str, Callable[[], bytes]] = {
        "columns.csv": lambda: b",".join(b"c%d" % i for i in range(100_000)) + b"\n",
        "columns of a row.csv": lambda: b"text\n" + b"," * 100_000 + b"\n",
        "long.csv": lambda: b"text\n" + b"a" * 5_000_000, "quote.csv": lambda: b'text\n"' + b"a\n" * 1_000_000,
        "header.csv": lambda: b"a" * 5_000_000 + b",text\n1,2\n", "nul.jsonl": lambda: b"\0" * 1000,
        "deep.jsonl": lambda: b"[" * 100_000, "digits.jsonl": lambda: b'{"text": ' + b"9" * 100_000 + b"}",
        "deep text.jsonl": lambda: b'{"text": ' * 100_000,
        "long.jsonl": lambda: b'{"text": "' + b"a" * 5_000_000 + b'"}',
        "many bad lines.jsonl": lambda: b"{\n" * 2_000_000, "blank.txt": lambda: b"\n" * 5_000_000,
        "wide.txt": lambda: b"\xff\xfe" + bytes(100), "bytes.tsv": lambda: bytes(range(256)),
        "long.txt": lambda: b"a" * 70_000_000,
        "empty.parquet": lambda: b"", "not.parquet": lambda: b"PAR1" + bytes(100) + b"PAR1",
        "half.parquet": lambda: parquet(text=["a", "b"])[:-20],
        "chats.jsonl": lambda: b'{"messages": [' + b"[" * 90_000,
        "bomb.parquet": lambda: parquet(text=repeated("a" * 1_000_000, 10_000)),
        "bomb of lists.parquet": lambda: parquet(messages=pa.array([[{"role": "user",
        "content": "a" * 100_000}]] * 3000)),
        "numbers.parquet": lambda: parquet(text=[1, 2]),
        "many columns.parquet": lambda: parquet(**{f"c{i}": [1] for i in range(3000)}),
        "long text.parquet": lambda: parquet(text=["a" * 20_000_000]),
        "binary.parquet": lambda: parquet(text=pa.array([b"\xff"], pa.binary())),
        "ids.jsonl": lambda: b'{"id": {"a": 1}, "text": "x"}\n', "an escape.csv": lambda: b"\x1b[31m,text\n1,2,3\n",
        "roles.jsonl": lambda: b'{"messages": [{"role": 3, "content": []}]}\n',
        "sep.csv": lambda: b"sep=\x1b\ntext\nx\n",
        "a.nosuch": lambda: b"x", "\x1b[31m.jsonl": lambda: b"{", "list.json": lambda: b"[]",
        "crs.csv": lambda: b"text\ra\rb",
    }  # fmt: skip
    for name, content in contents.items():
        yield Case("records", name, made(name, content), with_option(ATTACK, "--members", name))
    for label, change in NO_FILES.items():
        yield Case("records", label, change("x.jsonl"), with_option(ATTACK, "--members", "x.jsonl"))
    yield Case("records", "a terabyte in a line", terabyte("x.txt"), with_option(ATTACK, "--members", "x.txt"))


def made(name: str, content: Callable[[], bytes]) -> Change:
    """A file that is written when its turn comes: some take a second."""
    return lambda folder: (folder / name).write_bytes(content())


def manifests() -> Iterator[Case]:
    """Signed with the right key, so that nothing but their form can be wrong."""

    def signed(change: Callable[[dict[str, Any]], object]) -> Change:
        def do(folder: Path) -> None:
            path = folder / "student" / manifest.FILE_NAME
            content = json.loads(path.read_text())
            change(content)
            key = manifest.read_key(folder / "train.jsonl.kdaudit-key")
            content["signature"] = manifest.signature(content, key)
            path.write_text(json.dumps(content))

        return do

    def placed(where: str, value: Any) -> Callable[[dict[str, Any]], object]:
        *parents, last = where.split(".")

        def change(content: dict[str, Any]) -> None:
            for parent in parents:
                content = content[parent]
            content[last] = copy.deepcopy(value)

        return change

    def gone(where: str) -> Callable[[dict[str, Any]], object]:
        *parents, last = where.split(".")

        def change(content: dict[str, Any]) -> None:
            for parent in parents:
                content = content[parent]
            content.pop(last, None)

        return change

    for where in FIELDS:
        yield Case("manifest", f"{where} gone", signed(gone(where)), AUDIT)
        for value in (
            None,
            3,
            -1.5,
            "x",
            "",
            [],
            {},
            True,
            ["x"],
            {"x": None},
            "~nosuchuser/x",
            "/dev/zero",
            "\x1b[31m",
        ):
            yield Case("manifest", f"{where}: {value!r}", signed(placed(where, value)), AUDIT)
            if where.split(".")[0] in ("training", "teacher", "start", "data"):
                yield Case("manifest repeated", f"{where}: {value!r}", signed(placed(where, value)), REPEAT)
    for label, content in CONTENTS.items():
        yield Case("manifest", f"kdaudit.json: {label}", put("student/kdaudit.json", content), AUDIT)
        yield Case("manifest", f"key: {label}", put("train.jsonl.kdaudit-key", content), AUDIT)
    for path in ("student/kdaudit.json", "train.jsonl.kdaudit-key"):
        for label, change in NO_FILES.items():
            yield Case("manifest", f"{path}: {label}", change(path), AUDIT)


FIELDS = (
    "schema", "data", "data.train", "data.train.source", "data.train.sha256", "data.train.records", "data.nonmembers",
    "data.rule",
    "data.teacher_saw", "data.text_field", "data.id_field", "data.key_file", "data.members", "data.held_out",
    "data.left_out",
    "teacher", "teacher.name", "teacher.weights_sha256", "teacher.revision", "teacher.load", "start", "start.name",
    "start.origin",
    "start.is_reference", "start.revision", "start.weights_sha256", "start.layers", "start.load", "student",
    "student.weights_sha256", "student.files_sha256", "student.load", "training", "training.objective",
    "training.hard_weight",
    "training.temperature", "training.epochs", "training.seed", "training.steps", "training.chat_date", "training.lr",
    "training.lora_rank", "training.split_seed", "training.beta", "identity", "utility", "utility.n_records",
    "versions",
)  # fmt: skip


def run_folders() -> Iterator[Case]:
    def shard(folder: Path) -> Path:
        return sorted((folder / "run/signals").rglob("*.safetensors"))[0]

    def instead(change: Callable[[str], Change]) -> Change:
        return lambda folder: change(str(shard(folder).relative_to(folder)))(folder)

    def content(raw: bytes) -> Change:
        return lambda folder: shard(folder).write_bytes(raw)

    for label, change in {**NO_FILES, "/etc/passwd": lambda name: link(name, "/etc/passwd")}.items():
        yield Case("run folder", f"a shard: {label}", instead(change), AGAIN)
    for label, raw in {**CONTENTS, "a length without end": b"\xff" * 8, "zeros": bytes(100)}.items():
        yield Case("run folder", f"a shard: {label}", content(raw), AGAIN)
        yield Case("run folder", f"manifest.json: {label}", put("run/manifest.json", raw), AGAIN)
    for name in ("run/manifest.json", "run/results.json", "run/scores.parquet", "run/summary.md", "run/signals"):
        for label, change in NO_FILES.items():
            yield Case("run folder", f"{name}: {label}", replaced(name, change), AGAIN)
    for name in (
        "x" * 250,
        "x" * 300,
        "x/" * 3000,
        "\x1b[31m",
        "::error::",
        " ",
        "\n",
        "-",
        "é" * 120,
        "~nosuchuser/x",
    ):
        yield Case("run folder", f"named {name!r:.20}", command=with_option(ATTACK, "--out", f"./{name}"))


def replaced(name: str, change: Callable[[str], Change]) -> Change:
    def do(folder: Path) -> None:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        change(name)(folder)

    return do


def results() -> Iterator[Case]:
    for label, content in CONTENTS.items():
        yield Case("results", f"results.json: {label}", put("run/results.json", content), REPORT)
        yield Case("results", f"manifest.json: {label}", put("run/manifest.json", content), REPORT)
        yield Case(
            "results", f"scores.parquet: {label}", put("run/scores.parquet", content), (*REPORT, "--baseline", "run")
        )
    values: tuple[Any, ...] = (None, 3, "x", [], {}, True, -1, 10**30, ["x"], {"x": None}, "\x1b[31m")
    for where in (
        "schema", "models", "models.teacher", "models.student", "data", "data.members", "data.sha256", "attacks",
        "attacks.loss",
        "attacks.loss.teacher", "attacks.loss.teacher.auc", "attacks.loss.teacher.auc.value",
        "attacks.loss.student.tpr_at_fpr",
        "attacks.loss.comparison", "validity", "validity.warnings", "mixed_supervision", "verdict", "verdict.gates",
        "power",
        "kdaudit_version",
    ):  # fmt: skip
        for value in random.Random(where).sample(values, 4):
            path = where.split(".")
            yield Case("results", f"{where}: {value!r}", edited("run/results.json", *path, value=value), REPORT)
    for name in ("run/results.json", "run/manifest.json", "run/scores.parquet"):
        for label, change in NO_FILES.items():
            yield Case("results", f"{name}: {label}", change(name), (*REPORT, "--baseline", "run"))


def settings() -> Iterator[Case]:
    contents: dict[str, bytes] = {
        **CONTENTS, "a gate of spaces": b'gates = ["' + b" " * 30_000 + b'x"]', "gates: 3": b"gates = 3",
        "gates: [3]": b"gates = [3]",
        "a key of escapes": b'"\\u001b[31m" = 1', "deep": b"a = " + b"[" * 100_000,
        "dotted": b"a" + b".a" * 50_000 + b" = 1",
        "digits": b"seed = " + b"9" * 100_000, "a date": b"seed = 2020-01-01", "a float": b"seed = 1e400",
        "nan": b"level = nan",
        "seed: text": b'seed = "x"', "limit: true": b"limit = true", "members: 3": b"members = 3",
        "members: list": b'members = ["x"]',
        "waivers: 3": b"waivers = 3", "waivers: 2": b"[[waivers]]\ngate = 3",
        "waivers: date": b'[[waivers]]\ngate = "x"\nuntil = "2026-13-45"',
        "a path": b'members = "~nosuchuser/x"', "a variable": b'members = "$NOSUCH/x"', "twice": b"seed = 1\nseed = 2",
        "1000 gates": b"gates = [" + b'"student.auc <= 0.6",' * 1000 + b"]", "unknown": b"nosuch = 1",
        "attack: 3": b"attack = 3",
        "many keys": b"\n".join(b"k%d = 1" % i for i in range(100_000)),
    }  # fmt: skip
    for label, content in contents.items():
        command = REPORT if label.startswith(("waivers", "a gate", "1000")) else ATTACK
        yield Case("settings", label, put("kdaudit.toml", content), command)
    for label, change in NO_FILES.items():
        yield Case("settings", f"kdaudit.toml: {label}", change("kdaudit.toml"))
        yield Case("settings", f"pyproject.toml: {label}", change("pyproject.toml"))
