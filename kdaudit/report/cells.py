"""Every figure of a report as CSV, one row each, with all its digits."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.report.reading import Report
from kdaudit.report.text import plain
from kdaudit.results import AuditResult, Cell, Comparison, GateResult, TwoByTwo
from kdaudit.results.mitigation import Mitigation

COLUMNS = (
    *("run", "part", "attack", "model", "metric", "value", "low", "high", "level", "n", "m"),
    *("p_value", "p_value_holm", "method", "status", "reason"),
)
PARTS = {"cells": "level", "comparison": "difference"}
"""What stands under an attack: a model's figure, and a student's minus the teacher's."""
FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet would compute where a text begins with it."""


def render_levels(subject: Report | Mitigation) -> str:
    """As `render_csv`, the levels and differences of every attack alone: what a page has room for."""
    return _written(subject, frozenset(PARTS.values()))


def render_csv(subject: Report | Mitigation) -> str:
    """All figures of an audit or a comparison of mitigations: numbers as Python prints them, an empty cell for none."""
    return _written(subject, None)


def _written(subject: Report | Mitigation, parts: frozenset[str] | None) -> str:
    """As CSV; of some parts alone, unless that is None."""
    written = io.StringIO()
    table = csv.DictWriter(written, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    runs = [("", subject)] if isinstance(subject, Mitigation) else [(run.name, run.result) for run in subject.runs]
    for name, found in runs:
        table.writerows(
            {"run": _text(name), **row} for row in _rows(found) if parts is None or row.get("part") in parts
        )
    return written.getvalue()


def _rows(found: AuditResult | Mitigation) -> Iterator[dict[str, Any]]:
    for place, figure in _figures(found):
        where = _where(place)
        if isinstance(figure, GateResult):
            yield where | _gate(figure)
        elif isinstance(figure, TwoByTwo):
            counts = {part.name: getattr(figure, part.name) for part in fields(figure)}
            n = sum(counts.values())
            yield from (
                where | {"metric": f"{where['metric']}.{name}", "value": k, "n": n} for name, k in counts.items()
            )
        elif isinstance(figure, Estimate | Difference):
            yield where | {
                name: _cell(getattr(figure, name, None))
                for name in ("value", "low", "high", "level", "n", "m", "p_value", "p_value_holm", "method", "reason")
            }
        elif isinstance(figure, Cell | Comparison):
            yield where | {"status": figure.status, "reason": _text(figure.reason)}
        else:
            yield where | {"value": figure}


def _where(place: tuple[str, ...]) -> dict[str, Any]:
    """The columns that say what a figure is about, of its place in the result."""
    match place:
        case ("attacks", attack, "cells" | "comparison" as part, model, "figures", metric):
            found = (PARTS[part], attack, model, metric)
        case ("attacks", attack, "cells", model, "nulls", null, metric):
            found = (f"above {null}", attack, model, metric)
        case ("attacks", attack, "settings", *rest):
            found = ("settings", attack, "", ".".join(rest))
        case ("attacks", attack, part, *rest):
            found = (PARTS.get(part, part), attack, rest[0] if rest else "", ".".join(rest[1:]))
        case ("strongest", model, *rest):
            found = ("strongest", "", model, ".".join(rest))
        case ("models", model, *rest):
            found = ("models", "", model, ".".join(rest))
        case ("validity", "reference_alone", model, attack):
            found = ("reference alone", attack, model, "auc")
        case (part, *rest):
            found = (part, "", "", ".".join(rest))
        case _:
            found = ("", "", "", "")
    return dict(zip(("part", "attack", "model", "metric"), map(_text, found), strict=True))


def _gate(gate: GateResult) -> dict[str, Any]:
    """A gate with the bound that settled it: below it where the lower one did, else above it."""
    side = {"lower": "low", "upper": "high"}.get(gate.bound_side or "")
    return {
        "part": "gate",
        "attack": _text(gate.deciding_attack or ""),
        "model": _text(gate.subject),
        "metric": _text(gate.gate),
        "value": _cell(gate.value),
        **({side: _cell(gate.bound)} if side else {}),
        "level": _cell(gate.level),
        "status": gate.status,
        "reason": _text(gate.reason),
    }


CHARTS = {"curves", "histograms", "config"}
"""Parts of a result that are drawn, or hold no figure."""


def _figures(found: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every figure with the names of what it stands in."""
    is_absent = isinstance(found, Cell | Comparison) and found.status == "not_applicable"
    if is_absent or isinstance(found, Estimate | Difference | TwoByTwo | GateResult):
        yield place, found
    elif is_dataclass(found):
        for part in fields(found):
            if part.name not in CHARTS:
                yield from _figures(getattr(found, part.name), (*place, part.name))
    elif isinstance(found, Mapping):
        for name, one in found.items():
            yield from _figures(one, (*place, str(name)))
    elif isinstance(found, list | tuple):
        for number, one in enumerate(found, start=1):
            yield from _figures(one, (*place, str(number)))
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield place, found


def _cell(value: Any) -> Any:
    return "" if value is None else _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """One line; a text that a spreadsheet would compute begins with an apostrophe."""
    shown = plain(value)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
