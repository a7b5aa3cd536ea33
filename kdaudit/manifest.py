"""kdaudit.json: what is said of a distilled student, and finding its members again through it.

The student's folder is pushed to the Hub, so the manifest must not be a membership list: records stand in it as
HMACs, and their key lies beside the training data, never in the folder. Who holds a text but not the key learns
nothing. The same key signs the manifest: an edited one is noticed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path
from typing import Any

from kdaudit.artefacts import create_text, remove_leftovers, write_text
from kdaudit.config import LAST
from kdaudit.errors import ConfigError, RecordsError
from kdaudit.foreign import read_json, read_text, reason
from kdaudit.records import RecordSet, chosen, texts_of
from kdaudit.records.files import STDIN
from kdaudit.records.sets import digest

SCHEMA = "kdaudit.distillation/1"
FILE_NAME = "kdaudit.json"
UNFINISHED = "training/identity.json"
"""In the folder of a student whose training is not finished."""
KEY_SUFFIX = ".kdaudit-key"
ID_DIGITS = 32  # hex digits of a keyed id: 128 bits
KEY_BYTES = 32


MAX_KEY = 1000  # bytes of a key file
KINDS: Mapping[str, type | tuple[type, ...]] = {
    "text": str, "number": (int, float), "truth": bool, "object": dict,
}  # fmt: skip
LAYOUT = {
    "data.train": "object", "data.nonmembers": "object or null", "data.rule": "text",
    "data.teacher_saw": "text or null", "data.text_field": "text", "data.id_field": "text", "data.key_file": "text",
    "data.members": "ids", "data.held_out": "ids", "data.left_out": "ids",
    "teacher.name": "text", "teacher.weights_sha256": "text",
    "start.name": "text", "start.origin": "text", "start.is_reference": "truth",
    "start.revision": "text or null", "start.weights_sha256": "text",
    "student.weights_sha256": "text", "student.files_sha256": "text",
    "teacher.revision": "text or null", "teacher.load": "text or null", "start.load": "text or null",
    "student.load": "text or null", "training.chat_date": "text", "training.split_seed": "number or null",
    "training.beta": "number or null", "start.layers": "text or null", "versions": "object", "command": "text",
    "kdaudit_version": "text",
    "training": "object", "training.objective": "text", "training.hard_weight": "number",
    "training.temperature": "number", "training.epochs": "number", "training.seed": "number",
    "training.steps": "number", "identity": "object", "signature": "text",
    "utility.n_records": "number", "utility.n_tokens": "number",
    "utility.plan": "text", "utility.agreement.top1": "figure", "utility.agreement.forward_kl": "figure",
    **{
        f"utility.{loss}.{model}": "figure"
        for loss in ("nll", "bits_per_byte", "perplexity") for model in ("teacher", "start", "student")
    },
}  # fmt: skip
"""What stands where in a manifest, of all that later stages read."""
MAY_LACK_WHOLE = {"start", "utility"}
"""Parts that a student of another tool may lack: nobody may know its start, and nobody measured its utility."""
WORDS = {
    "data.teacher_saw": (None, "train", "none", "unknown"), "start.origin": ("checkpoint", "layers", "config"),
}  # fmt: skip
"""What may stand where the figures of an audit depend on it."""
MAY_LACK = {
    "utility.plan",
    "data.left_out", "student.files_sha256", "identity", "training.objective",
    "teacher.revision", "teacher.load", "start.load", "student.load", "training.chat_date", "training.split_seed",
    "training.beta", "start.layers", "versions", "command", "kdaudit_version",
    "training.hard_weight", "training.temperature", "training.epochs", "training.seed", "training.steps",
}  # fmt: skip
"""Parts that manifests of earlier versions, or of students of other tools, lack."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A student's manifest as read; `content` is its JSON."""

    path: Path
    content: Mapping[str, Any]

    @property
    def data(self) -> Mapping[str, Any]:
        """Files, rule and keyed ids of the records."""
        found: Mapping[str, Any] = self.content["data"]
        return found

    @property
    def training(self) -> Mapping[str, Any]:
        """The recipe. A student from before there was a choice learnt the last answer of every chat."""
        return {"score": LAST, **self.content["training"]}

    @property
    def may_teacher_know_held_out(self) -> bool:
        """Whether the held-out records may have been in the teacher's training data."""
        return self.data["teacher_saw"] not in {None, "none"}

    @property
    def origin(self) -> Mapping[str, Any] | None:
        """What is said of what the student started from; None where nothing is."""
        found: Mapping[str, Any] | None = self.content.get("start")
        return found

    @property
    def start(self) -> str | None:
        """The checkpoint that the student started from, as a path or id; None where it cannot be a reference."""
        start = self.origin
        if start is None or not start["is_reference"]:
            return None
        inside = self.path.parent / start["name"]
        return str(inside) if start["origin"] != "checkpoint" and inside.is_dir() else str(start["name"])


def key_path(sources: Sequence[str], given: Path | None) -> Path:
    """Where the key of the training records lies: as given, else beside the first file or folder of them.

    Raises:
        ConfigError: the first source is neither, so nothing lies beside it.
    """
    if given is not None:
        return given
    first = sources[0]
    what = "a Hub data set" if first.startswith("hub:") else "standard input" if first == STDIN else "a pattern"
    if what != "a pattern" or (has_magic(first) and not Path(first).exists()):
        raise ConfigError(
            f"--train {first}: there is no folder beside {what} for the key of the record ids",
            hint="say where the key is to lie: --key-file FILE",
        )
    return Path(first.rstrip("/") + KEY_SUFFIX)


def sources_of(recorded: Mapping[str, Any]) -> tuple[str, ...]:
    """The sources that a manifest names for a set of records."""
    source = recorded["source"]
    return (source,) if isinstance(source, str) else tuple(source)


def make_key(path: Path) -> bytes:
    """The key in a file; a new one, readable by its owner alone, where there is none.

    Raises:
        ConfigError: the file holds no key.
        OutputError: it cannot be written.
    """
    if not path.exists():
        create_text(path, secrets.token_hex(KEY_BYTES) + "\n")  # of two processes the slower one reads the other's
    else:
        remove_leftovers(path)
    return read_key(path)


def read_key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        ConfigError: there is no such file, or it holds no key.
    """
    try:
        key = bytes.fromhex(read_text(path, at_most=MAX_KEY, encoding="ascii").strip())
    except OSError as error:
        raise ConfigError(
            f"the key of the record ids cannot be read: {path}: {error.strerror}",
            hint="distill wrote it beside the training file; where it was moved, give --key-file FILE",
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} holds no key", hint="give the file that distill wrote: --key-file FILE") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path} holds no key", hint="give the file that distill wrote: --key-file FILE")
    return key


def record_id(key: bytes, text: str) -> str:
    """What stands for a text in a manifest: 128 bits of its HMAC-SHA256."""
    return hmac.new(key, b"record:" + text.encode(), hashlib.sha256).hexdigest()[:ID_DIGITS]


def signature(content: Mapping[str, Any], key: bytes) -> str:
    """HMAC-SHA256 over everything in a manifest but its signature."""
    signed = {name: value for name, value in content.items() if name != "signature"}
    text = json.dumps(signed, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hmac.new(key, b"manifest:" + text.encode(), hashlib.sha256).hexdigest()


def describe_set(found: RecordSet) -> dict[str, Any]:
    """What a manifest says of a set of records; no text, and no id."""
    return {
        "source": found.named[0] if len(found.named) == 1 else list(found.named),
        "sha256": found.sha256,
        "records": len(found.records),
        "duplicates": found.n_duplicates,
    }


def save(content: Mapping[str, Any], key: bytes, path: Path) -> None:
    """Sign a manifest and write it whole or not at all.

    Raises:
        OutputError: it cannot be written.
        DiskFullError: no space is left.
    """
    layout = {"schema": SCHEMA, **content}
    layout["signature"] = signature(layout, key)
    write_text(path, json.dumps(layout, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load(path: Path) -> Manifest:
    """Read a manifest; its signature is checked when its records are looked up, which takes the key.

    Raises:
        ConfigError: it cannot be read, is of another schema or lacks a part.
    """
    hint = "give the records by --members FILE and --nonmembers FILE, or distil the student again"
    try:
        content = read_json(path, only_numbers=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable manifest: {reason(error)}", hint=hint) from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise ConfigError(f"{path}: its schema is {found!r}, and this version reads {SCHEMA!r}", hint=hint)
    training = content.get("training")
    lacks = MAY_LACK_WHOLE - content.keys() if isinstance(training, dict) and "trainer" in training else set()
    for where, kind in LAYOUT.items():
        if where.split(".")[0] in lacks:
            continue
        value: Any = content
        for name in where.split("."):
            if not isinstance(value, dict) or name not in value:
                if where in MAY_LACK:
                    break
                raise ConfigError(f"{path}: {where} is missing", hint=hint)
            value = value[name]
        else:
            if not _is_of(value, kind) or (where in WORDS and value not in WORDS[where]):
                raise ConfigError(f"{path}: {where} is not what distill writes there", hint=hint)
    for part in ("train", "nonmembers"):
        source = content["data"][part]
        if source is not None and not _is_source(source):
            raise ConfigError(f"{path}: data.{part} is not what distill writes there", hint=hint)
    return Manifest(path, content)


def _is_of(value: object, kind: str) -> bool:
    if kind.endswith(" or null"):
        return value is None or _is_of(value, kind.removesuffix(" or null"))
    if kind == "ids":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind == "figure":
        names = ("value", "low", "high")
        return isinstance(value, dict) and all(_is_of(value.get(name, ""), "number or null") for name in names)
    # a truth value is an int in Python, and not what is meant by a number
    return isinstance(value, KINDS[kind]) and (kind == "truth" or not isinstance(value, bool))


def _is_source(value: object) -> bool:
    kinds = {"sha256": "text", "records": "number"}
    if not isinstance(value, dict) or not all(_is_of(value.get(name), kind) for name, kind in kinds.items()):
        return False
    source = value.get("source")
    return _is_of(source, "text") or (_is_of(source, "ids") and bool(source))


def check_signature(manifest: Manifest, key: bytes, key_file: Path) -> None:
    """Refuse a manifest that was changed after distill wrote it, or another training run's key.

    Raises:
        ConfigError: the signature is not the key's.
    """
    if not hmac.compare_digest(signature(manifest.content, key), str(manifest.content["signature"])):
        raise ConfigError(
            f"{manifest.path} was changed after distill wrote it, or {key_file} is not its key",
            hint="restore the manifest, give the right key by --key-file FILE, or give --members and --nonmembers",
        )


def check_source(manifest: Manifest, found: RecordSet, part: str) -> None:
    """Refuse a file whose records are not those that the student was distilled with.

    Raises:
        RecordsError: the hash of its ids and texts differs.
    """
    recorded = manifest.data[part]
    if found.sha256 != recorded["sha256"]:
        raise RecordsError(
            f"{found.option} {found.source} is another file, or has changed since the student was distilled: "
            f"{len(found.records)} records, "
            f"hash {found.sha256[:12]}…; then {recorded['records']} records, hash {recorded['sha256'][:12]}…",
            hint="give the file as it was; nobody can tell any more who was a member from this one",
        )


def pick(manifest: Manifest, found: RecordSet, part: str, key: bytes, option: str) -> RecordSet:
    """The records of `found` whose keyed ids stand under `part` (members, held_out) of the manifest, in its order.

    Raises:
        RecordsError: an id of the manifest belongs to no record of the file.
    """
    by_id = {record_id(key, text): place for place, text in enumerate(texts_of(found.records))}
    wanted = manifest.data[part]
    lacking = [one for one in wanted if one not in by_id]
    if lacking:
        raise RecordsError(
            f"{manifest.path}: {len(lacking)} of its {len(wanted)} {part.replace('_', '-')} records are not in "
            f"{found.option} {found.source}",
            hint="give the training file that the student was distilled with, and its key (--key-file)",
        )
    asked = set(wanted)
    kept = chosen(found.records, [place for one, place in by_id.items() if one in asked])
    n_duplicates = found.n_duplicates if part == "members" else 0
    return replace(found, option=option, records=kept, n_duplicates=n_duplicates, sha256=digest(kept))
