"""What the students' own manifests say: who was a member, what each started from, what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdaudit import manifest as manifests
from kdaudit.config import LOADS, TEACHER, AuditConfig, Audited, option_of
from kdaudit.errors import CheckpointError, ConfigError
from kdaudit.manifest import Manifest
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.hub import locate
from kdaudit.models.repeatable import CHAT_DATE
from kdaudit.records import IN_MEMORY, RecordSet, is_there
from kdaudit.records.files import STDIN
from kdaudit.results import Distillation
from kdaudit.results.file import decode

LEFT_OUT = "{name} was trained without {n_left_out} of the {n} members: its figures are over all of them"
LOWER_BOUNDS = (
    "the held-out records may have been in the teacher's training data (--teacher-saw {saw}), and a student learns "
    "from its teacher: the student's figures are lower bounds"
)
TEACHER_OBSTACLE = (
    "the held-out records may be members of the teacher (--teacher-saw {saw} when the student was distilled), so "
    "nothing is known to be a non-member of it"
)


@dataclass(frozen=True, slots=True)
class Lineage:
    """The manifests of an audit's students, as far as they have one."""

    by_student: Mapping[str, Manifest]
    sets: Callable[[Callable[..., RecordSet]], tuple[RecordSet, RecordSet]] | None = None
    """Given `read`, the members and the non-members; None where the records were given by hand."""
    teacher_obstacle: str = ""
    no_start: Mapping[str, str] = field(default_factory=dict)
    """By student: why what it started from cannot serve as a reference."""
    notes: tuple[str, ...] = ()
    loads: Mapping[str, str] = field(default_factory=dict)
    """By student: the precision in which it was trained and is used, where its manifest says one and nobody else."""

    @property
    def chat_date(self) -> str:
        """What chat templates were told that today is when the students were distilled."""
        first = next(iter(self.by_student.values()), None)
        return str(first.training.get("chat_date", CHAT_DATE)) if first else CHAT_DATE

    def is_start(self, checkpoint: Checkpoint) -> bool:
        """Whether a manifest names these weights as what a student started from before it saw the members."""
        return any(
            found.start is not None
            and found.origin is not None
            and found.origin["weights_sha256"] == checkpoint.weights_sha256
            for found in self.by_student.values()
        )

    def describe(self, student: str) -> Distillation | None:
        """What a results file says of how a student was distilled; None for one without a manifest."""
        if student not in self.by_student:
            return None
        found = self.by_student[student]
        said = {
            **found.content["training"],
            "teacher_saw": found.data["teacher_saw"],
            "utility": found.content.get("utility"),
        }
        made: Distillation = decode(Distillation, said, str(found.path))
        return made


def trace(config: AuditConfig) -> tuple[AuditConfig, Lineage]:
    """Complete a configuration by what its students' manifests say: records and references.

    Raises:
        ConfigError: no records are given and no manifest names any, or two students have other members.
        CheckpointError: a student's folder does not exist.
    """
    found = _manifests(config)
    distilled = _distilled(config)
    references = {one.name: one.reference for one in distilled}
    bases = {one.name: one.base for one in distilled}
    no_start: dict[str, str] = {}
    for name in references:
        if name in found and references[name] is None:
            start, origin = found[name].start, found[name].origin
            if start is not None and origin is not None and (Path(start).exists() or origin["revision"]):
                references[name] = start
            elif start is not None and bases[name] is not None and found[name].training.get("lora"):
                references[name] = bases[name]  # an adapter that distill trains stands on its start
            else:
                no_start[name] = _why_no_start(found[name], start)
    notes = [f"{name}: {why}, so it has no reference model" for name, why in no_start.items()]
    loads = _loads(found)
    notes += [_about_load(one, loads[one.name]) for one in distilled if one.name in loads]
    config = config.with_references(references)
    if config.members or config.data:
        return config, Lineage(found, no_start=no_start, notes=tuple(notes), loads=loads)
    first = next(iter(found.values()), None)
    if first is None:
        raise ConfigError(
            "no records: give --members FILE and --nonmembers FILE",
            hint="a student that `kdaudit distill` made names them in its manifest (kdaudit.json, or --manifest FILE); "
            "`kdaudit manifest` writes one for a student of another tool",
        )
    _check_same_members(found)
    config = replace(config, **_layout(first, config))
    notes += [
        LEFT_OUT.format(name=name, n_left_out=len(left_out), n=len(one.data["members"]))
        for name, one in found.items()
        if (left_out := one.data.get("left_out"))
    ]
    saw = {"saw": first.data["teacher_saw"]}
    may_know = first.may_teacher_know_held_out
    return config, Lineage(
        found,
        sets=lambda read: _sets(config, first, read),
        teacher_obstacle=TEACHER_OBSTACLE.format(**saw) if may_know else "",
        no_start=no_start,
        notes=(*notes, *([LOWER_BOUNDS.format(**saw)] if may_know else [])),
        loads=loads,
    )


def check_lineage(lineage: Lineage, student: str, checkpoint: Checkpoint, reference: Checkpoint | None) -> None:
    """Refuse a student or a start whose weights are not those that its manifest speaks of.

    Raises:
        CheckpointError: they differ.
    """
    if student == TEACHER:
        _check_teacher(lineage, checkpoint)
    if student not in lineage.by_student:
        return
    found = lineage.by_student[student]
    if found.content["student"]["weights_sha256"] != checkpoint.weights_sha256:
        raise CheckpointError(
            f"{option_of(student)}: the weights of {checkpoint.name} are not those that {found.path} describes",
            hint="give the student's own manifest (--manifest), or --members and --nonmembers without one",
        )
    start = found.origin
    is_own = reference is not None and reference.name == found.start
    if start is not None and reference is not None and is_own and start["weights_sha256"] != reference.weights_sha256:
        raise CheckpointError(
            f"{found.path}: the start of the student, {reference.name}, has changed since",
            hint=f"give the checkpoint that it started from: {option_of(student)}-reference",
        )


def _check_teacher(lineage: Lineage, checkpoint: Checkpoint) -> None:
    """What a manifest says of the held-out records, it says of the teacher that the student was distilled from."""
    if lineage.sets is None:
        return
    first = next(iter(lineage.by_student.values()))
    own = first.content["teacher"]
    if own["weights_sha256"] != checkpoint.weights_sha256:
        raise CheckpointError(
            f"--teacher: {checkpoint.name} is not the teacher of the student, whose manifest {first.path} names "
            f"{own['name']}",
            hint="give that teacher; to compare with another one, give the records by --members and --nonmembers",
        )


def _distilled(config: AuditConfig) -> list[Audited]:
    """The models that may have a manifest."""
    return [one for one in config.audited if one.name != TEACHER]


def _manifests(config: AuditConfig) -> dict[str, Manifest]:
    found = {}
    for position, one in enumerate(_distilled(config)):
        if config.manifest is not None and position == 0:
            found[one.name] = manifests.load(config.manifest)
            continue
        options = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
        folder, _ = locate(one.checkpoint, one.option, **options)
        path = folder / manifests.FILE_NAME
        if path.is_file():
            found[one.name] = manifests.load(path)
        elif (folder / manifests.UNFINISHED).is_file():
            raise CheckpointError(
                f"{one.option}: the training of {folder} is not finished",
                hint="run the same kdaudit distill command again: it continues",
            )
    return found


def _layout(found: Manifest, config: AuditConfig) -> dict[str, Any]:
    """How the records stood in their sources when the student was distilled.

    Raises:
        ConfigError: other words of a chat are to be scored than were learnt.
    """
    recorded = {**found.training, "text_field": found.data["text_field"], "id_field": found.data["id_field"]}
    if config.score not in {None, recorded["score"]}:
        raise ConfigError(
            f"--score {config.score}: the student was distilled on its records with --score {recorded['score']}, which "
            f"{found.path} says",
            hint="leave it out, or give the records by --members FILE and --nonmembers FILE",
        )
    return {name: recorded.get(name, default) for name, default in config.layout.items()}


def _loads(found: Mapping[str, Manifest]) -> dict[str, str]:
    """By student: what its manifest says of the precision of the weights under its adapter."""
    loads = {name: one.content["student"].get("load") for name, one in found.items()}
    return {name: load for name, load in loads.items() if load in LOADS}


def _about_load(one: Audited, trained: str) -> str:
    if one.load is None or one.load == trained:
        return f"{one.name} was distilled on weights in {trained}, and is audited so, as it is used"
    return f"{one.name} was distilled on weights in {trained}, and is audited in {one.load} ({one.option}-load)"


def _why_no_start(found: Manifest, start: str | None) -> str:
    if found.origin is None:
        return "its manifest does not say what it started from"
    if start is None:
        what = "layers of a teacher that" if found.origin["origin"] == "layers" else "its teacher, which"
        return f"it started from {what} may have seen the members"
    return f"the start that its manifest names is not there ({start})"


def _check_same_members(found: Mapping[str, Manifest]) -> None:
    first, *others = found.items()
    for name, other in others:
        if any(other.data[part] != first[1].data[part] for part in ("members", "held_out")):
            raise ConfigError(
                f"{name} was distilled on other records than {first[0]}",
                hint="audit each by itself, or give the records by --members and --nonmembers",
            )


def _sets(config: AuditConfig, found: Manifest, read: Callable[..., RecordSet]) -> tuple[RecordSet, RecordSet]:
    data = found.data
    sources = config.train or _still_there(found, "train", "--train FILE")
    train = read(sources, option="--train")
    key_file = config.key_file or _own_key(found, sources)
    key = manifests.read_key(key_file)
    manifests.check_signature(found, key, key_file)
    manifests.check_source(found, train, "train")
    members = manifests.pick(found, train, "members", key, "--train")
    if data["nonmembers"] is None:
        return members, manifests.pick(found, train, "held_out", key, "--train (held out)")
    others_source = config.nonmembers or _still_there(found, "nonmembers", "--train FILE --nonmembers FILE")
    others = read(others_source, option="--nonmembers")
    manifests.check_source(found, others, "nonmembers")
    return members, manifests.pick(found, others, "held_out", key, "--nonmembers")


def _still_there(found: Manifest, part: str, way_out: str) -> tuple[str, ...]:
    """The sources that the manifest names, as seen from the current folder."""
    sources = manifests.sources_of(found.data[part])
    for source in sources:
        if source in {IN_MEMORY, STDIN}:
            where = "in memory" if source == IN_MEMORY else "from standard input"
            raise ConfigError(
                f"{found.path}: the student was distilled on records {where}, and they are not given",
                hint=f"give them again: {way_out}",
            )
        if not source.startswith("hub:") and not is_there(source):
            raise ConfigError(
                f"{found.path} names the file {source}, and there is none (seen from the current folder)",
                hint=f"say where it is: {way_out}; or give the records by --members FILE and --nonmembers FILE",
            )
    return sources


def _own_key(found: Manifest, sources: tuple[str, ...]) -> Path:
    """Beside the training file where it now lies, else where distill put it."""
    recorded = Path(found.data["key_file"])
    try:
        beside = manifests.key_path(sources, None)
    except ConfigError:  # nothing lies beside them
        return recorded
    return beside if beside.is_file() or not recorded.is_file() else recorded
