"""A manifest that is signed but malformed is refused with the part that is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from kdaudit import manifest
from kdaudit.errors import ConfigError

SOURCE = {"source": "a.jsonl", "sha256": "0", "records": 3, "duplicates": 0}
FIGURE = {"value": 1.0, "low": None, "high": 2.0}
GOOD: dict[str, Any] = {
    "versions": {}, "command": "kdaudit distill", "kdaudit_version": "1",
    "data": {
        "train": SOURCE, "nonmembers": None, "rule": "coins", "teacher_saw": "none", "text_field": "text",
        "id_field": "id", "key_file": "k", "members": ["a"], "held_out": ["b"], "left_out": [],
    },
    "teacher": {"name": "t", "revision": None, "load": None, "weights_sha256": "x"},
    "start": {
        "name": "s", "load": None, "layers": "0,2", "origin": "checkpoint", "is_reference": True, "revision": None,
        "weights_sha256": "x",
    },
    "student": {"load": None, "weights_sha256": "x", "files_sha256": "y"},
    "training": {
        "chat_date": "2024-07-26", "split_seed": 0, "beta": None,
        "objective": "hard", "hard_weight": 1, "temperature": 1.0, "epochs": 1, "seed": 0, "steps": 3,
    },
    "identity": {},
    "utility": {
        "n_records": 3, "n_tokens": 9, "agreement": dict.fromkeys(("top1", "forward_kl"), FIGURE),
        **dict.fromkeys(
            ("nll", "bits_per_byte", "perplexity"), dict.fromkeys(("teacher", "start", "student"), FIGURE)
        ),
    },
}  # fmt: skip
VALUES: dict[str, tuple[Any, ...]] = {
    "text": (3, [], {}, True, None), "number": ("x", [], {}, True, None), "truth": (3, "x", None),
    "object": (3, "x", [], True, None), "ids": ("x", {}, [3], None),
    "figure": (3, [], {}, None, {**FIGURE, "low": "x"}),
}  # fmt: skip


def test_every_part_is_checked_for_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "kdaudit.json"
    manifest.save(GOOD, bytes(32), path)
    manifest.load(path)
    n_refused = 0
    for where, kind in manifest.LAYOUT.items():
        for value in VALUES[kind.removesuffix(" or null")]:
            if where == "signature" or (value is None and kind.endswith("null")):
                continue
            content = json.loads(json.dumps(GOOD))
            *parents, last = where.split(".")
            inner = content
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
            path.write_text(json.dumps(content | {"schema": manifest.SCHEMA, "signature": "x"}))
            with pytest.raises(ConfigError, match=rf"{where}( is not what distill writes|\.\w+ is missing)"):
                manifest.load(path)
            n_refused += 1
    assert n_refused > 150


def test_a_word_that_distill_knows_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kdaudit.json"
    for part, name in (("data", "teacher_saw"), ("start", "origin")):
        manifest.save(GOOD | {part: GOOD[part] | {name: "nothing"}}, bytes(32), path)
        with pytest.raises(ConfigError, match=rf"{part}\.{name} is not what distill writes"):
            manifest.load(path)


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kdaudit.json"
    manifest.save(GOOD, bytes(32), path)
    for digits in ("NaN", "-Infinity", "1e999"):
        path.write_text(json.dumps(GOOD | {"schema": manifest.SCHEMA, "x": 0}).replace('"x": 0', f'"x": {digits}'))
        with pytest.raises(ConfigError, match="which is not a number"):
            manifest.load(path)


@pytest.mark.parametrize("text", ["", "[]", "3", "[" * 100_000, json.dumps({"schema": [manifest.SCHEMA]}), '{"a": NaN'])
def test_what_is_no_manifest_at_all_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "kdaudit.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"kdaudit\.json"):
        manifest.load(path)
