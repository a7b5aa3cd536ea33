"""The student's folder: whose it is, what in it can be continued, and how weights and checkpoints are put there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdaudit import lock, manifest
from kdaudit.artefacts import remove_leftovers, waiting_name, write_text, writing
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError
from kdaudit.foreign import check_regular, is_file, is_folder, read_json, reason
from kdaudit.models.altered import save
from kdaudit.models.weights import sha256_files, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LEFTOVERS = ("training", "start", "epochs")


@dataclass(frozen=True, slots=True)
class StudentFolder:
    """Where a student and everything that it is made with lie."""

    path: Path
    manifest: Path

    @property
    def work(self) -> Path:
        """Checkpoints of an unfinished run; gone when the student is finished."""
        return self.path / "training"

    @property
    def start(self) -> Path:
        """A start that had to be made."""
        return self.path / "start"

    @property
    def identity(self) -> Path:
        """What an unfinished run was started with."""
        return self.path / manifest.UNFINISHED

    @property
    def copies(self) -> Path:
        """Copies of the student from before its end."""
        return self.path / "epochs"

    def copy(self, epochs: float) -> Path:
        """The copy of the student after that many epochs: 1, or 1.25 for a quarter of the second."""
        return self.copies / f"{epochs:g}"


def claim(config: DistillConfig) -> StudentFolder:
    """The folder of `config`, made where it does not exist.

    Raises:
        ConfigError: it holds something other than a student of kdaudit, or --resume finds nothing to continue.
        OutputError: it cannot be written.
    """
    folder = StudentFolder(config.out, config.manifest_out or config.out / manifest.FILE_NAME)
    is_ours = is_file(folder.identity) or is_file(folder.manifest)
    starts_over = config.overwrite or (config.resume is False and not is_file(folder.manifest))
    if config.resume and not is_ours and not starts_over:
        raise ConfigError(f"--resume: {config.out} holds no unfinished run", hint="leave --resume out")
    lock.claim(
        config.out, is_ours=is_ours, holds_no="student of an earlier run", leftovers=LEFTOVERS, overwrite=starts_over
    )
    if starts_over or not is_ours:  # nothing says which run they are of
        with writing(config.out):
            for name in LEFTOVERS:
                shutil.rmtree(config.out / name, ignore_errors=True)
            if config.overwrite:
                folder.manifest.unlink(missing_ok=True)
    return folder


def earlier_student(folder: StudentFolder, identity: Mapping[str, Any]) -> manifest.Manifest | None:
    """The finished student in the folder, if it is the one that `identity` asks for; None where one is to be made.

    Raises:
        ConfigError: the folder holds another student or another unfinished run, or its weights were changed.
    """
    if is_file(folder.manifest):
        found = manifest.load(folder.manifest)
        lock.refuse_other_settings(
            folder.path, found.content.get("identity") or {}, identity, holds="a student",
            hint="choose another --out, or replace that one with --overwrite",
        )  # fmt: skip
        weights = sha256_files(weight_files(folder.path, "--out", allow_pickle=False))
        if found.content["student"].get("files_sha256") != weights:
            raise ConfigError(
                f"--out: the weights in {folder.path} are not those that its manifest describes",
                hint="choose another folder, or train the student again with --overwrite",
            )
        return found
    if is_file(folder.identity):
        hint = "start over by --no-resume"
        try:
            earlier = read_json(folder.identity)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder.identity} cannot be read: {reason(error)}", hint=hint) from error
        if not isinstance(earlier, dict):
            raise ConfigError(f"{folder.identity} is not the identity of a run", hint=hint)
        lock.refuse_other_settings(
            folder.path, earlier, identity, holds="an unfinished run",
            hint="choose another --out, or discard that run with --no-resume",
        )  # fmt: skip
    return None


def begin(folder: StudentFolder, identity: Mapping[str, Any]) -> None:
    """Mark the folder as that of a run.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(folder.identity, json.dumps(identity, indent=1) + "\n")


def save_student(
    model: PreTrainedModel | Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    weights: Mapping[str, Any] | None = None,
) -> None:
    """Save weights (safetensors), configuration and tokenizer; files of other names in the folder stay.

    Args:
        model: a transformers model, or a peft model, of which the adapter alone is saved.
        tokenizer: its own.
        folder: where; it is made.
        weights: those of the model by name, where it does not hold them itself.

    Raises:
        DiskFullError: no space is left.
        OutputError: the folder cannot be written.
    """
    waiting = waiting_name(folder)
    with writing(folder):
        try:
            remove_leftovers(folder)
            shutil.rmtree(waiting, ignore_errors=True)
            waiting.mkdir(parents=True)
            for settings in getattr(model, "peft_config", {}).values():
                if isinstance(settings.target_modules, set):  # whose order is another one in every process
                    settings.target_modules = sorted(settings.target_modules)
            save(model, waiting, weights)
            tokenizer.save_pretrained(waiting)
            (waiting / "README.md").unlink(missing_ok=True)  # peft's empty model card: kdaudit writes its own
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(waiting.iterdir(), key=lambda path: (path.name == "config.json", path.name)):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(waiting, ignore_errors=True)


PREFIX = "checkpoint-"
SEAL = "sha256.json"
DAMAGED = "damaged-"


def seal(checkpoint: Path) -> None:
    """Write down the hash of every file of a checkpoint; the last file that is written.

    Raises:
        DiskFullError: no space is left.
        OutputError: it cannot be written.
    """
    with writing(checkpoint):
        hashes = _hashes(checkpoint)
    write_text(checkpoint / SEAL, json.dumps(hashes, indent=1) + "\n")


def newest_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end and is still as it was written."""
    return next((path for path in _newest_first(work) if _is_whole(path)), None)


def set_damaged_aside(work: Path) -> Mapping[int, Path]:
    """Rename checkpoints that were not written to their end, or changed since; by step, where they lie now.

    Raises:
        OutputError: one cannot be renamed.
    """
    aside = {}
    with writing(work):
        for path in _newest_first(work):
            if _is_whole(path):
                continue
            step = _step(path)
            there = work / f"{DAMAGED}{step}"
            shutil.rmtree(there, ignore_errors=True)
            os.replace(path, there)
            aside[step] = there
    return aside


def _newest_first(work: Path) -> list[Path]:
    found = [path for path in work.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(found, key=lambda path: -_step(path))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _is_whole(checkpoint: Path) -> bool:
    try:
        return is_folder(checkpoint) and read_json(checkpoint / SEAL) == _hashes(checkpoint)
    except (OSError, ValueError):
        return False


def _hashes(checkpoint: Path) -> dict[str, str]:
    """The hash of every file except the seal, by its name.

    Raises:
        OSError: one cannot be read or is not a file.
    """
    hashes = {}
    for path in sorted(checkpoint.iterdir()):
        if path.name == SEAL:
            continue
        check_regular(path)
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
