"""A result as JSON: its fixed layout, and reading it back with every key and type checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import numpy as np

from kdaudit.artefacts import write_text
from kdaudit.config import LONE, TEACHER
from kdaudit.errors import ConfigError
from kdaudit.foreign import check_regular
from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.metric import Metric
from kdaudit.results.audit import MODEL_NAME, AttackResult, AuditedModel, AuditResult, Cell, Comparison, Validity
from kdaudit.results.packed import packed, unpacked

SCHEMA = "kdaudit.results/1"
MAX_BYTES = (
    64 * 1024 * 1024
)  # ten attacks on three models took about 3 MB in earlier versions: more is another kind of file
MAX_DIGITS = 18  # of a whole number in the file: with more it is no count, and float() of it may overflow
NUMBERS: Mapping[Any, tuple[type, ...]] = {int: (int,), float: (int, float)}
"""What a number in the file may be by the type that it is read as."""
LINES = 3
"""Levels of the file that have a line for each key: the file, its attacks, and their models."""
HINT = "give the results.json of a run folder that `kdaudit attack` wrote"

# In these parts a field that holds its default is left out of the file, apart from the ones named.
ALWAYS_WRITTEN: Mapping[type, frozenset[str]] = {
    Estimate: frozenset({"value", "low", "high", "n", "m", "level", "method"}),
    Difference: frozenset({"value", "low", "high", "p_value", "p_value_holm", "n", "m", "level", "method"}),
    Cell: frozenset({"unscored"}),
    Comparison: frozenset(),
    AttackResult: frozenset(),
    AuditedModel: frozenset(
        {"name", "revision", "fingerprint", "weights_sha256", "architecture", "n_parameters", "stored_dtype", "context"}
        | {"load", "base", "reference"}
    ),
    Validity: frozenset(part.name for part in fields(Validity)) - {"blind_learnt_from"},
}


def to_json(result: AuditResult) -> dict[str, Any]:
    """The result in the fixed layout of its file: dicts, lists, strings, booleans, finite numbers and None.

    Raises:
        ValueError: a number is NaN or infinite; the message says which.
    """
    layout = {"schema": SCHEMA, **encode(result, "result")}
    layout["attacks"] = {name: _flatten(attack) for name, attack in layout["attacks"].items()}
    return layout


def save(result: AuditResult, path: Path) -> None:
    """Write the result; a reader finds the old file or the whole new one, and equal results give equal bytes.

    Long rows of numbers are packed (`results.packed`), and what stands inside a cell stands on one line.

    Raises:
        OutputError: the file cannot be written.
        DiskFullError: no space is left; an older file is still whole.
    """
    write_text(path, _lines(packed(to_json(result)), depth=LINES) + "\n")


def load(path: Path) -> AuditResult:
    """Read a result that `save` wrote.

    Raises:
        ConfigError: the file cannot be read, is too large, is no JSON, or holds no result of this schema.
    """
    return from_json(parse(path, kind="results", hint=HINT), source=str(path))


def parse(path: Path, *, kind: str, hint: str) -> object:
    """The JSON of a file of ours: of bounded size, without NaN or numbers out of range.

    Args:
        path: the file.
        kind: what it should be, for messages: `results`.
        hint: what to give instead.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not such JSON.
    """
    try:
        check_regular(path)
        n_bytes = path.stat().st_size
        if n_bytes > MAX_BYTES:
            raise ConfigError(f"{path}: too large for a {kind} file: {n_bytes} bytes, at most {MAX_BYTES}", hint=hint)
        text = path.read_text(encoding="utf-8")
        layout: object = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint=hint) from error
    except (ValueError, RecursionError) as error:  # broken JSON, invalid UTF-8, NaN, nested without end
        raise ConfigError(f"{path}: not a {kind} file: {error}", hint=hint) from error
    return layout


def from_json(layout: object, *, source: str = "results") -> AuditResult:
    """The result that `to_json` laid out; keys that this version does not know are ignored.

    Args:
        layout: what a JSON parser gave.
        source: the file, for messages.

    Raises:
        ConfigError: the schema is another one, a key is missing, or a value is of the wrong kind.
    """
    try:
        return _audit_result(_object(layout, "the file"))
    except ValueError as error:
        raise ConfigError(f"{source}: {error}", hint=HINT) from error


def decode(kind: Any, value: object, where: str) -> Any:
    """`value`, parsed JSON, as the annotated type `kind`, one of those that the parts of a result use.

    Raises:
        ValueError: a key is missing or a value is of another kind; the message begins with `where`.
    """
    origin, of = get_origin(kind), get_args(kind)
    if type(None) in of:
        return None if value is None else decode(of[0], value, where)
    if origin is tuple:
        items = _unpacked(value, where) if isinstance(value, str) else _checked(value, list, where)
        if of[0] in NUMBERS and all(type(item) in NUMBERS[of[0]] for item in items):  # thousands of them: all at once
            return tuple(map(of[0], items))
        return tuple(decode(of[0], item, f"{where}[{position}]") for position, item in enumerate(items))
    if origin is Mapping:
        return {key: decode(of[1], item, f"{where}.{key}") for key, item in _object(value, where).items()}
    if origin is Literal:
        if value not in of:
            raise ValueError(f"{where} is {value!r:.40}, not one of {', '.join(of)}")
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**_field_values(kind, _object(value, where), where))
    if kind is Any:
        return value
    return float(_checked(value, int | float, where)) if kind is float else _checked(value, kind, where)


def _audit_result(top: dict[str, Any]) -> AuditResult:
    if (schema := _item(top, "schema", "")) != SCHEMA:
        raise ValueError(f"its schema is {schema!r}, and this version of kdaudit reads {SCHEMA!r}")
    models = [name for name in _object(_item(top, "models", ""), "models") if MODEL_NAME.fullmatch(name)]
    if TEACHER not in models and models != [LONE]:
        raise ValueError("models.teacher is missing")
    if LONE in models and len(models) > 1:
        raise ValueError(f"models.{LONE} is audited alone, and there are others")
    attacks = {
        name: _unflatten(attack, models, f"attacks.{name}")
        for name, attack in _object(_item(top, "attacks", ""), "attacks").items()
    }
    return AuditResult(attacks=attacks, **_field_values(AuditResult, top, "", without="attacks"))


def _flatten(attack: dict[str, Any]) -> dict[str, Any]:
    """The cells of an attack stand beside its other keys, not one level down."""
    cells = attack.pop("cells")
    return {"version": attack.pop("version"), "requested": attack.pop("requested"), **cells, **attack}


def _unflatten(raw: object, models: list[str], where: str) -> AttackResult:
    attack = _object(raw, where)
    cells = {model: decode(Cell, _item(attack, model, where), f"{where}.{model}") for model in models}
    return AttackResult(cells=cells, **_field_values(AttackResult, attack, where, without="cells"))


def encode(value: Any, where: str) -> Any:
    """`value`, a dataclass or what its fields may hold, as dicts, lists, strings, booleans, finite numbers and None.

    Raises:
        ValueError: a number is NaN or infinite; the message begins with its place under `where`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}: a number that is missing must be None")
    if isinstance(value, Mapping):
        return {key: encode(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        if all(type(item) is int or (type(item) is float and math.isfinite(item)) for item in value):
            return list(value)
        return [encode(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if not is_dataclass(value):
        return value
    always = ALWAYS_WRITTEN.get(type(value))
    layout: dict[str, Any] = {}
    for part in fields(value):
        found = getattr(value, part.name)
        if kind := part.metadata.get("by_metric"):
            layout |= _by_keys({name: encode(figure, f"{where}.{name}") for name, figure in found.items()}, kind)
        elif always is None or part.name in always or found != _default(part):
            layout[part.name] = encode(found, f"{where}.{part.name}")
    return layout


def _keys(metric: Metric, kind: str) -> tuple[str, ...]:
    """Where a figure stands: tpr@0.01 at tpr_at_fpr, then 0.01; its change at tpr_change, then 0.01."""
    if kind == "level":
        return metric.keys
    return f"{metric.group or metric.name}_change", *metric.keys[1:]


def _by_keys(by_metric: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What stands under the names of metrics, at the keys of each."""
    layout: dict[str, Any] = {}
    for name, metric in METRICS.items():
        if name in by_metric:
            *outer, last = _keys(metric, kind)
            place = layout
            for key in outer:
                place = place.setdefault(key, {})
            place[last] = by_metric[name]
    return layout


def _by_name(layout: Mapping[str, Any], kind: str, where: str) -> dict[str, tuple[Any, str]]:
    """What stands at the keys of metrics, by their names, each with its place for messages."""
    found = {}
    for name, metric in METRICS.items():
        *outer, last = _keys(metric, kind)
        place, here = layout, where
        for key in outer:
            here = _join(here, key)
            place = _object(place.get(key, {}), here)
        if place.get(last) is not None:
            found[name] = (place[last], _join(here, last))
    return found


def _field_values(kind: type, raw: Mapping[str, Any], where: str, *, without: str = "") -> dict[str, Any]:
    """Arguments for the dataclass `kind`: a field without a default must be there, another key is ignored."""
    values: dict[str, Any] = {}
    for name, (hint, is_required, by_metric) in _schema(kind).items():
        if by_metric:
            figure = get_args(hint)[1]
            values[name] = {metric: decode(figure, *found) for metric, found in _by_name(raw, by_metric, where).items()}
        elif name != without and (is_required or name in raw):
            values[name] = decode(hint, _item(raw, name, where), _join(where, name))
    return values


@cache
def _schema(kind: type) -> dict[str, tuple[Any, bool, str]]:
    """Each field's type, whether a file must hold it, and whether its entries stand at the keys of their metrics."""
    hints = get_type_hints(kind)
    return {
        part.name: (hints[part.name], _default(part) is MISSING, part.metadata.get("by_metric", ""))
        for part in fields(kind)
    }


def _default(part: Field[Any]) -> Any:
    return part.default if part.default_factory is MISSING else part.default_factory()


def _unpacked(text: str, where: str) -> list[Any]:
    try:
        return [*unpacked(text)]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _lines(value: object, *, depth: int, indent: str = "  ") -> str:
    """JSON whose objects stand on lines of their own down to a depth."""
    if not isinstance(value, dict) or not value or not depth:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    within = (
        f"{indent}{json.dumps(key)}: {_lines(one, depth=depth - 1, indent=f'{indent}  ')}" for key, one in value.items()
    )
    return "{\n" + ",\n".join(within) + f"\n{indent[2:]}}}"


def _item(raw: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in raw:
        raise ValueError(f"{_join(where, key)} is missing")
    return raw[key]


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object but {value!r:.40}")
    return value


def _checked(value: object, kind: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where} is {value!r:.40}, not of type {getattr(kind, '__name__', 'float')}")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"{digits} is out of range")
    return float(digits)


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"{digits[:MAX_DIGITS]}… is out of range")
    return int(digits)
