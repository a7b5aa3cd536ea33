"""Checkpoints whose architecture kdaudit changed: what was changed stands in config.json, and rebuilds the model.

kdaudit loads them by itself and never runs the code in their folder, which is for plain transformers. Their model type
is one that transformers does not know: under the original one it would load the wrong model without a word.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdaudit.artefacts import write_text, writing
from kdaudit.errors import CheckpointError
from kdaudit.models.kinds import AUTO_CLASSES, is_of_kind
from kdaudit.models.weights import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECORD = "kdaudit_surgery"
FORMAT = 1
MODELLING_FILE = "modeling_kdaudit.py"
ARGUMENTS: Mapping[str, Mapping[str, type]] = {
    "bottleneck": {"inputs": int, "width": int, "outputs": int},
    "no-norm": {"size": int, "has_bias": bool},
}
"""What a part of each kind is built with, as recorded."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """What was changed in a model."""

    model_type: str
    """The type of the model before the change, as transformers names it."""
    architecture: str
    """Its class in transformers."""
    parts: Mapping[str, Mapping[str, Any]]
    """By the path of the submodule: the kind of part in its place, and what that is built with."""


def alter(model: PreTrainedModel, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Put new parts in place and record them in the model's config, which `save_pretrained` writes.

    Args:
        model: changed in place; the weights of its new parts are not trained.
        parts: as `surgery.operate` takes them.
    """
    from kdaudit.models.surgery import operate  # imports torch: not at the top

    operate(model, parts)
    earlier = getattr(model.config, RECORD, None) or {
        "format": FORMAT,
        "model_type": model.config.model_type,
        "architecture": type(model).__name__,
        "parts": {},
    }
    setattr(model.config, RECORD, {**earlier, "parts": {**earlier["parts"], **parts}})


def read_alteration(folder: Path, option: str) -> Alteration | None:
    """What was changed in the model of a checkpoint folder; None where nothing was, or where it has no config.json.

    Raises:
        CheckpointError: config.json cannot be read, or the record in it was not written by this version of kdaudit.
    """
    path = folder / "config.json"
    record = read_json(path, option).get(RECORD) if path.is_file() else None
    if record is None:
        return None
    try:
        return _checked(record)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{option}: {path} holds a {RECORD} that cannot be used: {error}",
            hint="it was written by another version of kdaudit, or edited: save the checkpoint again",
        ) from error


def read_config(folder: Path, alteration: Alteration, option: str) -> Any:
    """The configuration of the model before the change, which holds the record as an attribute."""
    from transformers import AutoConfig

    settings = read_json(folder / "config.json", option)
    settings.pop("auto_map", None)
    settings.pop("model_type", None)
    return AutoConfig.for_model(alteration.model_type, **settings)


def model_class(alteration: Alteration) -> type[PreTrainedModel]:
    """The class of the changed model: its original with the parts put in place before any weight is read.

    Raises:
        CheckpointError: this transformers has no such model.
    """
    import transformers

    from kdaudit.models.surgery import operate

    original = getattr(transformers, alteration.architecture, None)
    if not (inspect.isclass(original) and issubclass(original, transformers.PreTrainedModel)):
        raise CheckpointError(f"this transformers has no model {alteration.architecture}", hint="update transformers")

    def build(self: Any, config: Any, *args: Any, **options: Any) -> None:
        original.__init__(self, config, *args, **options)
        operate(self, alteration.parts)

    # The name is the original's: by it transformers finds how the weights of a checkpoint are called.
    made: type[PreTrainedModel] = type(alteration.architecture, (original,), {"__init__": build})
    return made


def save(model: PreTrainedModel, folder: Path, weights: Mapping[str, Any] | None = None) -> None:
    """Save a model so that plain transformers loads a changed one with its changes, or not at all.

    The folder of a changed model gets the modelling file, and its config.json points to it.

    Args:
        model: what is saved.
        folder: where.
        weights: its weights by name, where it does not hold them itself.

    Raises:
        OutputError: a file cannot be written.
        DiskFullError: no space is left.
    """
    is_altered = getattr(model.config, RECORD, None) is not None
    with writing(folder):
        # Of models that bring their code transformers translates no names of weights from an older format.
        told: dict[str, Any] = {} if weights is None else {"state_dict": dict(weights)}
        model.save_pretrained(folder, save_original_format=not is_altered, **told)
    alteration = read_alteration(folder, "--out")
    if alteration is not None:
        write_text(folder / MODELLING_FILE, _modelling_file(alteration))
        settings = read_json(folder / "config.json", "--out") | _pointers(alteration)
        write_text(folder / "config.json", json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _pointers(alteration: Alteration) -> dict[str, Any]:
    """What config.json says so that transformers finds the modelling file and cannot do without it."""
    name, module = f"Kdaudit{alteration.architecture}", MODELLING_FILE.removesuffix(".py")
    return {
        "architectures": [name],
        "model_type": f"kdaudit_{alteration.model_type}",
        "auto_map": {
            "AutoConfig": f"{module}.KdauditConfig",
            **dict.fromkeys(_auto_classes(alteration.architecture), f"{module}.{name}"),
        },
    }


def _modelling_file(alteration: Alteration) -> str:
    """The source of `surgery`, and the two classes that transformers looks up."""
    from transformers import CONFIG_MAPPING

    from kdaudit.models import surgery

    config = CONFIG_MAPPING[alteration.model_type].__name__
    return f'''{inspect.getsource(surgery)}

from transformers import {config}, {alteration.architecture}  # noqa: E402


class KdauditConfig({config}):
    """The original configuration under a name of its own, with what was changed as `{RECORD}`."""

    model_type = "kdaudit_{alteration.model_type}"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.model_type = "{alteration.model_type}"  # of the instance: how transformers names the weights


class Kdaudit{alteration.architecture}({alteration.architecture}):
    """The original model with its changed parts."""

    config_class = KdauditConfig

    def __init__(self, config: KdauditConfig, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        operate(self, config.{RECORD}["parts"])
'''


def _auto_classes(architecture: str) -> list[str]:
    """Under which of the Auto classes transformers lists a model."""
    return [auto for kind, auto in AUTO_CLASSES.items() if is_of_kind(architecture, kind)]


def _checked(record: Any) -> Alteration:
    if record["format"] != FORMAT:
        raise ValueError(f"its format is {record['format']!r}, not {FORMAT}")
    model_type, architecture, parts = record["model_type"], record["architecture"], record["parts"]
    if not (isinstance(model_type, str) and isinstance(architecture, str) and isinstance(parts, dict) and parts):
        raise ValueError("it names no model or no part")
    for path, spec in parts.items():
        wanted = ARGUMENTS[spec["kind"]]
        given = {name: value for name, value in spec.items() if name != "kind"}
        if given.keys() != wanted.keys():
            raise ValueError(f"{path} is not described by {', '.join(wanted)}")
        for name, kind in wanted.items():
            if type(given[name]) is not kind or (kind is int and given[name] < 1):
                raise ValueError(f"{name} of {path} is {given[name]!r}")
    return Alteration(model_type, architecture, parts)
