"""A comparison of mitigations, stage by stage: plain students, arms, scores, table. Continues where it stopped."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from kdaudit import lock, manifest
from kdaudit.artefacts import writing
from kdaudit.dates import today
from kdaudit.distill.folder import StudentFolder
from kdaudit.distill.learn import TRAINING, Told, rehearse
from kdaudit.distill.losses import settle_beta
from kdaudit.distill.prepare import Prepared, prepare
from kdaudit.distill.run import run_distill
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError, InsufficientDataError
from kdaudit.lock import locked
from kdaudit.mitigate import METHODS
from kdaudit.mitigate.base import Operation, Selection
from kdaudit.mitigate.figures import MIN_GROUP, Groups, Roster
from kdaudit.mitigate.scoring import (
    SIGNALS,
    attack_teacher,
    attacks_of,
    find_vulnerable,
    member_ids,
    score_students,
    select_members,
    start_to_score,
)
from kdaudit.mitigate.settings import CONTROL, PLAIN, MitigateConfig, further_name
from kdaudit.mitigate.starts import changed_start
from kdaudit.mitigate.table import Made, make_table
from kdaudit.results.mitigation import Mitigation, save

FILE_NAME = "mitigation.json"
RECOMMENDED = "recommended"
"""A link to the checkpoint of the arm to take, its first seed's."""
REPORTS = ("report.html", "report.md", "report.json")
REHEARSAL = "rehearsal-"
SCORING = "scoring"
"""The stages in which the students are attacked."""
JUDGING = "judging"
"""The stage after them."""
AUDIT_SHARE = 1 / 3
"""The share of a training step's time that a forward pass alone takes."""


@dataclass(frozen=True, slots=True)
class Job:
    """One student to be made."""

    arm: str
    seed: int
    config: DistillConfig
    left_out: frozenset[str]
    """Keyed ids of members that it is not to learn."""
    n_tokens: int
    """That go through it in training."""

    @property
    def is_finished(self) -> bool:
        """Whether its folder holds a finished student."""
        return (self.config.out / manifest.FILE_NAME).is_file()


@dataclass(frozen=True, slots=True)
class MitigationPlan:
    """What is to be done, before anything long."""

    jobs: tuple[Job, ...]
    n_members: int
    n_held_out: int
    operations: Mapping[str, Operation]
    selections: Mapping[str, Selection]
    groups: Groups
    attack: str
    """What the findings rest on; the metric is the AUC."""
    scoring_tokens: float
    """What it costs to attack all students, in tokens of training."""
    seconds: float | None
    """What is left is expected to take, from a timed step; None where every student is there."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What a comparison tells whoever started it."""

    on_plan: Callable[[MitigationPlan], None] = lambda _: None
    on_progress: Callable[[str, int, int, str], None] = lambda stage, done, total, note: None
    """(stage, done, total, a word on the state)."""


def run_mitigation(
    config: MitigateConfig, *, command: str = "", overwrite: bool = False, listener: Listener = Listener()
) -> Mitigation:
    """Distil every arm with every seed, attack all students on the same records, and write the table.

    Where gates recommend an arm, `recommended` beside the table is a link to its checkpoint.

    Args:
        config: of the comparison.
        command: as the user typed it, for the students' manifests.
        overwrite: start over: what an earlier comparison left in the folder is removed.
        listener: what to tell.

    Raises:
        KdauditError: see `kdaudit.errors`; every student that is finished is kept.
    """
    with locked(config.out):
        return _compare(config, command, overwrite, listener)


def _compare(config: MitigateConfig, command: str, overwrite: bool, listener: Listener) -> Mitigation:
    measured = today().isoformat()
    claim(config, overwrite=overwrite)
    prepared = prepare(config.plain(config.training_seeds[0]))
    if prepared.compute.n_processes > 1:
        raise ConfigError(
            f"mitigate runs in one process, not in {prepared.compute.n_processes}",
            hint="start it without accelerate launch; kdaudit distill can train one student in several",
        )
    _check_repeated(config, prepared)
    plan = _plan(config, prepared, listener)
    listener.on_plan(plan)
    _distil(plan, command, listener)
    roster = _roster(config, prepared)
    scored = score_students(config, prepared, roster.folders, on_progress=_scoring(listener))
    listener.on_progress(JUDGING, 0, 1, "")
    table = make_table(
        config, prepared, scored, Made(roster, plan.operations, plan.selections, plan.groups, command, measured)
    )
    save(table, config.out / FILE_NAME)
    _link(table, config.out / RECOMMENDED)
    listener.on_progress(JUDGING, 1, 1, "")
    return table


def claim(config: MitigateConfig, *, overwrite: bool) -> None:
    """Make the folder of a comparison, or take it over from an earlier one.

    Raises:
        ConfigError: it holds something else.
        OutputError: it cannot be written.
    """
    if (config.out / manifest.FILE_NAME).is_file():
        raise ConfigError(f"--out: {config.out} is a student's folder", hint="choose another folder")
    link = config.out / RECOMMENDED
    if link.exists() and not link.is_symlink():
        raise ConfigError(
            f"--out: {link} is not a link, and kdaudit puts a link there", hint="move it away, or choose another folder"
        )
    is_ours = (config.out / PLAIN).is_dir() or (config.out / FILE_NAME).is_file()
    lock.claim(config.out, is_ours=is_ours, holds_no="comparison of mitigations", overwrite=overwrite)
    with writing(config.out):
        for killed in config.out.glob(f"{REHEARSAL}*.tmp"):
            shutil.rmtree(killed, ignore_errors=True)
        if overwrite and is_ours:
            further = (path.name for path in config.out.glob(f"{PLAIN}-*"))
            for name in (PLAIN, SIGNALS, *further, *METHODS, *(f"{name}{CONTROL}" for name in METHODS)):
                shutil.rmtree(config.out / name, ignore_errors=True)
            for name in (FILE_NAME, RECOMMENDED, *REPORTS):
                (config.out / name).unlink(missing_ok=True)


def _link(table: Mitigation, link: Path) -> None:
    """Let the link point to the checkpoint of the arm to take; without one there is none.

    A file system that knows no links goes without: the table names the checkpoint too.
    """
    with suppress(OSError):
        link.unlink(missing_ok=True)
        if table.recommended is not None:
            link.symlink_to(table.arms[table.recommended].students[0].checkpoint, target_is_directory=True)


def _check_repeated(config: MitigateConfig, prepared: Prepared) -> None:
    """The records must be those of the student whose settings were taken, and its manifest its own."""
    if config.repeats is None:
        return
    key_file = manifest.key_path(prepared.config.train, prepared.config.key_file)
    manifest.check_signature(config.repeats, prepared.key, key_file)
    manifest.check_source(config.repeats, prepared.train, "train")
    if prepared.nonmembers is not None and config.repeats.data["nonmembers"] is not None:
        manifest.check_source(config.repeats, prepared.nonmembers, "nonmembers")


def _plan(config: MitigateConfig, prepared: Prepared, listener: Listener) -> MitigationPlan:
    """Change the starts, choose the members, and time a step."""
    for arm in config.arms:
        changed = config.student(arm, config.training_seeds[0])
        settle_beta(changed.objective, changed.beta)
    starts = {
        arm.name: changed_start(prepared, arm.method, config.strength(arm.method), config.out / arm.name)
        for arm in config.arms
        if arm.method.operate
    }
    selections, left_out, groups = _select(config, prepared, listener)
    seeds = config.training_seeds
    jobs = [_job(config.plain(seed), PLAIN, seed, prepared, frozenset()) for seed in seeds]
    for epochs in config.further:
        name = further_name(epochs)
        jobs += [_job(config.further_plain(epochs, seed), name, seed, prepared, frozenset()) for seed in seeds]
    for arm in config.arms:
        for seed in config.training_seeds:
            settings = config.student(arm, seed)
            if arm.name in starts:
                settings = replace(settings, student=str(starts[arm.name].folder))
            jobs.append(_job(settings, arm.name, seed, prepared, left_out.get(arm.name, frozenset())))
    operations = {name: start.operation for name, start in starts.items()}
    return MitigationPlan(
        tuple(jobs), len(prepared.assignment.members), len(prepared.assignment.held_out), operations, selections,
        groups, attacks_of(prepared)[0], _scoring_tokens(config, prepared, jobs), _seconds(config, prepared, jobs),
    )  # fmt: skip


def _select(
    config: MitigateConfig, prepared: Prepared, listener: Listener
) -> tuple[dict[str, Selection], dict[str, frozenset[str]], Groups]:
    """By method whom it keeps, by arm the keyed ids of the members that it leaves out, and whom the teacher gives away.

    All of it is settled before any arm is trained.
    """
    selections: dict[str, Selection] = {}
    left_out: dict[str, frozenset[str]] = {}
    selecting = {arm.method.name: arm.method for arm in config.arms if arm.method.select}
    if config.distill.teacher_saw in {"train", "unknown"}:
        return selections, left_out, Groups(None, "held-out records may be members of the teacher")
    try:
        scores = attack_teacher(config, prepared, on_progress=_quiet_note(listener))
        gc.collect()  # the teacher, before the students are trained
        groups = _groups(find_vulnerable(prepared, scores))
    except (ConfigError, InsufficientDataError) as error:
        if selecting:
            raise
        return selections, left_out, Groups(None, str(error))
    ids = member_ids(prepared)
    for method in selecting.values():
        found = select_members(prepared, method, scores)
        selections[method.name] = found
        for arm in (arm for arm in config.arms if arm.method == method):
            kept = found.control if arm.control_of else found.kept
            left_out[arm.name] = frozenset(ids[i] for i in np.setdiff1d(np.arange(len(ids)), kept))
    return selections, left_out, groups


def _groups(is_vulnerable: NDArray[np.bool_]) -> Groups:
    smallest = int(min(is_vulnerable.sum(), (~is_vulnerable).sum()))
    if smallest < MIN_GROUP:
        return Groups(None, f"one of the two groups would have {smallest} members, and {MIN_GROUP} are the least")
    return Groups(is_vulnerable)


def _quiet_note(listener: Listener) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: listener.on_progress(stage, done, total, "")


def _job(config: DistillConfig, arm: str, seed: int, prepared: Prepared, left_out: frozenset[str]) -> Job:
    share = 1 - len(left_out) / len(prepared.assignment.members)
    per_epoch = prepared.plan.n_tokens / len(prepared.plan.epochs)
    return Job(arm, seed, config, left_out, round(share * per_epoch * config.epochs))


def _seconds(config: MitigateConfig, prepared: Prepared, jobs: list[Job]) -> float | None:
    waiting = [job for job in jobs if not job.is_finished]
    if not waiting:
        return None
    with writing(config.out), TemporaryDirectory(dir=config.out, prefix=REHEARSAL, suffix=".tmp") as folder:
        per_token = rehearse(prepared, Path(folder))
    return per_token * (sum(job.n_tokens for job in waiting) + _scoring_tokens(config, prepared, jobs))


def _scoring_tokens(config: MitigateConfig, prepared: Prepared, jobs: list[Job]) -> float:
    per_epoch = prepared.plan.n_tokens / len(prepared.plan.epochs)
    copies = config.seeds * (config.distill.epochs * config.frontier_points - 1)
    n_scored = len(jobs) + copies + 3  # with the teacher and the references
    n_passes = float(np.mean([plan.n_passes for plan in prepared.held_out.plans()]))
    share = 1 + len(prepared.assignment.held_out) / len(prepared.assignment.members)
    return AUDIT_SHARE * n_scored * per_epoch * share * n_passes


def stage_of(job: Job) -> str:
    """What the training of a student is called while it runs."""
    return f"{_called(job)}: {TRAINING}"


def _called(job: Job) -> str:
    return f"{job.arm}, seed {job.seed}"


def _distil(plan: MitigationPlan, command: str, listener: Listener) -> None:
    for job in plan.jobs:

        def tell(stage: str, done: int, total: int, note: str, job: Job = job) -> None:
            listener.on_progress(f"{_called(job)}: {stage}", done, total, note)

        run_distill(job.config, command=command, told=Told(on_progress=tell), left_out=job.left_out)
        gc.collect()  # one student in memory at a time


def _scoring(listener: Listener) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: listener.on_progress(f"{SCORING}: {stage}", done, total, "")


def _roster(config: MitigateConfig, prepared: Prepared) -> Roster:
    seeds, epochs = config.training_seeds, config.distill.epochs
    folders = [StudentFolder(config.plain(seed).out, Path()) for seed in seeds]
    # Where an epoch has fewer steps than copies were asked for, the seeds need not have the same ones.
    kept = [
        {float(copy.name) for copy in folder.copies.iterdir() if not copy.name.endswith(".tmp")} for folder in folders
    ]
    shared = sorted(moment for moment in set.intersection(*kept) if moment < epochs)
    plain = tuple({**{moment: one.copy(moment) for moment in shared}, float(epochs): one.path} for one in folders)
    further = {n: tuple(config.further_plain(n, seed).out for seed in seeds) for n in config.further}
    arms = {arm.name: tuple(config.student(arm, seed).out for seed in seeds) for arm in config.arms}
    return Roster(plain, further, arms, start_to_score(prepared))
