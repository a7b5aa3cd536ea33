"""The recipe of a finished student: what it was distilled from and how, read from its manifest to distil it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from kdaudit import manifest as manifests
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import CheckpointError, ConfigError
from kdaudit.manifest import Manifest
from kdaudit.models.checkpoint import find
from kdaudit.models.hub import locate
from kdaudit.options import flag_of
from kdaudit.records import IN_MEMORY

STARTS = ("student", "student_layers", "student_config")
HELD_OUT = ("nonmembers", "holdout", "coins", "teacher_saw")
"""Settings that say who is held out: one that is given replaces all of them."""
SETTLED = {"split_seed", "copies_per_epoch"}
"""What a comparison settles itself."""
NEEDED = ("objective", "hard_weight", "temperature", "epochs", "lr")
"""What decides how much a student leaks: for one of another tool the manifest may not say it, and nobody guesses it."""


def manifest_of(student: str) -> Manifest:
    """The manifest in a student's folder.

    Args:
        student: its folder, or its Hub id.

    Raises:
        ConfigError: there is none that can be read.
        CheckpointError: there is no such folder.
    """
    folder, _ = locate(student, "--from", allow_pickle=False, trust_remote_code=False)
    path = folder / manifests.FILE_NAME
    if not path.is_file():
        raise ConfigError(
            f"--from: {folder} has no {manifests.FILE_NAME}",
            hint="`kdaudit distill` leaves one, and `kdaudit manifest` writes one for a student of another tool; "
            "or give --teacher, --student and --train instead",
        )
    return manifests.load(path)


def settings_of(found: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a student was distilled with, apart from its folder; those that are given replace them.

    Args:
        found: its manifest.
        given: fields that are to be different, or lie elsewhere now.

    Raises:
        CheckpointError: its teacher or its start is gone, or was changed.
        ConfigError: its training records were in memory, the key of its record ids is gone: a new one would know no
            record; or the manifest does not say enough of the recipe.
    """
    training, data = found.training, found.data
    if IN_MEMORY in manifests.sources_of(data["train"]) and "train" not in given:
        raise ConfigError(
            f"--from: {found.path} was distilled on records in memory, which are in no file",
            hint="write them into one, in their order, and give it by --train",
        )
    known = {field.name for field in fields(DistillConfig)} - SETTLED
    settings = {name: value for name, value in training.items() if name in known}
    _check_told(found, {**settings, **given})
    is_hard = settings.get("objective") == "hard"
    settings |= {
        "train": manifests.sources_of(data["train"]),
        "nonmembers": manifests.sources_of(data["nonmembers"]) if data["nonmembers"] else (),
        "key_file": Path(data["key_file"]),
        "hard_weight": None if is_hard else training.get("hard_weight"),
        "split_seed": training.get("split_seed", training.get("seed")),
    }
    key_file = Path(given.get("key_file") or settings["key_file"]).expanduser()
    if not key_file.is_file():
        raise ConfigError(
            f"--from: the key of the record ids, {key_file}, is not there", hint="say where it lies now: --key-file"
        )
    if "teacher" not in given:
        base = found.content["teacher"].get("base")
        settings["teacher_base"] = given.get("teacher_base") or (_named(base) if base else None)
        settings["teacher"] = _checked(
            found, "teacher", _named(found.content["teacher"]), base=settings["teacher_base"]
        )
    if not given.keys() & {*STARTS}:
        settings |= _start(found)
    else:
        settings |= dict.fromkeys(STARTS)
    if given.keys() & {*HELD_OUT}:
        settings |= {"nonmembers": (), "holdout": None, "coins": False, "teacher_saw": None}
    if "objective" in given:
        settings["beta"] = None
    return {**settings, **given}


def _check_told(found: Manifest, settings: Mapping[str, Any]) -> None:
    """Refuse a recipe of which a part is not known, or is none that can be repeated here."""
    if "trainer" not in found.training:
        return  # distill wrote all that it knew
    idle = {"hard_weight", "temperature"} if settings.get("objective") == "hard" else set()
    if lacking := [name for name in NEEDED if settings.get(name) is None and name not in idle]:
        raise ConfigError(
            f"--from: {found.path} does not say of {found.content['training']['trainer']}: "
            f"{', '.join(name.replace('_', ' ') for name in lacking)}",
            hint=f"say it: {', '.join(map(flag_of, lacking))}",
        )
    if settings["epochs"] != int(settings["epochs"]):
        raise ConfigError(
            f"--from: the student was trained for {settings['epochs']:g} epochs, and kdaudit trains for whole ones",
            hint="say how many: --epochs",
        )


def _start(found: Manifest) -> Mapping[str, Any]:
    start = found.origin
    if start is None:
        raise ConfigError(
            f"--from: {found.path} does not say what the student started from", hint="say it: --student CHECKPOINT"
        )
    none = dict.fromkeys(STARTS)
    if start["origin"] == "layers":
        return {**none, "student_layers": start["layers"]}
    inside = found.path.parent / str(start["name"])
    name = str(inside) if start["origin"] == "config" else _named(start)
    return {**none, "student": _checked(found, "start", name)}


def _checked(found: Manifest, part: str, name: str, *, base: str | None = None) -> str:
    """The name of a checkpoint that is still what the student was distilled with."""
    recorded, option = found.content[part], {"teacher": "--teacher", "start": "--student"}[part]
    if not recorded["revision"] and not Path(name).expanduser().exists():
        raise CheckpointError(
            f"--from: the {part} that {found.path} names is not there ({name})",
            hint=f"say where it lies now: {option}",
        )
    checkpoint = find(name, option=option if base else f"--from ({part})", load=recorded["load"], base=base)
    if checkpoint.weights_sha256 != recorded["weights_sha256"]:
        raise CheckpointError(
            f"--from: the {part} that {found.path} names, {name}, has changed since",
            hint=f"give the checkpoint as it was: {option}",
        )
    return name


def _named(part: Mapping[str, Any]) -> str:
    return f"{part['name']}@{part['revision']}" if part["revision"] else str(part["name"])
