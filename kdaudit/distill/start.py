"""What the student starts from: a checkpoint, some layers of the teacher, or random weights."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import CheckpointError, ConfigError, ModelError
from kdaudit.foreign import is_file, read_json, reading, reason
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import load
from kdaudit.models.sizes import check_fits, check_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ORIGINS = {"student": "checkpoint", "student_layers": "layers", "student_config": "config"}
FOLDER_NAME = "start"
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
        ConfigError: one is no number, is not there, or stands twice.
    """
    hint = f"the teacher has layers 0 to {n_layers - 1}: for example --student-layers 0,{max(1, n_layers - 1)}"
    try:
        layers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--student-layers: '{text}' is no list of layer numbers", hint=hint) from error
    strangers = [layer for layer in layers if not 0 <= layer < n_layers]
    if strangers:
        raise ConfigError(f"--student-layers: the teacher has no layer {strangers[0]}", hint=hint)
    if layers != sorted(set(layers)):
        raise ConfigError(f"--student-layers: {text} is not in rising order without repeats", hint=hint)
    return layers


def find_start(config: DistillConfig, teacher: Checkpoint, folder: Path) -> Checkpoint:
    """The student's start, made in `folder` where it is no checkpoint yet.

    Args:
        config: says where it comes from.
        teacher: gives layers and tokenizer.
        folder: of a start that has to be made.

    Raises:
        CheckpointError: the checkpoint is none, or an adapter.
        ConfigError: layers or configuration do not fit.
    """
    options = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
    if config.student is not None:
        found = find(config.student, option="--student", load=config.student_load, **options)
        if found.base is not None:
            raise CheckpointError(
                f"--student: {found.name} is an adapter, and a start must be a whole model",
                hint="merge it first (peft: merge_and_unload, then save_pretrained)",
            )
        if found.stored is not None and not config.lora:
            raise ConfigError(
                f"--student: {found.name} is stored quantised ({found.stored}), and such weights cannot be trained",
                hint="give --lora RANK to train an adapter on them, or a start that is not quantised",
            )
        return found
    again: dict[str, Any] = {"option": "--student-layers/--student-config", "load": config.student_load, **options}
    if is_file(folder / "config.json"):
        with suppress(CheckpointError, ModelError):
            return find(str(folder), **again)
        shutil.rmtree(folder)  # damaged, by whatever ended the run: it is made again
    make: Callable[[], PreTrainedModel] = (
        (lambda: _layers_of(teacher, config.student_layers or ""))
        if config.student_layers is not None
        else (lambda: _random(config, teacher))
    )
    _save_start(make(), teacher, folder)
    return find(str(folder), **again)


def _save_start(model: PreTrainedModel, teacher: Checkpoint, folder: Path) -> None:
    from kdaudit.distill.saving import save_student
    from kdaudit.models.loading import load_tokenizer

    save_student(model, load_tokenizer(teacher), folder)
    del model
    gc.collect()


def _layers_of(teacher: Checkpoint, wanted: str) -> PreTrainedModel:
    """The teacher with some of its layers, embeddings and head kept. Source: Sanh et al. 2019, arXiv:1910.01108."""
    import torch

    if teacher.base is not None or teacher.load is not None:
        raise ConfigError(
            "--student-layers: the layers of an adapted or quantised teacher cannot be taken over",
            hint="give a whole, unquantised teacher, or the start by --student",
        )
    layers = parse_layers(wanted, teacher.n_layers)
    model = load(teacher, device="cpu", dtype=teacher.dtype)
    text_config: Any = model.config.get_text_config()
    stacks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == teacher.n_layers
    ]
    if len(stacks) != 1:
        raise ConfigError(
            f"--student-layers: {len(stacks)} stacks of {teacher.n_layers} layers in {teacher.architecture}",
            hint="make the start yourself and give it by --student",
        )
    name, stack = stacks[0]
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, torch.nn.ModuleList(stack[layer] for layer in layers))
    text_config.num_hidden_layers = len(layers)
    for part in ("layer_types", "mlp_layer_types"):
        kinds = getattr(text_config, part, None)
        if isinstance(kinds, list) and len(kinds) == teacher.n_layers:
            setattr(text_config, part, [kinds[layer] for layer in layers])
    return model


def _random(config: DistillConfig, teacher: Checkpoint) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

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
        with torch.device("meta"):
            check_fits(AutoModelForCausalLM.from_config(settings), f"--student-config: {path}")
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                model: PreTrainedModel = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
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
