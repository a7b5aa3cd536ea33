"""Gates, and what the measured intervals say about them: pass, fail, inconclusive, not gated."""

from kdaudit.verdict.gates import Gate, check_gates, parse_gate
from kdaudit.verdict.rules import exit_code, judge

__all__ = ["Gate", "check_gates", "exit_code", "judge", "parse_gate"]
