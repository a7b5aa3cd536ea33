"""Training a student: its teacher asked in the way that was chosen, its loss, its loop; and a step to time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from kdaudit import manifest
from kdaudit.distill.batches import NOTHING, Inputs, is_dropped, probe
from kdaudit.distill.cache import CACHE_VERSION, CacheKey, open_cache
from kdaudit.distill.data import Curriculum
from kdaudit.distill.folder import StudentFolder, save_student
from kdaudit.distill.generation import continue_all, teacher_sequences
from kdaudit.distill.losses import CachedOutputs
from kdaudit.distill.models import Models, learner
from kdaudit.distill.prepare import Prepared, main_first
from kdaudit.distill.settings import DistillConfig
from kdaudit.distill.sharding import Asked, cut_layers, gather_weights
from kdaudit.distill.student import Distiller, LossTerms, Speaker, speaker
from kdaudit.distill.trainer import Ask, Settings, Watch, train
from kdaudit.draws import generator
from kdaudit.models.context import scoring_batch_tokens
from kdaudit.models.loading import loaded
from kdaudit.targets.plan import Example

if TYPE_CHECKING:
    import torch


PROBE_TOKENS = 64
TRAINING = "distilling"
"""The stage in which the student learns, counted in tokens."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a distillation tells whoever started it."""

    on_plan: Callable[[Prepared], None] = lambda _: None
    on_progress: Callable[[str, int, int, str], None] = lambda stage, done, total, note: None
    """(stage, done, total, a word on the state)."""


def learn(prepared: Prepared, told: Told) -> list[float]:
    """Train the student and save it; gives the losses that were logged."""
    config, compute, models = prepared.config, prepared.compute, prepared.models
    with ExitStack() as stack:
        examples, ask, teacher_width = _teacher(prepared, told, stack)
        kept, model = learner(config, models, compute)
        projection = _projection(config, models, teacher_width)
        speak = speaker(model, _probe(prepared, examples, model.device), with_hidden=config.hidden_weight > 0)
        distiller = Distiller(kept, speak, _terms(config, models), projection)
        settings = Settings(
            lr=config.learning_rate, schedule=config.schedule, warmup=config.warmup,
            weight_decay=config.weight_decay, gradient_accumulation=config.gradient_accumulation,
            mixed_precision=compute.mixed_precision, seed=config.seed, use_cpu=compute.use_cpu,
            report_to=config.report_to, goldfish=config.goldfish, copies_per_epoch=config.copies_per_epoch,
        )  # fmt: skip

        def save_in(folder: Path) -> None:
            weights = None
            if compute.is_sharded:
                weights = gather_weights(kept, is_kept=compute.is_main, trained_only=config.lora is not None)
            if compute.is_main:
                save_student(kept, models.tokenizer, folder, weights)

        def keep_copy(epochs: float) -> None:
            save_in(prepared.folder.copy(epochs))

        def show(done: int, total: int, loss: float | None) -> None:
            told.on_progress(TRAINING, done, total, "" if loss is None else f"loss {loss:.3f}")

        losses = train(
            distiller, examples, models.frame.kind, prepared.plan, ask, settings, prepared.folder.work,
            rewrite=partial(_on_policy, prepared, model), watch=Watch(show, keep_copy),
            resume=config.resume is not False,
        )  # fmt: skip
        save_in(config.out)
    return losses


def rehearse(prepared: Prepared, folder: Path) -> float:
    """Seconds that training takes per token, from the faster of two steps, which teach nobody.

    Args:
        prepared: what to try.
        folder: for what the steps leave behind.

    Raises:
        ModelError: a model cannot be loaded, or the loss is not finite.
    """
    steps = prepared.plan.steps[:2]
    chosen = sorted({index for step in steps for part in step for index in part})
    items = tuple(prepared.examples.items[index] for index in chosen)
    place = {index: position for position, index in enumerate(chosen)}
    renumbered = [[[place[index] for index in part] for part in step] for step in steps]
    plan = Curriculum((renumbered,), tuple(int(one.ids.size) for one in items))
    config = replace(prepared.config, out=folder, copies_per_epoch=0, teacher_cache=None, resume=None, report_to="none")
    short = replace(
        prepared, config=config, folder=StudentFolder(folder, folder / manifest.FILE_NAME), plan=plan,
        examples=replace(prepared.examples, items=items),
    )  # fmt: skip
    told: list[tuple[int, float]] = []

    def note_time(stage: str, done: int, *_: object) -> None:
        if stage == TRAINING:
            told.append((done, perf_counter()))

    learn(short, Told(on_progress=note_time))
    gc.collect()
    return min((end - start) / (done - before) for (before, start), (done, end) in pairwise(told))


def _teacher(prepared: Prepared, told: Told, stack: ExitStack) -> tuple[Sequence[Example], Ask, int]:
    """What the student learns from, and how its teacher is asked; the teacher stays loaded as long as it is needed."""
    config, compute, models = prepared.config, prepared.compute, prepared.models
    examples: Sequence[Example] = prepared.examples.items
    load_teacher = partial(loaded, models.teacher, device=compute.device, dtype=compute.dtype)
    if config.sequence_level:
        with main_first(compute):
            examples = teacher_sequences(
                load_teacher, examples, prepared.folder.work / "sequences.safetensors",
                n_lead=_n_lead(models), end=models.frame.end,
                seed=_stream(config.seed, "sequences"), batch_tokens=config.batch_tokens, vocabulary=models.vocabulary,
                on_done=lambda done: told.on_progress("the teacher writes", done, len(examples), ""),
            )  # fmt: skip
    if not config.needs_teacher:
        return examples, lambda inputs, rows, epoch: None, 0
    if config.teacher_cache is not None:
        return examples, _cached(prepared, examples, told), 0
    is_cut = compute.is_sharded and models.teacher.load is None
    teacher = stack.enter_context(load_teacher(device="cpu") if is_cut else load_teacher())
    speak = speaker(teacher, _probe(prepared, examples, teacher.device), with_hidden=config.hidden_weight > 0)
    if is_cut:
        cut_layers(teacher, compute.device)
        speak = Asked(teacher, speak)
    return examples, _live(speak), models.teacher.hidden_size


def _live(speak: Speaker) -> Ask:
    import torch

    def ask(inputs: Inputs, rows: list[int], _: int) -> Any:
        with torch.no_grad():
            return speak(inputs)

    return ask


def _cached(prepared: Prepared, examples: Sequence[Example], told: Told) -> Ask:
    import torch

    config, compute, models = prepared.config, prepared.compute, prepared.models
    key = CacheKey(
        cache_version=CACHE_VERSION, teacher=models.teacher.fingerprint, dtype=compute.dtype,
        temperature=config.temperature, top_k=config.teacher_top_k, vocabulary=models.vocabulary,
        versions=tuple(f"{name} {version(name)}" for name in ("torch", "transformers")),
    )  # fmt: skip
    if config.teacher_cache is None:
        raise ValueError("no cache was asked for")
    with ExitStack() as stack:

        def speak() -> Speaker:
            teacher = stack.enter_context(loaded(models.teacher, device=compute.device, dtype=compute.dtype))
            return speaker(teacher, _probe(prepared, examples, teacher.device))

        cache = open_cache(
            config.teacher_cache, key, examples, speak, kind=models.frame.kind, n_epochs=len(prepared.plan.epochs),
            device=torch.device(compute.device), batch_tokens=scoring_batch_tokens(compute.device),
            on_tokens=lambda done, total: told.on_progress("writing down the teacher", done, total, ""),
            process=compute.process, n_processes=compute.n_processes, wait=compute.wait,
        )  # fmt: skip

    def ask(inputs: Inputs, rows: list[int], epoch: int) -> CachedOutputs:
        device = next(iter(inputs.tensors.values())).device
        said = cache.read(rows, epoch, device)
        known = [examples[row] for row in rows if row != NOTHING]
        if config.goldfish is None or not known:
            return said
        tokens = [models.frame.kind.learn(one, epoch).tokens for one in known]
        is_kept = [~is_dropped(one.ids, config.goldfish)[place] for one, place in zip(known, tokens, strict=True)]
        kept = torch.from_numpy(np.concatenate(is_kept)).to(device)
        return CachedOutputs(said.words[kept], said.log_probs[kept], said.log_rest[kept])

    return ask


def _on_policy(
    prepared: Prepared, model: Any, examples: Sequence[Example], step: int, part: int
) -> list[Example] | None:
    """What the student writes itself in the steps that are drawn for it; None in the others."""
    config = prepared.config
    if generator(config.seed, f"on-policy {step}").random() >= config.on_policy:
        return None
    return continue_all(
        model, examples, n_lead=_n_lead(prepared.models), end=prepared.models.frame.end,
        seed=_stream(config.seed, f"on-policy {step} {part}"), vocabulary=prepared.models.vocabulary,
    )  # fmt: skip


def _n_lead(models: Models) -> int:
    """Tokens that stand before all that a model writes."""
    return len(models.frame.start if models.frame.kind.is_paired else models.frame.lead)


def _terms(config: DistillConfig, models: Models) -> LossTerms:
    return LossTerms(
        objective=config.objective, beta=config.beta, hard_weight=config.weight, temperature=config.temperature,
        label_smoothing=config.label_smoothing, hidden_weight=config.hidden_weight,
        is_cosine=models.start.kind == "masked", vocabulary=models.vocabulary,
    )  # fmt: skip


def _projection(config: DistillConfig, models: Models, teacher_width: int) -> torch.nn.Linear | None:
    """From the student's hidden states to the teacher's; learnt beside the student and dropped at the end.

    None where no hidden states are compared, and for masked models of one width: DistilBERT compares these as they are.
    """
    import torch

    is_alike = models.start.kind == "masked" and models.start.hidden_size == teacher_width
    if not config.hidden_weight or is_alike:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_stream(config.seed, "projection"))
        return torch.nn.Linear(models.start.hidden_size, teacher_width, bias=False)


def _probe(prepared: Prepared, examples: Sequence[Example], device: torch.device) -> Inputs:
    return probe(examples[0], prepared.models.frame.kind, device, n_tokens=PROBE_TOKENS)


def _stream(seed: int, name: str) -> int:
    """A seed for torch, one for every named draw."""
    return crc32(f"{seed} {name}".encode())
