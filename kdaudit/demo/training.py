"""Trains the demo's four checkpoints: a teacher and a student, and the start of each.

Both starts learn the public notes only. The teacher then learns the members and the public notes; the student
is distilled from it on the members, half of its loss being the members' own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from kdaudit.demo.corpus import Corpus

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

Progress = Callable[[str, int, int], None]
"""Called as (stage, steps done, steps in the stage) after every step."""

END = "<|endoftext|>"
CONTEXT = 512  # tokens: three shots of the recall attack fill half of it
BATCH = 8  # notes
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


def train(corpus: Corpus, folder: Path, *, seed: int, on_progress: Progress) -> Checkpoints:
    """Train the demo's models on the CPU and save each under `folder`, as safetensors.

    The same corpus and seed give the same weights on the same machine, however many cores are free.

    Args:
        corpus: members and public notes are trained on; non-members are never looked at.
        folder: gets the folders teacher-start, teacher, student-start, student.
        seed: of the initial weights and of the order of the notes.
        on_progress: told after every step.
    """
    paths = Checkpoints(*(folder / name for name in ("teacher", "teacher-start", "student", "student-start")))
    tokenizer = train_tokenizer(corpus.public)

    def learn(
        path: Path, model: GPT2LMHeadModel, notes: Sequence[str], epochs: int, teacher: GPT2LMHeadModel | None = None
    ) -> None:
        token_ids = tokenizer([note + END for note in notes])["input_ids"]
        rng = np.random.default_rng([seed, crc32(path.name.encode())])
        on_step = partial(on_progress, f"training {path.name}")
        fit(model, token_ids, epochs=epochs, rng=rng, teacher=teacher, on_step=on_step)
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)

    teacher = new_model(tokenizer, n_layers=TEACHER_LAYERS, seed=seed)
    student = new_model(tokenizer, n_layers=STUDENT_LAYERS, seed=seed)
    with _one_thread():
        learn(paths.teacher_start, teacher, corpus.public, START_EPOCHS)
        learn(paths.teacher, teacher, corpus.members + corpus.public, TEACHER_EPOCHS)
        learn(paths.student_start, student, corpus.public, START_EPOCHS)
        learn(paths.student, student, corpus.members, STUDENT_EPOCHS, teacher=teacher)
    return paths


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


def fit(
    model: GPT2LMHeadModel,
    token_ids: Sequence[Sequence[int]],
    *,
    epochs: int,
    rng: np.random.Generator,
    teacher: GPT2LMHeadModel | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train `model` in place on notes, against their words or, with a teacher, against both; leaves it in eval mode.

    Args:
        model: any state; trained with AdamW, one cycle of the learning rate, gradients clipped at 1.
        token_ids: one note each, at least two tokens.
        epochs: passes over the notes.
        rng: orders the notes.
        teacher: the model to distil from, with the same vocabulary; left as it is.
        on_step: told (steps done, steps in all).
    """
    import torch

    from kdaudit.distill.losses import Outputs, count_targets, distillation_loss

    def run(some: GPT2LMHeadModel, ids: torch.Tensor) -> Outputs:
        return Outputs(some.transformer(ids).last_hidden_state, some.lm_head)

    total = epochs * -(-len(token_ids) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=total, pct_start=0.1)
    model.train()
    for done, (ids, labels) in enumerate(_batches(token_ids, epochs, rng), start=1):
        with torch.no_grad():
            taught = None if teacher is None else run(teacher, ids)
        value = distillation_loss(
            run(model, ids), taught, labels,
            objective="hard" if teacher is None else "forward-kl", hard_weight=HARD_WEIGHT, temperature=TEMPERATURE,
            n_targets=count_targets(labels),
        )  # fmt: skip
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(done, total)
    model.eval()


def _batches(
    token_ids: Sequence[Sequence[int]], epochs: int, rng: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels, both (B, T): padded on the right, where causal attention does not look back from."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from kdaudit.distill.losses import IGNORED

    notes = [torch.tensor(ids) for ids in token_ids]
    for _ in range(epochs):
        for rows in torch.from_numpy(rng.permutation(len(notes))).split(BATCH):
            chosen = [notes[row] for row in rows]
            yield pad_sequence(chosen, batch_first=True), pad_sequence(chosen, batch_first=True, padding_value=IGNORED)


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
