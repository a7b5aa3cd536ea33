"""Waived gates: a known failure that does not fail the run until a date, and stays visible."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from kdaudit.errors import ConfigError, did_you_mean
from kdaudit.results import GateResult, Verdict
from kdaudit.verdict.gates import parse_gate
from kdaudit.verdict.rules import conclude
from kdaudit.waivers import Waiver


def waivers_by_gate(waivers: Sequence[Waiver], gates: Collection[str]) -> dict[str, Waiver]:
    """The waivers by gate in its normal form.

    Args:
        waivers: as declared.
        gates: in their normal form: those that are judged, and those that the waivers' own file declares.

    Raises:
        ConfigError: a waiver names none of the gates, or one that another waiver names.
    """
    found: dict[str, Waiver] = {}
    for waiver in waivers:
        gate = "".join(waiver.gate.split())
        if gate not in gates:
            gate = str(parse_gate(waiver.gate))
        if gate not in gates:
            hint = did_you_mean(gate, gates, otherwise=f"gates: {', '.join(gates) or 'none'}")
            raise ConfigError(f"{waiver}: no such gate is judged", hint=hint)
        if gate in found:
            raise ConfigError(f"{waiver}: line {found[gate].line} waives the same gate", hint="remove one of the two")
        found[gate] = waiver
    return found


def waive(verdict: Verdict, waivers: Mapping[str, Waiver]) -> Verdict:
    """The verdict with the failure of every waived gate set aside; the gate itself stays, and says so.

    Only a failure is set aside: what was not measured well enough cannot be accepted.

    Args:
        verdict: as judged.
        waivers: by gate in its normal form.
    """
    gates = [
        _waived(gate, waivers[gate.gate]) if gate.status == "fail" and gate.gate in waivers else gate
        for gate in verdict.gates
    ]
    return conclude(gates, verdict.n_cells) if gates else verdict


def _waived(gate: GateResult, waiver: Waiver) -> GateResult:
    return replace(gate, status="waived", reason=f"{gate.reason}; waived until {waiver.expires}: {waiver.reason}")
