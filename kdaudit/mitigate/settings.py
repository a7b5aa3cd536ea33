"""What a comparison of mitigations is given: one frozen dataclass, checked when built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdaudit.attacks import ATTACKS, get_attack
from kdaudit.distill.settings import DistillConfig
from kdaudit.distill.start import origin
from kdaudit.errors import ConfigError
from kdaudit.manifest import Manifest
from kdaudit.mitigate import expand
from kdaudit.mitigate.base import Method, Strength
from kdaudit.verdict import Gate, parse_gate
from kdaudit.verdict.arms import problems_of_gates

SEEDS = 3
ATTACKED_BY = ("reference", "loss", "min-k")
"""The attacks on every student; verdicts rest on the first that can run."""
VULNERABILITY_ATTACK = "reference"
POINTS = 4
"""Copies of the plain student in every epoch: the fewest with which the stairs are fine enough."""
PLAIN = "plain"
CONTROL = "-control"
HINT = "kdaudit mitigate --help lists the options"


@dataclass(frozen=True, slots=True, kw_only=True)
class MitigateConfig:
    """Everything that decides a comparison of mitigations, as the user gave it."""

    distill: DistillConfig
    """Of the plain student; folders and seeds of all students follow from `out` and its seed."""
    out: Path
    methods: tuple[str, ...]
    strength: Strength = field(default_factory=Strength)
    seeds: int = SEEDS
    frontier_points: int = POINTS
    """Copies of the plain student in every epoch, each a point of the frontier."""
    plain_epochs: tuple[int, ...] | None = None
    """Epochs of the further plain runs; None: about a quarter, half and three quarters of the plain run's."""
    gates: tuple[str, ...] = ()
    vulnerability_attack: str = VULNERABILITY_ATTACK
    teacher_reference: str | None = None
    """What the teacher started from; None: the student's start, where it may serve as a reference."""
    repeats: Manifest | None = None
    """Of the student whose settings were taken: the records must still be those that it was distilled with."""

    def __post_init__(self) -> None:
        """Check every field that can be checked without the models.

        Raises:
            ConfigError: lists every problem, one a line.
        """
        problems = [*_problems(self)]
        if problems:
            raise ConfigError("\n".join(problems), hint=HINT)
        if problems := [*problems_of_gates(self.parsed_gates(), ATTACKED_BY)]:
            raise ConfigError("\n".join(problems), hint="--gate takes the place of those in a configuration file")
        for arm in self.arms:
            _ = self.student(arm, self.distill.seed)

    @property
    def arms(self) -> tuple[ArmPlan, ...]:
        """All arms but the plain run, in report order; early stopping is the plain run and no arm of its own."""
        found: list[ArmPlan] = []
        for method in self.chosen:
            if not method.is_plain:
                found.append(ArmPlan(method.name, method))
            if method.select:
                found.append(ArmPlan(f"{method.name}{CONTROL}", method, control_of=method.name))
        return tuple(found)

    @property
    def chosen(self) -> tuple[Method, ...]:
        """The methods, in report order."""
        return expand(self.methods)

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """Of the trainings; the records are split by the same seed in all of them."""
        return tuple(range(self.distill.seed, self.distill.seed + self.seeds))

    @property
    def further(self) -> tuple[int, ...]:
        """Epochs of the further plain runs, rising.

        Inside a run the learning rate is still high: a shorter run whose rate comes down with its own end is often more
        useful at the same leak, and belongs to the frontier.
        """
        epochs = self.distill.epochs
        chosen = self.plain_epochs
        if chosen is None:
            chosen = tuple(max(1, round(share * epochs)) for share in (0.25, 0.5, 0.75))
        return tuple(sorted({*chosen} - {epochs}))

    def plain(self, seed: int) -> DistillConfig:
        """The plain student of a seed, with copies of it inside every epoch."""
        return self._of(PLAIN, seed, {"copies_per_epoch": self.frontier_points})

    def further_plain(self, epochs: int, seed: int) -> DistillConfig:
        """A further plain student, of another number of epochs."""
        return self._of(further_name(epochs), seed, {"epochs": epochs})

    def student(self, arm: ArmPlan, seed: int) -> DistillConfig:
        """An arm's student of a seed, but for a changed start.

        Raises:
            ConfigError: what the arm sets contradicts the plain run, or is what the plain run does already.
        """
        settings = arm.method.settings(self.strength)
        try:
            changed = self._of(arm.name, seed, settings)
        except ConfigError as error:
            raise ConfigError(f"--method {arm.name}: {error}", hint="leave the method or the option out") from error
        if settings and changed.identity() == self._of(arm.name, seed, {}).identity():
            raise ConfigError(
                f"--method {arm.name}: the plain run does that already",
                hint="leave the method out, or the option that makes the plain run so",
            )
        return changed

    def parsed_gates(self) -> tuple[Gate, ...]:
        """The gates, each on `student`, `teacher` or `difference`."""
        return tuple(parse_gate(text) for text in self.gates)

    def _of(self, name: str, seed: int, changes: Mapping[str, Any]) -> DistillConfig:
        return replace(
            self.distill,
            **{"copies_per_epoch": 0, **changes},
            out=self.out / name / f"seed-{seed}",
            seed=seed,
            split_seed=self.distill.records_seed,
            resume=None,
            overwrite=False,
        )


def further_name(epochs: int) -> str:
    """The arm, and the folder, of a further plain run."""
    return f"{PLAIN}-{epochs}"


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One way to distil, apart from the plain one."""

    name: str
    """Also of its folder."""
    method: Method
    control_of: str | None = None
    """The arm for which this one does at random what that one does by choice."""


def _problems(config: MitigateConfig) -> Iterator[str]:
    if config.seeds < 1:
        yield f"--seeds: {config.seeds} is too small, the least is 1"
    if config.frontier_points < POINTS:
        yield f"--frontier-points: {config.frontier_points} is too small, the least is {POINTS}"
    if config.distill.epochs < 2:
        yield (
            f"--epochs: {config.distill.epochs} leaves no frontier: every method is compared with plain runs that "
            "ended earlier, so 2 are the least"
        )
    if config.plain_epochs is not None and min(config.plain_epochs, default=1) < 1:
        yield f"--plain-epochs: {min(config.plain_epochs)} is too small, the least is 1"
    yield from _attack_problems(config)
    methods = expand(config.methods)
    operating = [method.name for method in methods if method.operate]
    if operating and origin(config.distill) != "checkpoint":
        yield f"--method {operating[0]}: it changes the student's start, which must be given as a checkpoint: --student"
    if operating and config.distill.student_load:
        yield f"--method {operating[0]}: a quantised start cannot be changed; leave --student-load out"
    selecting = [method.name for method in methods if method.select]
    if selecting and config.distill.teacher_saw in {"train", "unknown"}:
        yield (
            f"--method {selecting[0]}: held-out records may be members of the teacher (--teacher-saw "
            f"{config.distill.teacher_saw}), so nobody can tell which members it gives away; give --nonmembers FILE"
        )


def _attack_problems(config: MitigateConfig) -> Iterator[str]:
    chosen = get_attack(config.vulnerability_attack)
    if chosen.needs_shots:
        known = ", ".join(name for name, attack in ATTACKS.items() if not attack.needs_shots)
        yield f"--vulnerability-attack: {chosen.name} takes non-members out as shots; choose one of {known}"
