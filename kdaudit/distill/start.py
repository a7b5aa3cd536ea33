"""What the student starts from: a checkpoint, some layers of the teacher, or random weights."""

from __future__ import annotations

import gc
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdaudit.artefacts import remove_leftovers, waiting_name, writing
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import CheckpointError, ConfigError, ModelError
from kdaudit.foreign import is_file, read_json, reading, reason
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.hub import locate
from kdaudit.models.loading import load
from kdaudit.models.sizes import check_fits, check_settings
from kdaudit.models.weights import ADAPTER_CONFIG

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ORIGINS = {"student": "checkpoint", "student_layers": "layers", "student_config": "config"}
MAX_CONFIG = 2**23  # bytes


def origin(config: DistillConfig) -> str:
    """checkpoint, layers or config."""
    return next(word for name, word in ORIGINS.items() if getattr(config, name) is not None)


def is_reference(config: DistillConfig) -> bool:
    """Whether the start may serve as the student's reference: layers of a teacher may have seen the members."""
    return origin(config) != "layers" or config.teacher_saw == "none"


def parse_layers(text: str, n_layers: int) -> list[int]:
    """Layers of the teacher, counted from 0, in rising order.

    Raises:
        ConfigError: one is not a number, is not there, or stands twice.
    """
    hint = f"the teacher has layers 0 to {n_layers - 1}: for example --student-layers 0,{max(1, n_layers - 1)}"
    try:
        layers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--student-layers: '{text}' is not a list of layer numbers", hint=hint) from error
    strangers = [layer for layer in layers if not 0 <= layer < n_layers]
    if strangers:
        raise ConfigError(f"--student-layers: the teacher has no layer {strangers[0]}", hint=hint)
    if layers != sorted(set(layers)):
        raise ConfigError(f"--student-layers: {text} is not in rising order without repeats", hint=hint)
    return layers


def find_start(config: DistillConfig, teacher: Checkpoint, folder: Path) -> Checkpoint:
    """The student's start; it is made in `folder` where it is not a checkpoint yet.

    Args:
        config: says where it comes from.
        teacher: gives layers and tokenizer.
        folder: of a start that has to be made.

    Raises:
        CheckpointError: what was given is not a checkpoint, or is an adapter.
        ConfigError: layers or configuration do not fit.
    """
    options: dict[str, Any] = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
    if config.student is not None:
        if is_file(locate(config.student, "--student", **options)[0] / ADAPTER_CONFIG):
            raise CheckpointError(
                f"--student: {config.student} is an adapter, and a start must be a whole model",
                hint="merge it first (peft: merge_and_unload, then save_pretrained)",
            )
        found = find(config.student, option="--student", load=config.student_load, kind=config.kind, **options)
        if found.stored is not None and not config.lora:
            raise ConfigError(
                f"--student: {found.name} is stored quantised ({found.stored}), and such weights cannot be trained",
                hint="give --lora RANK to train an adapter on them, or a start that is not quantised",
            )
        return found
    again: dict[str, Any] = {
        "option": "--student-layers/--student-config", "load": config.student_load, "kind": teacher.kind, **options,
    }  # fmt: skip
    if is_file(folder / "config.json"):
        with suppress(CheckpointError, ModelError):
            return find(str(folder), **again)
        shutil.rmtree(folder)  # damaged, by whatever ended the run: it is made again
    if config.student_layers is not None:
        _save_layers(teacher, config.student_layers, folder)
    else:
        _save_start(_random(config, teacher), teacher, folder)
    return find(str(folder), **again)


def _save_start(model: PreTrainedModel, teacher: Checkpoint, folder: Path) -> None:
    from kdaudit.distill.folder import save_student
    from kdaudit.models.loading import load_tokenizer

    save_student(model, load_tokenizer(teacher), folder)
    del model
    gc.collect()


def _save_layers(teacher: Checkpoint, wanted: str, folder: Path) -> None:
    """The teacher with some of its layers, embeddings and head kept; the folder is there only where it is exact."""
    from kdaudit.distill.layers import WAY_OUT, apply_layers, check_described, check_taken, cut, find_stack

    if teacher.base is not None or teacher.load is not None:
        raise ConfigError(
            "--student-layers: the layers of an adapted or quantised teacher cannot be taken over",
            hint="give a whole, unquantised teacher, or the start by --student",
        )
    layers = parse_layers(wanted, teacher.n_layers)
    model = load(teacher, device="cpu", dtype=teacher.whole_dtype)
    name, stack = find_stack(model, teacher.n_layers)
    expected = apply_layers(model, stack, layers)
    waiting = waiting_name(folder)
    remove_leftovers(folder)
    what = f"--student-layers: the layers of {teacher.architecture} do not make a model by themselves"
    try:
        with reading(what, ConfigError, hint=WAY_OUT):
            cut(model, name, layers)
            check_described(model, name)
            _save_start(model, teacher, waiting)
            del model, stack
            gc.collect()
            made = find(
                str(waiting), option="--student-layers", kind=teacher.kind, trust_remote_code=teacher.trust_remote_code
            )
            check_taken(load(made, device="cpu", dtype=teacher.whole_dtype), expected)
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(waiting, folder)
    except (ModelError, CheckpointError) as error:
        raise ConfigError(f"{what}: {str(error).replace(str(waiting), 'the start')}", hint=WAY_OUT) from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def _random(config: DistillConfig, teacher: Checkpoint) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig

    from kdaudit.models.kinds import auto_class
    from kdaudit.models.loading import load_tokenizer

    path = config.student_config
    if path is None or not is_file(path):
        raise ConfigError(f"--student-config: no such file: {path}", hint="give the config.json of a model")
    with reading(f"--student-config: {path} cannot be used", ConfigError):
        content = read_json(path, at_most=MAX_CONFIG)
        if not isinstance(content, dict):
            raise ConfigError(f"--student-config: {path} is not a JSON object")
        check_settings(content, f"--student-config: {path}")
        settings: Any = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        if getattr(settings, "quantization_config", None) is not None:
            raise ConfigError(
                f"--student-config: {path} names a quantisation, and random weights are not quantised",
                hint="take the entry quantization_config out",
            )
        with torch.device("meta"):
            check_fits(auto_class(teacher.kind).from_config(settings), f"--student-config: {path}")
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                model: PreTrainedModel = auto_class(teacher.kind).from_config(settings, dtype=torch.float32)
        except (RuntimeError, MemoryError) as error:
            raise ModelError(f"--student-config: {path}: the model cannot be made: {reason(error)}") from error
    n_known = max(load_tokenizer(teacher).get_vocab().values()) + 1
    size = int(settings.get_text_config().vocab_size)
    if size < n_known:
        raise ConfigError(
            f"--student-config: {path} has a vocabulary of {size}, and the teacher's tokenizer knows {n_known} tokens",
            hint=f"set vocab_size to {n_known} or more",
        )
    return model
