"""Trains the demo's four checkpoints of one kind: a teacher and a student, and the start of each.

Both starts learn the public notes only. The teacher then learns the members and the public notes. The student is
distilled by `kdaudit distill` itself, half of its loss being the members' own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kdaudit.demo.corpus import Corpus
from kdaudit.demo.models import CONTEXT, new_model, new_tokenizer
from kdaudit.distill.settings import DistillConfig
from kdaudit.draws import generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Progress = Callable[[str, int, int], None]
"""Called as (stage, tokens done, tokens in the stage)."""

BATCH_TOKENS = 1024  # about eight notes
TEACHER_LAYERS, STUDENT_LAYERS = 4, 2
HARD_WEIGHT = 0.5  # share of the student's loss that is cross-entropy on the members' own words
TEMPERATURE = 2.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often each model sees its notes, and the learning rate at the peak of one cycle."""

    start_epochs: int
    teacher_epochs: int
    student_epochs: int
    learning_rate: float


SCHEDULES: Mapping[str, Schedule] = {
    "causal": Schedule(3, 4, 8, 5e-3),
    "masked": Schedule(8, 12, 30, 5e-3),  # an epoch asks for 15 % of the tokens, not for all of them
}
"""By the kind of the models."""


def training_work(kind: str, *, n_members: int, n_public: int) -> dict[str, float]:
    """The work of every stage of the training: notes times layers that read or learn. A step back is two readings."""
    schedule = SCHEDULES[kind]
    return {
        "training teacher-start": n_public * schedule.start_epochs * 3.0 * TEACHER_LAYERS,
        "training teacher": (n_members + n_public) * schedule.teacher_epochs * 3.0 * TEACHER_LAYERS,
        "training student-start": n_public * schedule.start_epochs * 3.0 * STUDENT_LAYERS,
        "student: distilling": n_members * schedule.student_epochs * (3.0 * STUDENT_LAYERS + TEACHER_LAYERS),
    }


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Folders with one model and its tokenizer each; a start is its model before it saw any member."""

    teacher: Path
    teacher_start: Path
    student: Path
    student_start: Path


def train(
    corpus: Corpus, members: Path, nonmembers: Path, folder: Path, *, kind: str, seed: int, on_progress: Progress
) -> Checkpoints:
    """Train the demo's models on the CPU and save each under `folder`, as safetensors.

    The same corpus and seed give the same weights on the same machine, however many cores are free.

    Args:
        corpus: members and public notes are trained on; non-members are never looked at.
        members: the file of the corpus's members.
        nonmembers: the file of its non-members, which the student's manifest names.
        folder: gets the folders teacher-start, teacher, student-start, student.
        kind: of the models, causal or masked.
        seed: of the initial weights and of the order of the notes.
        on_progress: told after every step.
    """
    from kdaudit.distill.learn import Told
    from kdaudit.distill.run import run_distill

    paths = Checkpoints(*(folder / name for name in ("teacher", "teacher-start", "student", "student-start")))
    schedule = SCHEDULES[kind]
    tokenizer = new_tokenizer(kind, corpus.public)
    teacher = new_model(kind, tokenizer, n_layers=TEACHER_LAYERS, seed=seed)
    student = new_model(kind, tokenizer, n_layers=STUDENT_LAYERS, seed=seed)
    with _one_thread():
        for path, model, notes, epochs in (
            (paths.teacher_start, teacher, corpus.public, schedule.start_epochs),
            (paths.teacher, teacher, corpus.members + corpus.public, schedule.teacher_epochs),
            (paths.student_start, student, corpus.public, schedule.start_epochs),
        ):
            learn_notes(
                path, model, tokenizer, notes, kind=kind, epochs=epochs, lr=schedule.learning_rate, seed=seed,
                on_progress=on_progress,
            )  # fmt: skip
        config = DistillConfig(
            teacher=str(paths.teacher), student=str(paths.student_start), train=(str(members),),
            nonmembers=(str(nonmembers),), out=paths.student, hard_weight=HARD_WEIGHT, temperature=TEMPERATURE,
            epochs=schedule.student_epochs, lr=schedule.learning_rate, batch_tokens=BATCH_TOKENS, seed=seed,
            device="cpu", overwrite=True,
        )  # fmt: skip
        told = Told(on_progress=lambda stage, done, total, note: on_progress(f"student: {stage}", done, total))
        run_distill(config, told=told)
    return paths


def learn_notes(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    notes: Sequence[str],
    *,
    kind: str,
    epochs: int,
    lr: float,
    seed: int,
    on_progress: Progress,
) -> None:
    """Train a model on the notes' own words by the loop of `kdaudit distill`, without a teacher, and save it."""
    import torch

    from kdaudit.distill.batches import probe
    from kdaudit.distill.data import Curriculum, make_examples, plan_steps
    from kdaudit.distill.folder import save_student
    from kdaudit.distill.student import Distiller, LossTerms, speaker
    from kdaudit.distill.trainer import Settings, Watch
    from kdaudit.distill.trainer import train as run_loop
    from kdaudit.records import Record
    from kdaudit.targets.frames import frame_of
    from kdaudit.targets.hiding import Hiding

    frame = frame_of(kind, tokenizer, hiding=Hiding(seed))
    records = [Record(str(number), note, number) for number, note in enumerate(notes, start=1)]
    examples = make_examples(records, tokenizer, frame, window=CONTEXT).items
    sizes = tuple(int(example.ids.size) for example in examples)
    rng = generator(seed, path.name)
    plan = Curriculum(tuple(plan_steps(sizes, epochs=epochs, step_tokens=BATCH_TOKENS, n_parts=1, rng=rng)), sizes)
    terms = LossTerms(objective="hard", beta=None, hard_weight=1.0, temperature=1.0)
    tried = probe(examples[0], frame.kind, torch.device("cpu"), n_tokens=CONTEXT)
    settings = Settings(
        lr=lr, schedule="one-cycle", warmup=0.1, weight_decay=0.01, gradient_accumulation=1,
        mixed_precision="no", seed=seed, use_cpu=True, report_to="none",
    )  # fmt: skip
    watch = Watch(on_step=lambda done, total, loss: on_progress(f"training {path.name}", done, total))
    with TemporaryDirectory() as work:
        distiller = Distiller(model, speaker(model, tried), terms, None)
        run_loop(
            distiller, examples, frame.kind, plan, lambda inputs, rows, epoch: None, settings, Path(work), watch=watch
        )
    save_student(model, tokenizer, path)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: nearly as fast on models this small, far faster on a busy machine, and no core count in the sums."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
