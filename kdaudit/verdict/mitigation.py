"""Gates on the arms of a comparison of mitigations, and which arm to take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from kdaudit.config import student_names
from kdaudit.results import GateResult, Validity
from kdaudit.results.mitigation import Arm, Mitigation, Student
from kdaudit.verdict.gates import DIFFERENCE, Gate
from kdaudit.verdict.rules import ALPHA, judge

SUBJECTS = ("student", "teacher", DIFFERENCE)


def problems_of_gates(gates: Sequence[Gate], attacks: Sequence[str]) -> Iterator[str]:
    """What speaks against gates that no arm could be judged by.

    Args:
        gates: as parsed.
        attacks: on the students.
    """
    for gate in gates:
        if gate.attack is not None and gate.attack not in attacks:
            yield f"gate '{gate}': the students are attacked by {', '.join(attacks)}, not by {gate.attack}"
        if gate.subject not in SUBJECTS:
            yield f"gate '{gate}': every student of an arm is judged as 'student'; there is no {gate.subject}"


def judge_arms(table: Mitigation, gates: Sequence[Gate]) -> Mitigation:
    """Hold every seed's student of every arm against the gates, and name the arm to take.

    One arm of several is chosen because it passes, so the upper bounds are of level 1 - 0.05/arms.

    Args:
        table: as measured.
        gates: on `student`, `teacher` or `difference`; none: no arm is gated or recommended.
    """
    gates = tuple(dict.fromkeys(gates))
    level = 1 - ALPHA / max(len(table.arms), 1)
    arms = {name: replace(arm, gates=_judged(arm, gates, table.validity, level)) for name, arm in table.arms.items()}
    config = {**table.config, "gates": [str(gate) for gate in gates]}
    return replace(table, arms=arms, config=config, recommended=_recommended(arms) if gates else None)


def _judged(arm: Arm, gates: Sequence[Gate], validity: Validity, level: float) -> tuple[GateResult, ...]:
    names = student_names(len(arm.students))
    each = [
        replace(gate, subject=name)
        for gate in gates
        for name in (names if gate.subject == "student" else [gate.subject])
    ]
    return judge(arm.attacks, validity, each, pass_level=level).gates


def _recommended(arms: dict[str, Arm]) -> str | None:
    """The arm of the lowest held-out loss, the mean over seeds, among those that pass every gate.

    Never a control, and never an arm that moves the risk: the gates are on all members together.
    """
    passing = [
        name
        for name, arm in arms.items()
        if arm.control_of is None
        and arm.finding != "moves the risk"
        and all(gate.status == "pass" for gate in arm.gates)
    ]
    return min(passing, key=lambda name: _mean_nll(arms[name].students), default=None)


def _mean_nll(students: Sequence[Student]) -> float:
    """Held-out, nats per token, the mean over seeds; infinite where a seed has none."""
    return float(np.mean([np.inf if student.nll.value is None else student.nll.value for student in students]))
