"""Whether a reference can be one: it must not be a model that saw the records, nor hardly anything else.

Identity is that of tensors: a copy that was saved again, split or cast has other hashes and cancels the score as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kdaudit import manifest as manifests
from kdaudit.audit.lineage import Lineage
from kdaudit.audit.plan import Subject
from kdaudit.config import option_of
from kdaudit.errors import CheckpointError, KdauditError
from kdaudit.manifest import Manifest
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.kinship import holds_same_tensors, relative_distance

ROUNDING = 1e-6
"""Relative distance that merging an adapter leaves in float32; no training moves a model by so little."""
NEAR = 0.0025
"""Relative distance below which a checkpoint is hardly another one: rounding to bfloat16 twice moves it by 0.002."""
NEARER = 0.9
"""A share of the distance to the start: a reference that lies that much nearer to the model went the model's way.
Weight decay alone, which all trainings share, does not bring two of them that close."""
SLIGHTLY_NEARER = 0.99
"""A share of the same distance: worth a word."""
UNSEEN = "a reference must not have seen the records: give the checkpoint that the model started from"


def check_references(subjects: Sequence[Subject], lineage: Lineage) -> tuple[str, ...]:
    """Refuse references that have the weights of an audited model, or lie nearer to it than to what it started from.

    What a manifest names as the start of a student is a reference of every student, however little that was trained.

    Args:
        subjects: the audited models and their references.
        lineage: says what the students started from, and whether their teacher saw the records.

    Returns:
        What has to be said of references that are allowed.

    Raises:
        CheckpointError: naming the option, the reference and the audited model.
    """
    notes: list[str] = []
    starts = _starts(subjects, lineage)
    for subject in subjects:
        reference = subject.reference
        if reference is not None:
            _check_saw_no_member(subject, reference, lineage)
        for audited in subjects if reference is not None else ():
            if reference is None or (audited.name == "teacher" and _is_teacher_innocent(subject, lineage)):
                continue
            _check_is_none_of(subject, reference, audited, lineage)
            if not lineage.is_start(reference):
                notes += _compare_distances(subject, reference, audited, starts)
    return tuple(dict.fromkeys(notes))


def _starts(subjects: Sequence[Subject], lineage: Lineage) -> dict[str, list[Checkpoint]]:
    """By audited model what it is known to have started from, as far as that lies on this machine."""
    found: dict[str, list[Checkpoint]] = {}
    for subject in subjects:
        if subject.checkpoint.base is not None:
            found.setdefault(subject.name, []).append(subject.checkpoint.base)
        manifest = lineage.by_student.get(subject.name)
        start = manifest.start if manifest is not None else None
        reference = subject.reference
        if start is None or reference is None or lineage.is_start(reference) or not Path(start).exists():
            continue
        with suppress(KdauditError):  # what is no checkpoint any more says nothing, and nobody asked for it
            there = find(
                start, option=f"the start of {subject.name}",
                allow_pickle=reference.allow_pickle, trust_remote_code=reference.trust_remote_code,
            )  # fmt: skip
            found.setdefault(subject.name, []).append(there)
    return found


def _is_teacher_innocent(subject: Subject, lineage: Lineage) -> bool:
    """Whether the manifest of a student says that its teacher never saw the records."""
    manifest = lineage.by_student.get(subject.name)
    return manifest is not None and lineage.sets is not None and manifest.data["teacher_saw"] == "none"


def _check_saw_no_member(subject: Subject, reference: Checkpoint, lineage: Lineage) -> None:
    """Refuse what manifests say of a reference: that it is made of a teacher that may know members, or saw some."""
    own = _own_manifest(reference)
    for student, manifest in lineage.by_student.items():
        start = manifest.origin
        is_teachers = start is not None and not start["is_reference"]
        if start is not None and is_teachers and start["weights_sha256"] == reference.weights_sha256:
            what = "made of layers of the teacher" if start["origin"] == "layers" else "the teacher"
            raise CheckpointError(
                f"{_option(subject)}: {reference.name} is {what} of {student}, which may have seen the members",
                hint=UNSEEN,
            )
        shared = set(own.data["members"]) & set(manifest.data["members"]) if own is not None else set()
        if shared:
            raise CheckpointError(
                f"{_option(subject)}: {reference.name} was trained on {len(shared)} of the members of {student}, as "
                "its manifest says",
                hint=UNSEEN,
            )


def _own_manifest(checkpoint: Checkpoint) -> Manifest | None:
    """What `kdaudit distill` says of a checkpoint that it made; None where it says nothing of these weights."""
    path = checkpoint.folder / manifests.FILE_NAME
    found = None
    with suppress(KdauditError):
        found = manifests.load(path) if path.is_file() else None
    is_its_own = found is not None and found.content["student"]["weights_sha256"] == checkpoint.weights_sha256
    return found if is_its_own else None


def _check_is_none_of(subject: Subject, reference: Checkpoint, audited: Subject, lineage: Lineage) -> None:
    what, model = f"{_option(subject)}: {reference.name}", audited.name.replace("-", " ")
    if reference.weights_sha256 == audited.checkpoint.weights_sha256:
        raise CheckpointError(f"{what} has the same weights as the audited {model}", hint=UNSEEN)
    if audited.name != "teacher" and lineage.is_start(reference):
        return
    gap = relative_distance(reference, audited.checkpoint)
    if (gap is not None and gap < ROUNDING) or holds_same_tensors(reference, audited.checkpoint):
        raise CheckpointError(
            f"{what} is a copy of the audited {model}, saved again: it has the same tensors", hint=UNSEEN
        )


def _compare_distances(
    subject: Subject, reference: Checkpoint, audited: Subject, starts: Mapping[str, Sequence[Checkpoint]]
) -> Iterator[str]:
    """What to say of a reference that is hardly another model than an audited one; refuses one that went its way."""
    own_starts = starts.get(audited.name, ())
    known = own_starts or starts.get(subject.name, ())
    if any(holds_same_tensors(reference, start) for start in known):
        return
    gap = relative_distance(reference, audited.checkpoint)
    gaps = {start.name: found for start in known if (found := relative_distance(reference, start)) is not None}
    if gap is None or (not gaps and gap >= NEAR) or (gaps and gap >= SLIGHTLY_NEARER * min(gaps.values())):
        return
    model = audited.name.replace("-", " ")
    if not gaps:
        yield (
            f"the weights of the reference {reference.name} are within {gap:.2%} of those of the {model}: if it has "
            "learnt from the records too, the reference attacks show nothing"
        )
        return
    start = min(gaps, key=lambda name: gaps[name])
    nearer = (
        f"{reference.name} lies nearer to the {model} ({gap:.2%} of its weights) than to what the "
        f"{model if own_starts else subject.name.replace('-', ' ')} started from, {start} ({gaps[start]:.2%})"
    )
    if own_starts and gap < NEARER * gaps[start]:
        raise CheckpointError(
            f"{_option(subject)}: {nearer}, so it has learnt from the records too",
            hint=f"a reference must not have seen them: give {start}, or nothing where a manifest names it",
        )
    yield f"the reference {nearer}: if it has learnt from the records too, the reference attacks show nothing"


def _option(subject: Subject) -> str:
    return f"{option_of(subject.name)}-reference (or --reference)"
