"""A manifest that is signed but malformed is refused with the part that is wrong."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from kdaudit import manifest
from kdaudit.errors import ConfigError

SOURCE = {"source": "a.jsonl", "sha256": "0", "records": 3, "duplicates": 0}
GOOD: dict[str, Any] = {
    "data": {
        "train": SOURCE, "nonmembers": None, "rule": "coins", "teacher_saw": "none", "text_field": "text",
        "id_field": "id", "key_file": "k", "members": ["a"], "held_out": ["b"], "left_out": [],
    },
    "teacher": {"name": "t", "weights_sha256": "x"},
    "start": {"name": "s", "origin": "checkpoint", "is_reference": True, "revision": None, "weights_sha256": "x"},
    "student": {"weights_sha256": "x", "files_sha256": "y"},
    "training": {
        "objective": "hard", "hard_weight": 1, "temperature": 1.0, "epochs": 1, "seed": 0, "steps": 3,
    },
    "identity": {}, "utility": {},
}  # fmt: skip
VALUES: dict[str, tuple[Any, ...]] = {
    "text": (3, [], {}, True, None), "number": ("x", [], {}, True, None), "truth": (3, "x", None),
    "object": (3, "x", [], True, None), "ids": ("x", {}, [3], None),
}  # fmt: skip


def test_every_part_is_checked_for_its_kind(tmp_path: Path) -> None:
    path, key = tmp_path / "kdaudit.json", bytes(32)
    manifest.save(GOOD, key, path)
    manifest.load(path)
    for where, kind in manifest.LAYOUT.items():
        for value in VALUES[kind.removesuffix(" or null")]:
            if where == "signature" or (value is None and kind.endswith("null")):
                continue
            content = copy.deepcopy(GOOD)
            *parents, last = where.split(".")
            inner = content
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
            manifest.save(content, key, path)
            with pytest.raises(ConfigError, match=rf"{where}( is not what distill writes|\.\w+ is missing)"):
                manifest.load(path)


@pytest.mark.parametrize("text", ["", "[]", "3", "[" * 100_000, json.dumps({"schema": [manifest.SCHEMA]}), '{"a": NaN'])
def test_what_is_no_manifest_at_all_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "kdaudit.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"kdaudit\.json"):
        manifest.load(path)
