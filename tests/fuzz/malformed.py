"""Malformed inputs by kind, thrown at the real command line: exit codes, the slowest, the hungriest, every traceback.

Run it by `python -m tests.fuzz.malformed [SECONDS] [KIND...]`; it needs no network. Every case is a process of its own
that is forked after the libraries were loaded, so that its time and memory can be measured and it can be killed.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import tiny

LIMIT = 60  # seconds of a case
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One malformed input: what is done to a copy of a good teacher, or the options that are given instead."""

    kind: str
    name: str
    change: Change = lambda folder: None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a case ended with; `code` is None where it had to be killed."""

    case: Case
    code: int | None
    seconds: float
    megabytes: float
    error: str

    @property
    def is_bad(self) -> bool:
        """Whether it hung, crashed, looked like a finding, or showed a traceback."""
        return self.code not in {0, 2, 3, 4} or "Traceback" in self.error or "\x1b" in self.error


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


def cases(good: Path, data: Path) -> Iterator[Case]:
    """All of them."""
    for name in FILES:
        for label, content in CONTENTS.items():
            yield Case("json", f"{name}: {label}", put(name, content))
        yield Case("special file", f"{name}: a pipe", pipe(name))
        yield Case("special file", f"{name}: /dev/zero", link(name, "/dev/zero"))
        yield Case("special file", f"{name}: a loop", link(name, name))
        yield Case("special file", f"{name}: a folder", directory(name))
    for name, values in SETTINGS.items():
        for value in values:
            yield Case("config", f"{name!r}: {value!r:.30}", edited("config.json", name, value=value))
    for label, (path, values) in TOKENIZERS.items():
        for value in values:
            yield Case("tokenizer", f"{label}: {value!r:.40}", edited("tokenizer.json", *path, value=value))
    weights = (good / "model.safetensors").read_bytes()
    damaged = {
        "empty": b"", "half": weights[: len(weights) // 2], "a length without end": b"\xff" * 8 + weights[8:],
        "a zip": b"PK\x03\x04" + bytes(100), "zeros": bytes(1000), "a header only": weights[:200],
        "one byte": b"x", "a list": b"\x02" + bytes(7) + b"[]",
    }  # fmt: skip
    for label, content in damaged.items():
        yield Case("weights", label, put("model.safetensors", content))
    yield from (Case("weights", label, change("model.safetensors")) for label, change in (
        ("a pipe", pipe), ("a folder", directory), ("/dev/zero", lambda name: link(name, "/dev/zero")),
    ))  # fmt: skip
    for base in ("", ".", "..", "~nosuchuser/x", "/", "x" * 10_000, "nobody/nothing", "\x1b[31m", "\0", 3, None):
        content = json.dumps({"base_model_name_or_path": base, "peft_type": "LORA"}).encode()
        yield Case("adapter", f"base {base!r:.20}", put("adapter_config.json", content))
    for option in ("--teacher", "--members", "--out", "--config", "--reference", "--gate", "--attack", "--text-field"):
        for value in VALUES:
            yield Case("option", f"{option} {value!r:.20}", options=(option, value))
    for name, content in {
        "columns.csv": b",".join(b"c%d" % i for i in range(100_000)) + b"\n", "long.csv": b"text\n" + b"a" * 5_000_000,
        "quote.csv": b'text\n"' + b"a\n" * 1_000_000, "nul.jsonl": b"\0" * 1000, "deep.jsonl": b"[" * 100_000,
        "digits.jsonl": b'{"text": ' + b"9" * 100_000 + b"}", "not.parquet": b"PAR1" + bytes(100) + b"PAR1",
        "wide.txt": b"\xff\xfe" + bytes(100), "bytes.tsv": bytes(range(256)), "empty.parquet": b"",
    }.items():  # fmt: skip
        (data / name).write_bytes(content)
        yield Case("records", name, options=("--members", str(data / name)))


def run(case: Case, folder: Path, good: Path, data: Path) -> Outcome:
    """Fork, apply the change to a copy of the good teacher, run the command, and watch."""
    teacher = folder / "teacher"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, teacher)
    case.change(teacher)
    arguments = {
        "--teacher": str(teacher), "--student": str(data / "student"), "--members": str(data / "m.jsonl"),
        "--nonmembers": str(data / "n.jsonl"), "--out": str(folder / "run"), "--attack": "loss",
    }  # fmt: skip
    arguments |= dict(zip(case.options[::2], case.options[1::2], strict=True))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    log = folder / "log"
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from kdaudit.cli.main import main

        code: int = 99
        try:
            main(["attack", *(part for pair in arguments.items() for part in pair), "--quiet"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    status, usage = None, None
    while time.monotonic() - started < LIMIT and not status:
        pid, found, usage = os.wait4(child, os.WNOHANG)
        status = (found,) if pid else None
        time.sleep(0.01)
    if status is None:
        os.kill(child, signal.SIGKILL)
        _, _, usage = os.wait4(child, 0)
    seconds = time.monotonic() - started
    megabytes = max(0, (usage.ru_maxrss if usage else 0) - before) / 1024
    ended = None if status is None else os.waitstatus_to_exitcode(status[0])
    return Outcome(case, ended, seconds, megabytes, log.read_text(errors="replace") if log.exists() else "")


def main() -> None:
    """Run the cases of the kinds that are named, or all, and print the table."""
    budget = float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    os.environ["HF_HUB_OFFLINE"] = "1"
    outcomes = []
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        data.mkdir()
        good = tiny.save(Path(place) / "good", seed=1)
        tiny.save(data / "student", seed=2)
        for name, seed in (("m", 1), ("n", 2)):
            tiny.write_jsonl(data / f"{name}.jsonl", tiny.texts(8, seed=seed), prefix=name)
        import kdaudit.audit.run
        import kdaudit.cli.audit  # noqa: F401

        started = time.monotonic()
        chosen = [case for case in cases(good, data) if len(sys.argv) < 3 or case.kind in sys.argv[2:]]
        random.Random(0).shuffle(chosen)  # some of every kind, where the time is short
        for case in chosen:
            if time.monotonic() - started > budget:
                break
            outcomes.append(run(case, Path(place) / "case", good, data))
    show(outcomes)


def show(outcomes: list[Outcome]) -> None:
    """The table, and every case that is a fault of ours."""
    for kind in dict.fromkeys(one.case.kind for one in outcomes):
        found = [one for one in outcomes if one.case.kind == kind]
        codes = ", ".join(f"{code}: {count}" for code, count in Counter(str(one.code) for one in found).items())
        slow, large = max(found, key=lambda one: one.seconds), max(found, key=lambda one: one.megabytes)
        print(f"{kind:14} {len(found):4} cases; exit codes {codes}; slowest {slow.seconds:.1f} s ({slow.case.name}); "
              f"largest {large.megabytes:.0f} MB ({large.case.name})")  # fmt: skip
    for one in outcomes:
        if one.is_bad:
            last = " | ".join((one.error.strip().splitlines() or [""])[-3:])
            print(f"BAD {one.case.kind}, {one.case.name}: exit {one.code}, {one.seconds:.1f} s: {last[-300:]}")
    print(f"{len(outcomes)} cases, {sum(one.is_bad for one in outcomes)} bad")


if __name__ == "__main__":
    main()
