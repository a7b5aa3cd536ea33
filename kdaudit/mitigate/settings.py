"""What a comparison of mitigations is given: each option is declared here, once, and checked when built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError
from kdaudit.mitigate import METHODS, expand
from kdaudit.mitigate.base import PANEL, Method
from kdaudit.options import Option, problems_of, refuse, split_at_commas, split_gates, strip_each

if TYPE_CHECKING:
    from kdaudit.manifest import Manifest
    from kdaudit.verdict import Gate
else:
    Manifest = object  # the readers of records come with it: not at the top, so --help stays light

ATTACKED_BY = ("reference", "loss", "min-k")
"""The attacks on every student; verdicts rest on the first that can run."""
POINTS = 4
"""Copies of the plain student in every epoch: the fewest with which the stairs are fine enough."""
PLAIN = "plain"
CONTROL = "-control"


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--plain-epochs: '{text}' is not a list of whole numbers", hint="join them by commas: --plain-epochs 1,2,8"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class MitigateConfig:
    """Everything that decides a comparison of mitigations, as the user gave it."""

    # fmt: off
    distill: DistillConfig
    """The plain student. The folders and seeds of all students follow from `out` and its seed."""
    methods: Annotated[tuple[str, ...], Option(
        "A way to distil. Repeatable, or joined by commas. all means every one that --list-methods prints.",
        flag="--method", parse=split_at_commas)]
    out: Annotated[Path, Option(
        "The folder for every student and the table. The same command continues an unfinished comparison in it.")]
    repeated: Annotated[str | None, Option(
        "A student that `kdaudit distill` made. Every option that you do not give is taken from its manifest.",
        flag="--from", names="checkpoint")] = None
    gates: Annotated[tuple[str, ...], Option(
        "A limit such as 'student.auc <= 0.60' for every arm. The most useful arm that passes is recommended.",
        flag="--gate", variable="KDAUDIT_GATES", separator=";", parse=split_gates)] = ()
    seeds: Annotated[int, Option(
        "How often every arm is trained. With one training, no arm can be found to help.", least=1)] = 3
    frontier_points: Annotated[int, Option(
        "The copies of the plain student that are kept in every epoch, at least 4. Arms are held against them.",
        least=POINTS)] = POINTS
    plain_epochs: Annotated[tuple[int, ...] | None, Option(
        "The epochs of further, shorter plain runs, joined by commas, such as 1,2,8. Arms are held against them too. "
        "Default: about a quarter, half and three quarters of --epochs.",
        typed=str, parse=_whole_numbers, least=1)] = None
    vulnerability_attack: Annotated[str, Option(
        "The attack that says which members the teacher gives away.", PANEL)] = "reference"
    settings: Annotated[tuple[str, ...], Option(
        "A parameter of an attack, such as min-k.fraction=0.1. Repeatable. kdaudit attack --list-attacks lists all.",
        flag="--set", key="set", variable="KDAUDIT_SET", parse=strip_each)] = ()
    teacher_reference: Annotated[str | None, Option(
        "The checkpoint that the teacher started from. Default: the student's start, where it never saw the members.",
        PANEL, names="checkpoint")] = None
    strengths: Mapping[str, float] = field(default_factory=dict)
    """By the field of a method that has a strength; a method that is left out has its default."""
    repeats: Manifest | None = None
    """The manifest of the student whose settings were taken: it must have been distilled with the same records."""
    # fmt: on

    def __post_init__(self) -> None:
        """Check every field that can be checked without the models.

        Raises:
            ConfigError: lists every problem, each in a line of its own.
        """
        known = {method.field: method for method in METHODS.values() if method.strength}
        strengths = [f"no method has the strength '{name}'" for name in self.strengths if name not in known]
        for name, method in known.items():
            strengths += method.problems(self.strengths[name]) if name in self.strengths else []
        refuse([*problems_of(self), *strengths, *_contradictions(self, self.chosen)], "mitigate")
        from kdaudit.verdict.mitigation import problems_of_gates  # imports numpy: not at the top, so --help stays light

        if problems := [*problems_of_gates(self.parsed_gates(), ATTACKED_BY)]:
            raise ConfigError(
                "\n".join(problems), hint="a gate given by --gate replaces those in the configuration file"
            )
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

    def strength(self, method: Method) -> float | None:
        """How strongly a method is applied; None where it has no strength."""
        return self.strengths.get(method.field, method.strength.default) if method.strength else None

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """The seeds of the trainings. The records are split by the same seed in all of them."""
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
        settings = arm.method.settings(self.strength(arm.method))
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
        from kdaudit.verdict import parse_gate

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
    """The name of its folder too."""
    method: Method
    control_of: str | None = None
    """The arm for which this one does at random what that one does by choice."""


def _contradictions(config: MitigateConfig, methods: Sequence[Method]) -> Iterator[str]:
    from kdaudit.distill.start import origin

    if config.distill.epochs < 2:
        yield (
            f"--epochs: {config.distill.epochs} leaves no frontier: every method is compared with plain runs that "
            "ended earlier, so 2 are the least"
        )
    yield from _attack_problems(config)
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
    from kdaudit.attacks import ATTACKS, get_attack, read_settings

    run = dict.fromkeys((*ATTACKED_BY, config.vulnerability_attack))
    if idle := [name for name in read_settings(config.settings) if name not in run]:
        yield f"--set: {idle[0]} is not among the attacks of a comparison, which are {', '.join(run)}"
    chosen = get_attack(config.vulnerability_attack)
    if chosen.needs_shots:
        known = ", ".join(name for name, attack in ATTACKS.items() if not attack.needs_shots)
        yield f"--vulnerability-attack: {chosen.name} takes non-members out as shots; choose one of {known}"
