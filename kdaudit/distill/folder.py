"""The student's folder while it is being made: whose it is, and what in it can be continued."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdaudit import lock, manifest
from kdaudit.artefacts import write_text, writing
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError
from kdaudit.foreign import is_file, read_json, reason
from kdaudit.models.weights import sha256_files, weight_files

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
