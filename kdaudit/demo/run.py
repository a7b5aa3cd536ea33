"""The demo: a positive and a negative control, on models trained on the spot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from kdaudit.artefacts import write_text
from kdaudit.audit.measure import Progress
from kdaudit.audit.run import run_audit
from kdaudit.config import AuditConfig
from kdaudit.demo.corpus import generate, write
from kdaudit.demo.training import STUDENT_LAYERS, TEACHER_LAYERS, train, training_work
from kdaudit.errors import ControlError
from kdaudit.lock import claim, locked
from kdaudit.metrics.estimate import lower_bound, upper_bound
from kdaudit.results import AuditResult

N_NOTES = {"causal": (800, 1100, 600), "masked": (500, 1100, 500)}
"""Members, non-members and public notes, by the kind of the models: enough for a true positive rate at 1 %."""
READINGS = {"causal": 4, "masked": 24}
"""How often an audit shows a note to a model, by the kind of the models."""
POSITIVE, NEGATIVE = "audit", "control"
"""What the stages of both audits begin with."""
MARKER = "kdaudit-demo"
DETECTED_LEVEL = 0.999  # one-sided, of the positive control
CHANCE_LEVEL = 0.9995  # each side and attack of the negative control: about one sound demo in 100 fails


@dataclass(frozen=True, slots=True)
class Controls:
    """Both audits of the demo."""

    positive: AuditResult
    """The audit of teacher and student, which saw the members."""
    negative: AuditResult
    """The audit of their starts, which did not see them."""
    positive_folder: Path
    negative_folder: Path


def run_demo(folder: Path, *, kind: str = "causal", seed: int, command: str, on_progress: Progress) -> Controls:
    """Make notes, train models on some of them, and audit the models and their starts.

    Args:
        folder: gets the notes, the checkpoints and both run folders; an earlier demo in it is replaced.
        kind: of the models, causal or masked.
        seed: of the notes, the training and the audits.
        command: as the user typed it, for the manifests.
        on_progress: told about long work.

    Raises:
        ConfigError: the folder holds something other than a demo.
    """
    claim(folder, is_ours=(folder / MARKER).is_file(), holds_no="earlier demo", hint="choose another folder")
    write_text(folder / MARKER, "made by kdaudit demo\n")
    with locked(folder):
        return _run(folder, kind, seed, command, on_progress)


def expected_work(kind: str) -> dict[str, float]:
    """The work of every stage of a demo, in notes times layers: the basis of a bar, and estimated."""
    n_members, n_nonmembers, n_public = N_NOTES[kind]
    audit = (n_members + n_nonmembers) * float(READINGS[kind]) * 2 * (TEACHER_LAYERS + STUDENT_LAYERS)  # with starts
    work = training_work(kind, n_members=n_members, n_public=n_public)
    return {**work, POSITIVE: audit, NEGATIVE: audit / 2}  # the control has no references


def _run(folder: Path, kind: str, seed: int, command: str, on_progress: Progress) -> Controls:
    corpus = generate(seed, *N_NOTES[kind])
    data = write(corpus, folder / "data")
    models = train(
        corpus, data["members"], data["nonmembers"], folder / "checkpoints", kind=kind, seed=seed,
        on_progress=on_progress,
    )  # fmt: skip
    positive = AuditConfig(  # records and the student's reference come from its manifest
        teacher=str(models.teacher),
        students=(str(models.student),),
        teacher_reference=str(models.teacher_start),
        out=folder / "run",
        seed=seed,
        overwrite=True,
    )
    negative = replace(
        positive,
        teacher=str(models.teacher_start),
        students=(str(models.student_start),),
        members=(str(data["members"]),),
        nonmembers=(str(data["nonmembers"]),),
        teacher_reference=None,
        out=folder / "control",
    )
    return Controls(
        positive=run_audit(positive, command=command, on_progress=_labelled(POSITIVE, on_progress)),
        negative=run_audit(negative, command=command, on_progress=_labelled(NEGATIVE, on_progress)),
        positive_folder=positive.out,
        negative_folder=negative.out,
    )


def check_controls(controls: Controls) -> None:
    """Raise where the tool does not find what is there, or finds what is not.

    Raises:
        ControlError: the student is not detected, or its start is.
    """
    found = controls.positive.attacks["reference"].cells["student"].auc
    low = None if found is None else lower_bound(found, DETECTED_LEVEL)
    if low is None or low <= 0.5:
        raise ControlError(f"positive control: the student saw the members, yet its AUC may be {low}")
    for name, attack in controls.negative.attacks.items():
        estimate = attack.cells["student"].auc
        if estimate is None:
            continue
        low, high = lower_bound(estimate, CHANCE_LEVEL), upper_bound(estimate, CHANCE_LEVEL)
        if low is None or high is None or not low <= 0.5 <= high:
            raise ControlError(
                f"negative control: {name} tells members from non-members on a model that saw neither "
                f"(AUC {estimate.value}, from {low} to {high})"
            )


def _labelled(label: str, on_progress: Progress) -> Progress:
    return lambda stage, done, total: on_progress(f"{label}: {stage}", done, total)
