"""What is settled before the first step of a distillation: records, models, sequences, steps."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kdaudit import manifest, records
from kdaudit.distill.data import Assignment, Curriculum, Examples, assign, leave_out, make_examples, plan_steps
from kdaudit.distill.folder import StudentFolder, claim, newest_checkpoint, set_damaged_aside
from kdaudit.distill.losses import settle_beta
from kdaudit.distill.models import Compute, Models, choose_compute, find_models
from kdaudit.distill.settings import DistillConfig
from kdaudit.distill.trainer import check_loggers
from kdaudit.distill.utility import HeldOut
from kdaudit.draws import generator
from kdaudit.errors import CheckpointError, RecordsError
from kdaudit.models.chat import chat_renderer
from kdaudit.models.checkpoint import find
from kdaudit.models.headers import check_headers
from kdaudit.models.loading import load_tokenizer
from kdaudit.records import notes_on
from kdaudit.targets.passage import lead_text
from kdaudit.targets.script import TWICE, script_of
from kdaudit.targets.tokenizers import check_known

if TYPE_CHECKING:
    from kdaudit.records import Read, RecordSet


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that is settled before the first step."""

    config: DistillConfig
    train: RecordSet
    nonmembers: RecordSet | None
    assignment: Assignment
    models: Models
    compute: Compute
    folder: StudentFolder
    key: bytes
    examples: Examples
    plan: Curriculum
    held_out: HeldOut
    notes: tuple[str, ...]
    progress: tuple[str, ...] = ()
    """What to say of an unfinished run that is continued; no part of what the student becomes."""


def prepare(config: DistillConfig) -> Prepared:
    """Settle everything that comes before the first step of a distillation; trains nothing.

    Raises:
        KdauditError: as `run_distill`.
    """
    compute = choose_compute(config)
    with main_first(compute):
        folder = claim(config)
        sets = read_sets(config)
        return settle(config, find_models(config, folder.start, sets[0]), compute, folder, *sets, ())


def main_first(compute: Compute) -> Any:
    """The main process makes folders and files before the others look at them."""
    from accelerate import PartialState

    return PartialState(cpu=compute.use_cpu).main_process_first()


def read_sets(config: DistillConfig, read_source: Read = records.read) -> tuple[RecordSet, RecordSet | None]:
    """The training records and, if they are given, those of non-members; `read_source` gives those of a source.

    Raises:
        RecordsError: one cannot be read.
    """
    trust: dict[str, Any] = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}

    def tokenizer() -> Any:
        return load_tokenizer(find(config.teacher, option="--teacher", base=config.teacher_base, **trust))

    with chat_renderer(tokenizer, today=config.chat_date) as render:
        read = partial(read_source, **config.layout, render=render)
        nonmembers = read(config.nonmembers, option="--nonmembers") if config.nonmembers else None
        return read(config.train, option="--train"), nonmembers


def identify(
    config: DistillConfig,
    models: Models,
    train_set: RecordSet,
    nonmembers: RecordSet | None,
    left_out: Collection[str],
) -> dict[str, Any]:
    """What an unfinished run must share with this one to be continued by it."""
    return {
        **config.identity(),
        "left_out_sha256": hashlib.sha256("".join(sorted(left_out)).encode()).hexdigest() if left_out else None,
        "train_sha256": train_set.sha256,
        "nonmembers_sha256": nonmembers.sha256 if nonmembers else None,
        "teacher_fingerprint": models.teacher.fingerprint,
        "start_fingerprint": models.start.fingerprint,
    }


def settle(
    config: DistillConfig,
    models: Models,
    compute: Compute,
    folder: StudentFolder,
    train_set: RecordSet,
    nonmembers: RecordSet | None,
    left_out: Collection[str],
) -> Prepared:
    """Who is a member, what is learnt in which order, and what the utility is measured on.

    Raises:
        KdauditError: as `run_distill`.
    """
    for checkpoint in (models.teacher, models.start):
        check_headers(checkpoint, compute.device)
    settle_beta(config.objective, config.beta)
    check_loggers(config.report_to)
    key = manifest.make_key(manifest.key_path(config.train, config.key_file))
    assignment = leave_out(assign(config, train_set, nonmembers), left_out, key)
    examples = make_examples(assignment.trained, models.tokenizer, models.frame, window=models.window)
    sizes = tuple(example.size for example in examples.items)
    epochs = plan_steps(
        sizes, epochs=config.epochs, step_tokens=config.batch_tokens,
        n_parts=config.gradient_accumulation * compute.n_processes, rng=generator(config.seed, "order"),
    )  # fmt: skip
    held_out, n_unscored = _held_out(assignment, models)
    _check_known(examples, held_out, models)
    notes = [*models.notes, *notes_on([train_set, *([nonmembers] if nonmembers else [])])]
    if examples.n_cut:
        notes.append(
            f"{examples.n_cut} of {len(assignment.trained)} members are longer than {models.window} tokens: cut"
        )
    if examples.n_left_out:
        notes.append(f"{examples.n_left_out} members leave no token to learn and teach nothing")
    if n_unscored:
        notes.append(f"{n_unscored} held-out records have no token to score and are left out of the utility")
    lead = lead_text(models.tokenizer)
    n_twice = sum(bool(lead) and one.text.startswith(lead) for one in (*assignment.trained, *assignment.held_out))
    if n_twice:
        notes.append(TWICE.format(n=n_twice, lead=lead))
    plan = Curriculum(tuple(epochs), sizes)
    return Prepared(
        config, train_set, nonmembers, assignment, models, compute, folder, key, examples, plan, held_out,
        tuple(notes), tuple(_continuing(config, folder)),
    )  # fmt: skip


def _continuing(config: DistillConfig, folder: StudentFolder) -> list[str]:
    """What is continued; checkpoints that cannot be are set aside before any process looks for the newest."""
    if config.resume is False:
        return []
    damaged = set_damaged_aside(folder.work)
    notes = [
        f"the checkpoint of step {step} is damaged or was not finished: it is set aside as {path}"
        for step, path in damaged.items()
    ]
    last = newest_checkpoint(folder.work)
    if last is not None:
        notes.append(f"continues after step {last.name.removeprefix('checkpoint-')} of an unfinished run")
    elif damaged:
        notes.append("no checkpoint is left that could be continued: the training starts over")
    return notes


def _check_known(examples: Examples, held_out: HeldOut, models: Models) -> None:
    """Refuse tokens that a model has no embedding for, before anything is trained.

    Raises:
        CheckpointError: naming the largest token and the model that does not know it.
    """
    shown = [part for one in examples.items for part in (one.ids, one.source)]
    sequences = [*shown, *(one.ids for one in held_out.passages)]
    largest = max(int(ids.max(initial=0)) for ids in sequences)
    for option, found in (("--teacher", models.teacher), ("--student", models.start)):
        check_known(largest, found.vocab_size, found.name, option=option, error=CheckpointError)


def _held_out(assignment: Assignment, models: Models) -> tuple[HeldOut, int]:
    frame, held = models.frame, assignment.held_out
    passages = frame.encode(models.tokenizer, [script_of(record, [lead_text(models.tokenizer)]) for record in held])
    rooms = [frame.room(models.window, one) for one in passages]
    cut = [
        one if one.ids.size <= room else one.head(int(one.char_end[room - 1])) if room else one.first(0)
        for one, room in zip(passages, rooms, strict=True)
    ]
    scored = tuple(one for one in cut if frame.plan(one).showings)
    if not scored:
        raise RecordsError(
            f"none of the {len(held)} held-out records has a token to score", hint="hold out more, or longer, records"
        )
    return HeldOut(scored, frame, models.vocabulary), len(held) - len(scored)
