"""A manifest for a student that another tool trained: its models and records found, checked and described."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kdaudit
from kdaudit import manifest, records
from kdaudit.errors import CheckpointError, ConfigError
from kdaudit.foreign import is_file, is_folder, read_bytes
from kdaudit.models.chat import chat_renderer
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.kinds import same_kind
from kdaudit.models.loading import load_tokenizer
from kdaudit.models.repeatable import CHAT_DATE
from kdaudit.recipes import TRAINERS
from kdaudit.recipes.recipe import MAX_CONFIG, Recipe, read_config
from kdaudit.recipes.settings import NO_START, ManifestConfig
from kdaudit.records import Read, RecordSet, check_alike, check_disjoint, notes_on, texts_of

IS_TEACHER = "the student started from its teacher, which may have seen the members: it has no reference model"
UNKNOWN_START = "nothing says what the student started from: it has no reference model"


@dataclass(frozen=True, slots=True)
class Models:
    """What a student was made of; `start` is None where nobody knows it or it is gone."""

    teacher: Checkpoint
    start: Checkpoint | None
    student: Checkpoint

    @property
    def is_reference(self) -> bool:
        """Whether the start may serve as a reference: a teacher may have seen the members."""
        return self.start is not None and self.start.weights_sha256 != self.teacher.weights_sha256


def write_manifest(config: ManifestConfig, *, command: str = "") -> tuple[Path, Mapping[str, Any]]:
    """Write the manifest of a student that another tool trained.

    Args:
        config: names the configuration of the tool, the models and the records.
        command: as the user typed it, for the manifest.

    Returns:
        Where the manifest lies, and its content.

    Raises:
        KdauditError: see `kdaudit.errors`; nothing is written then.
    """
    path = _free(config)
    recipe = TRAINERS[config.trainer](read_config(config.config))
    models = _find_models(config, recipe)
    sets = _read_sets(config, models.teacher)
    key = manifest.make_key(manifest.key_path(config.train, config.key_file))
    content = describe(config, recipe, models, *sets, key=key, command=command)
    manifest.save(content, key, path)
    return path, content


def describe(
    config: ManifestConfig,
    recipe: Recipe,
    models: Models,
    train: RecordSet,
    nonmembers: RecordSet,
    *,
    key: bytes,
    command: str,
) -> dict[str, Any]:
    """The manifest; it holds no text, and no id that could be looked up without the key."""
    start = models.start
    notes = [*recipe.notes, *notes_on([train, nonmembers])]
    notes += [UNKNOWN_START] if start is None else [] if models.is_reference else [IS_TEACHER]
    described = {**start.describe(), "origin": "checkpoint", "is_reference": models.is_reference} if start else None
    return {
        "kdaudit_version": kdaudit.__version__,
        "command": command,
        "data": {
            "train": manifest.describe_set(train),
            "nonmembers": manifest.describe_set(nonmembers),
            "text_field": config.text_field,
            "id_field": config.id_field,
            "rule": "nonmembers",
            "teacher_saw": None,
            "key_file": str(manifest.key_path(config.train, config.key_file)),
            "members": [manifest.record_id(key, text) for text in texts_of(train.records)],
            "held_out": [manifest.record_id(key, text) for text in texts_of(nonmembers.records)],
        },
        "teacher": models.teacher.describe(),
        **({"start": described} if described else {}),
        "student": {
            **models.student.describe(),
            "name": Path(config.student).resolve().name,
            "files_sha256": models.student.files_sha256,
        },
        "training": {
            **recipe.training,
            **{name: value for name, value in config.layout.items() if name not in {"text_field", "id_field"}},
            "text_field": config.text_field,
            "id_field": config.id_field,
            "chat_date": CHAT_DATE,
            "trainer": recipe.trainer,
            "config_sha256": hashlib.sha256(read_bytes(config.config, at_most=MAX_CONFIG)).hexdigest(),
            "notes": notes,
        },
        "versions": {"transformers": version("transformers")},
    }


def _free(config: ManifestConfig) -> Path:
    """Where the manifest goes."""
    folder = Path(config.student)
    if not is_folder(folder):
        raise CheckpointError(
            f"--student: there is no folder {folder}", hint="give the folder that the tool wrote the student to"
        )
    path = config.manifest_out or folder / manifest.FILE_NAME
    if is_file(folder / manifest.UNFINISHED):
        raise CheckpointError(
            f"--student: {folder} holds a training of kdaudit distill that is not finished",
            hint="run the same kdaudit distill command again: it continues, and writes the manifest",
        )
    if is_file(path) and not config.overwrite:
        raise ConfigError(f"{path}: there is a manifest already", hint="audit with it, or replace it with --overwrite")
    return path


def _find_models(config: ManifestConfig, recipe: Recipe) -> Models:
    named = f"named by {config.config}"
    if config.teacher is None and recipe.teacher is None:
        raise ConfigError(f"{config.config} names no teacher", hint="say which it was: --teacher FOLDER")

    def seek(name: str, option: str, *, load: str | None = None, base: str | None = None) -> Checkpoint:
        return find(name, option=option, load=load, base=base, kind=config.kind, **config.trust)

    teacher = seek(
        config.teacher or str(recipe.teacher), option="--teacher" if config.teacher else f"--teacher ({named})",
        base=config.teacher_base,
    )  # fmt: skip
    student = seek(config.student, option="--student", load=recipe.load, base=config.student_base)
    name = config.start or recipe.start
    start = None
    if name is not None and name != NO_START:
        try:
            start = seek(name, option="--start" if config.start else f"--start ({named})", load=recipe.load)
        except CheckpointError as error:
            way = f"say where the start lies now: --start FOLDER; or --start {NO_START} where it is gone"
            raise CheckpointError(str(error), hint=way) from error
    found = [("teacher", teacher), ("student", student), *([("start", start)] if start else [])]
    same_kind([(what, one.name, one.kind) for what, one in found])
    for what, other in (("teacher", teacher), ("start", start)):
        if other is not None and other.weights_sha256 == student.weights_sha256:
            raise CheckpointError(
                f"--student: {config.student} has the weights of its {what}, {other.name}: nothing was trained in it",
                hint="give the folder that the tool wrote the finished student to",
            )
    return Models(teacher, start, student)


def _read_sets(
    config: ManifestConfig, teacher: Checkpoint, read_source: Read = records.read
) -> tuple[RecordSet, RecordSet]:
    with chat_renderer(lambda: load_tokenizer(teacher), today=CHAT_DATE) as render:
        read = partial(read_source, **config.layout, render=render)
        train, nonmembers = read(config.train, option="--train"), read(config.nonmembers, option="--nonmembers")
    check_disjoint((train, nonmembers))
    check_alike(train, nonmembers)
    return train, nonmembers
