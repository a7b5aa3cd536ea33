"""Trains the demo's four checkpoints: a teacher and a student, and the start of each.

Both starts learn the public notes only. The teacher then learns the members and the public notes. The student is
distilled by `kdaudit distill` itself, half of its loss being the members' own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kdaudit.demo.corpus import Corpus
from kdaudit.distill.settings import DistillConfig
from kdaudit.draws import generator

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

Progress = Callable[[str, int, int], None]
"""Called as (stage, tokens done, tokens in the stage)."""

END = "<|endoftext|>"
CONTEXT = 512  # tokens: three shots of the recall attack fill half of it
BATCH_TOKENS = 1024  # about eight notes
VOCABULARY = 1024  # tokens
WIDTH = 96
TEACHER_LAYERS, STUDENT_LAYERS = 4, 2
START_EPOCHS, TEACHER_EPOCHS, STUDENT_EPOCHS = 3, 4, 8
LEARNING_RATE = 5e-3  # at the peak of one cycle
HARD_WEIGHT = 0.5  # share of the student's loss that is cross-entropy on the members' own words
TEMPERATURE = 2.0


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Folders with one model and its tokenizer each; a start is its model before it saw any member."""

    teacher: Path
    teacher_start: Path
    student: Path
    student_start: Path


def train(
    corpus: Corpus, members: Path, nonmembers: Path, folder: Path, *, seed: int, on_progress: Progress
) -> Checkpoints:
    """Train the demo's models on the CPU and save each under `folder`, as safetensors.

    The same corpus and seed give the same weights on the same machine, however many cores are free.

    Args:
        corpus: members and public notes are trained on; non-members are never looked at.
        members: the file of the corpus's members.
        nonmembers: the file of its non-members, which the student's manifest names.
        folder: gets the folders teacher-start, teacher, student-start, student.
        seed: of the initial weights and of the order of the notes.
        on_progress: told after every step.
    """
    from kdaudit.distill.learn import Told
    from kdaudit.distill.run import run_distill

    paths = Checkpoints(*(folder / name for name in ("teacher", "teacher-start", "student", "student-start")))
    tokenizer = train_tokenizer(corpus.public)
    teacher = new_model(tokenizer, n_layers=TEACHER_LAYERS, seed=seed)
    student = new_model(tokenizer, n_layers=STUDENT_LAYERS, seed=seed)
    with _one_thread():
        for path, model, notes, epochs in (
            (paths.teacher_start, teacher, corpus.public, START_EPOCHS),
            (paths.teacher, teacher, corpus.members + corpus.public, TEACHER_EPOCHS),
            (paths.student_start, student, corpus.public, START_EPOCHS),
        ):
            _learn(path, model, tokenizer, notes, epochs=epochs, seed=seed, on_progress=on_progress)
        config = DistillConfig(
            teacher=str(paths.teacher), student=str(paths.student_start), train=(str(members),),
            nonmembers=(str(nonmembers),), out=paths.student, hard_weight=HARD_WEIGHT, temperature=TEMPERATURE,
            epochs=STUDENT_EPOCHS, lr=LEARNING_RATE, batch_tokens=BATCH_TOKENS, seed=seed, device="cpu", overwrite=True,
        )  # fmt: skip
        told = Told(on_progress=lambda stage, done, total, note: on_progress(f"student: {stage}", done, total))
        run_distill(config, told=told)
    return paths


def _learn(
    path: Path,
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    notes: Sequence[str],
    *,
    epochs: int,
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

    frame = frame_of("causal", tokenizer)
    records = [Record(str(number), note, number) for number, note in enumerate(notes, start=1)]
    examples = make_examples(records, tokenizer, frame, window=CONTEXT).items
    sizes = tuple(int(example.ids.size) for example in examples)
    rng = generator(seed, path.name)
    plan = Curriculum(tuple(plan_steps(sizes, epochs=epochs, step_tokens=BATCH_TOKENS, n_parts=1, rng=rng)), sizes)
    terms = LossTerms(objective="hard", beta=None, hard_weight=1.0, temperature=1.0)
    tried = probe(examples[0], frame.kind, torch.device("cpu"), n_tokens=CONTEXT)
    settings = Settings(
        lr=LEARNING_RATE, schedule="one-cycle", warmup=0.1, weight_decay=0.01, gradient_accumulation=1,
        mixed_precision="no", seed=seed, use_cpu=True, report_to="none",
    )  # fmt: skip
    watch = Watch(on_step=lambda done, total, loss: on_progress(f"training {path.name}", done, total))
    with TemporaryDirectory() as work:
        distiller = Distiller(model, speaker(model, tried), terms, None)
        run_loop(distiller, examples, frame.kind, plan, lambda inputs, rows: None, settings, Path(work), watch=watch)
    save_student(model, tokenizer, path)


def train_tokenizer(texts: Sequence[str], *, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of about `vocabulary` tokens; pads with the end-of-text token, never adds it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=CONTEXT)


def new_model(tokenizer: PreTrainedTokenizerFast, *, n_layers: int, seed: int) -> GPT2LMHeadModel:
    """A GPT-2 without dropout; its initial weights depend on the seed and leave torch's global state alone."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=WIDTH, n_layer=n_layers, n_head=4,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own function, computed by one kernel
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


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
