"""What a gate is and how it is written: `SUBJECT.METRIC[ATTACK] <= LIMIT`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kdaudit.attacks import ATTACKS
from kdaudit.errors import ConfigError, did_you_mean
from kdaudit.results import MODEL_NAME

METRICS = ("auc", "tpr", "balanced_accuracy")
FPRS = (0.001, 0.01, 0.1)
DIFFERENCE = "difference"
SUCCESSES = ("member_success", "nonmember_success")
EXAMPLE = "write SUBJECT.METRIC[ATTACK] <= LIMIT, for example 'student.auc <= 0.6' or 'student.tpr@0.01[loss] <= 0.05'"

MAX_CHARACTERS = 200

_GATE = re.compile(
    r"\s*(?P<subject>[\w-]+)\s*\.\s*(?P<metric>\w+)\s*(?:@\s*(?P<fpr>[^\s\[<>=!≤]+)\s*)?"
    r"(?:\[\s*(?P<attack>[^\[\]]*?)\s*\]\s*)?(?P<operator>[<>=!≤≥]+)\s*(?P<limit>.*?)\s*"
)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit that a metric must not exceed, for one attack or for every attack of the run."""

    subject: str
    """A model's name, or `difference`: every student minus the teacher."""
    metric: str
    """One of METRICS."""
    fpr: float | None
    """One of FPRS for the metric `tpr`, else None."""
    attack: str | None
    """None: every attack of the run."""
    limit: float
    since_baseline: bool = False
    """The limit is on the rise of the metric since an earlier run; no text stands for such a gate in a command."""

    def __str__(self) -> str:
        attack = "" if self.attack is None else f"[{self.attack}]"
        return f"{self.subject}.{self.figure}{attack}<={format_limit(self.limit)}"

    @property
    def figure(self) -> str:
        """What is held against the limit: auc, tpr@0.01, auc-baseline."""
        fpr = "" if self.fpr is None else f"@{self.fpr:g}"
        return f"{self.metric}{fpr}{'-baseline' if self.since_baseline else ''}"


def format_limit(limit: float) -> str:
    """The shortest text that reads back as `limit`: 0.6, 1, 0."""
    return repr(limit + 0.0).removesuffix(".0")  # plus 0: -0.0 is 0


def parse_gate(text: str) -> Gate:
    """Read one gate; spaces are free.

    Raises:
        ConfigError: it does not follow the grammar, or names what kdaudit does not know; the hint says what to write.
    """
    squeezed = " ".join(text.split())
    if len(squeezed) > MAX_CHARACTERS:
        raise ConfigError(f"gate '{squeezed[:50]}…': {len(squeezed):,} characters are no gate", hint=EXAMPLE)
    text = text if len(text) <= MAX_CHARACTERS else squeezed  # a run of spaces makes the pattern slow
    match = _GATE.fullmatch(text)
    if match is None:
        hint = "`kdaudit report --baseline RUN` adds the gates on a baseline" if "-baseline" in text else EXAMPLE
        raise ConfigError(f"gate '{text}': not understood", hint=hint)
    subject, metric, fpr, attack, operator, limit = match.groups()
    _check_subject(text, subject)
    _check_metric(text, metric)
    if attack is not None and attack not in ATTACKS:
        hint = "leave [...] out to gate every attack of the run" if attack in ("", "all", "paper") else ""
        raise ConfigError(f"gate '{text}': unknown attack '{attack}'", hint=hint or did_you_mean(attack, ATTACKS))
    if operator != "<=":
        raise ConfigError(f"gate '{text}': operator '{operator}'", hint="a gate sets an upper limit: write <=")
    return Gate(subject, metric, _fpr(text, metric, fpr), attack, _limit(text, subject, limit))


def check_gates(gates: Iterable[Gate], *, models: Sequence[str], attacks: Sequence[str]) -> None:
    """Refuse a gate on a model or an attack that is not part of the run, where it could never be judged.

    Args:
        gates: as parsed.
        models: audited models: teacher, student, student-2.
        attacks: attacks of the run.

    Raises:
        ConfigError: names the gate and what the run has.
    """
    for gate in gates:
        if gate.subject != DIFFERENCE and gate.subject not in models:
            raise ConfigError(f"gate '{gate}': the run has no {gate.subject}", hint=f"it has: {', '.join(models)}")
        if gate.subject == DIFFERENCE and not {*models} - {"teacher"}:
            raise ConfigError(f"gate '{gate}': the run has no student to compare with the teacher")
        if gate.attack is not None and gate.attack not in attacks:
            hint = f"add --attack {gate.attack}; the run has: {', '.join(attacks)}"
            raise ConfigError(f"gate '{gate}': the run has no attack '{gate.attack}'", hint=hint)


def _check_subject(text: str, subject: str) -> None:
    if subject != DIFFERENCE and not MODEL_NAME.fullmatch(subject):
        near = did_you_mean(subject, ("teacher", "student", "student-2", DIFFERENCE))
        raise ConfigError(f"gate '{text}': unknown subject '{subject}'", hint=near)


def _check_metric(text: str, metric: str) -> None:
    if metric in SUCCESSES:
        hint = "gate balanced_accuracy: one success alone rises with a mere shift of the threshold"
        raise ConfigError(f"gate '{text}': {metric} cannot be gated by itself", hint=hint)
    if metric not in METRICS:
        raise ConfigError(
            f"gate '{text}': unknown metric '{metric}'",
            hint=did_you_mean(metric, ("auc", "tpr@0.01", "balanced_accuracy")),
        )


def _fpr(text: str, metric: str, written: str | None) -> float | None:
    choices = ", ".join(f"tpr@{fpr:g}" for fpr in FPRS)
    if metric != "tpr":
        if written is not None:
            raise ConfigError(f"gate '{text}': {metric} takes no @{written}", hint=f"only tpr does: {choices}")
        return None
    if written is None or not _NUMBER.fullmatch(written) or float(written) not in FPRS:
        problem = f"tpr@{written} is not measured" if written else "tpr without a false positive rate"
        raise ConfigError(f"gate '{text}': {problem}", hint=f"write one of {choices}")
    return float(written)


def _limit(text: str, subject: str, written: str) -> float:
    if not _NUMBER.fullmatch(written):
        hint = "write a share between 0 and 1: 0.6, not 60%" if written.endswith("%") else EXAMPLE
        raise ConfigError(f"gate '{text}': the limit '{written}' is not a number", hint=hint)
    limit, lowest = float(written), -1 if subject == DIFFERENCE else 0
    if not lowest <= limit <= 1:
        hint = f"a limit on {subject} lies between {lowest} and 1"
        raise ConfigError(f"gate '{text}': the limit {written} is out of range", hint=hint)
    return limit
