"""What an audit found: the only thing that later stages read, and its file."""

from kdaudit.results.file import SCHEMA, from_json, load, save, to_json
from kdaudit.results.parts import (
    MODEL_NAME,
    AttackResult,
    AuditResult,
    Cell,
    CellFinding,
    Comparison,
    Curve,
    GateResult,
    Histogram,
    PaperCompat,
    TwoByTwo,
    Validity,
    Verdict,
)

__all__ = [
    "MODEL_NAME",
    "SCHEMA",
    "AttackResult",
    "AuditResult",
    "Cell",
    "CellFinding",
    "Comparison",
    "Curve",
    "GateResult",
    "Histogram",
    "PaperCompat",
    "TwoByTwo",
    "Validity",
    "Verdict",
    "from_json",
    "load",
    "save",
    "to_json",
]
