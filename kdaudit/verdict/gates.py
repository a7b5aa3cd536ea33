"""What a gate is and how it is written: `SUBJECT.METRIC[ATTACK] <= LIMIT`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kdaudit.attacks import ATTACKS
from kdaudit.config import LONE, TEACHER
from kdaudit.errors import ConfigError, did_you_mean
from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import SHARE, Range
from kdaudit.metrics.metric import Metric
from kdaudit.results import MODEL_NAME

DIFFERENCE = "difference"
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
    """The name of one of METRICS."""
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
        return f"{self.metric}{'-baseline' if self.since_baseline else ''}"

    @property
    def range(self) -> Range:
        """The least and the largest value of what is held against the limit."""
        metric = METRICS[self.metric]
        return metric.difference_range if self.subject == DIFFERENCE or self.since_baseline else metric.range


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
        raise ConfigError(
            f"gate '{squeezed[:50]}…': {len(squeezed):,} characters are too many for a gate", hint=EXAMPLE
        )
    text = text if len(text) <= MAX_CHARACTERS else squeezed  # a run of spaces makes the pattern slow
    match = _GATE.fullmatch(text)
    if match is None:
        hint = "`kdaudit report --baseline RUN` adds the gates on a baseline" if "-baseline" in text else EXAMPLE
        raise ConfigError(f"gate '{text}': not understood", hint=hint)
    subject, written, at, attack, operator, limit = match.groups()
    _check_subject(text, subject)
    metric = _metric(text, subject, written, at)
    if attack is not None and attack not in ATTACKS:
        hint = "leave [...] out to gate every attack of the run" if attack in ("", "all", "paper") else ""
        raise ConfigError(f"gate '{text}': unknown attack '{attack}'", hint=hint or did_you_mean(attack, ATTACKS))
    if operator != "<=":
        raise ConfigError(f"gate '{text}': operator '{operator}'", hint="a gate sets an upper limit: write <=")
    return Gate(subject, metric.name, attack, _limit(text, subject, metric, limit))


def check_gates(gates: Iterable[Gate], *, models: Sequence[str], attacks: Sequence[str]) -> None:
    """Refuse a gate on a model or an attack that is not part of the run, where it could never be judged.

    Args:
        gates: as parsed.
        models: audited models: teacher, student, student-2; or model alone.
        attacks: attacks of the run.

    Raises:
        ConfigError: names the gate and what the run has.
    """
    for gate in gates:
        if gate.subject != DIFFERENCE and gate.subject not in models:
            raise ConfigError(f"gate '{gate}': the run has no {gate.subject}", hint=f"it has: {', '.join(models)}")
        if gate.subject == DIFFERENCE and TEACHER not in models:
            hint = f"gate it on {models[0]}; --teacher and --student in place of --{LONE} compare two"
            raise ConfigError(f"gate '{gate}': the run audits one model alone, so there is no difference", hint=hint)
        if gate.subject == DIFFERENCE and not {*models} - {TEACHER}:
            raise ConfigError(f"gate '{gate}': the run has no student to compare with the teacher")
        if gate.attack is not None and gate.attack not in attacks:
            hint = f"add --attack {gate.attack}; the run has: {', '.join(attacks)}"
            raise ConfigError(f"gate '{gate}': the run has no attack '{gate.attack}'", hint=hint)


def _check_subject(text: str, subject: str) -> None:
    if subject != DIFFERENCE and not MODEL_NAME.fullmatch(subject):
        near = did_you_mean(subject, (TEACHER, "student", "student-2", LONE, DIFFERENCE))
        raise ConfigError(f"gate '{text}': unknown subject '{subject}'", hint=near)


def _metric(text: str, subject: str, written: str, at: str | None) -> Metric:
    """The metric that `written`, with what stands behind its @, names; a number may be written in any way."""
    gateable = [name for name, metric in METRICS.items() if not metric.not_gated]
    with_at = {name.partition("@")[0] for name in METRICS if "@" in name}
    if written in with_at:
        choices = [name for name in gateable if name.startswith(f"{written}@")]
        is_number = at is not None and _NUMBER.fullmatch(at) is not None
        found = next((name for name in choices if is_number and float(name.partition("@")[2]) == float(at or 0)), None)
        if found is None:
            problem = f"{written}@{at} is not measured" if at else f"{written} without a false positive rate"
            raise ConfigError(f"gate '{text}': {problem}", hint=f"write one of {', '.join(choices)}")
        metric = METRICS[found]
    elif written not in METRICS:
        headlines = [name for name in gateable if METRICS[name].is_headline or not METRICS[name].group]
        one_of_each = {METRICS[name].group or name: name for name in reversed(headlines)}
        hint = did_you_mean(written, [*reversed(one_of_each.values())])
        raise ConfigError(f"gate '{text}': unknown metric '{written}'", hint=hint)
    else:
        metric = METRICS[written]
        if at is not None:
            choices = [name for name in gateable if "@" in name]
            hint = f"only {', '.join(sorted(with_at))} does: {', '.join(choices)}"
            raise ConfigError(f"gate '{text}': {written} takes no @{at}", hint=hint)
    if metric.not_gated:
        raise ConfigError(f"gate '{text}': {metric.name} cannot be gated by itself", hint=metric.not_gated)
    if subject == DIFFERENCE and not metric.has_difference:
        hint = "gate it on a model: student or teacher"
        raise ConfigError(f"gate '{text}': no difference of {metric.name} is measured", hint=hint)
    return metric


def _limit(text: str, subject: str, metric: Metric, written: str) -> float:
    if not _NUMBER.fullmatch(written):
        hint = "write a share between 0 and 1: 0.6, not 60%" if written.endswith("%") else EXAMPLE
        raise ConfigError(f"gate '{text}': the limit '{written}' is not a number", hint=hint)
    limit, (lowest, highest) = float(written), metric.difference_range if subject == DIFFERENCE else metric.range
    if not (lowest <= limit <= highest and math.isfinite(limit)):
        ends = f"between {lowest:g} and {highest:g}" if math.isfinite(highest) else f"at {lowest:g} or above"
        of = "" if metric.range == SHARE else f"{metric.name} of "
        raise ConfigError(
            f"gate '{text}': the limit {written} is out of range", hint=f"a limit on {of}{subject} lies {ends}"
        )
    return limit
