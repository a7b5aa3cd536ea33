"""Distillation, stage by stage: records, models, training, utility, manifest."""

from __future__ import annotations

import gc
import hashlib
import platform
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
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

import kdaudit
from kdaudit import manifest, records
from kdaudit.artefacts import write_text
from kdaudit.distill.assignment import Assignment, assign, leave_out
from kdaudit.distill.batches import NOTHING, is_learnt
from kdaudit.distill.cache import CACHE_VERSION, CacheKey, open_cache
from kdaudit.distill.card import model_card
from kdaudit.distill.examples import Example, Examples, make_examples, plan_steps
from kdaudit.distill.folder import StudentFolder, begin, claim, earlier_student
from kdaudit.distill.generation import continue_all
from kdaudit.distill.losses import CachedOutputs, settle_beta
from kdaudit.distill.models import Compute, Models, choose_compute, find_models, learner
from kdaudit.distill.outputs import Speaker, speaker
from kdaudit.distill.saving import save_student
from kdaudit.distill.sequences import teacher_sequences
from kdaudit.distill.settings import DistillConfig
from kdaudit.distill.start import is_reference, origin
from kdaudit.distill.student import Distiller, LossTerms
from kdaudit.distill.trainer import Ask, Plan, Settings, Watch, check_loggers, newest_checkpoint, train
from kdaudit.distill.utility import HeldOut, measure_utility
from kdaudit.draws import generator
from kdaudit.errors import RecordsError
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import chat_renderer, load_tokenizer, loaded
from kdaudit.models.weights import sha256_files, weight_files
from kdaudit.signals.batch import Front
from kdaudit.views.passage import encode, lead_ids

if TYPE_CHECKING:
    import torch

    from kdaudit.records import RecordSet

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes", "datasets", "numpy")
UTILITY_BATCH_TOKENS = {True: 4096, False: 16384}  # on a CPU, elsewhere
PROBE_TOKENS = 64
TRAINING = "distilling"
"""The stage in which the student learns, counted in tokens."""


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
    plan: Plan
    held_out: HeldOut
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What a distillation tells whoever started it."""

    on_plan: Callable[[Prepared], None] = lambda _: None
    on_progress: Callable[[str, int, int, str], None] = lambda stage, done, total, note: None
    """(stage, done, total, a word on the state)."""


def run_distill(
    config: DistillConfig, *, command: str = "", told: Told = Told(), left_out: Collection[str] = ()
) -> Mapping[str, Any]:
    """Distil a student and leave it, with its manifest, in its folder; an unfinished run is continued.

    Args:
        config: what to distil from what.
        command: as the user typed it, for the manifest.
        told: what to tell.
        left_out: keyed ids of members of which the student is to learn nothing; see `manifest.record_id`.

    Returns:
        The manifest's content; of a student that is finished already, the earlier one.

    Raises:
        KdauditError: see `kdaudit.errors`; what was trained until then is kept.
    """
    compute = choose_compute(config)
    with _main_first(compute):
        folder = claim(config)
        prepared_models = find_models(config, folder.start)
        train_set, nonmembers = _read(config)
        identity = _identity(config, prepared_models, train_set, nonmembers, left_out)
        earlier = earlier_student(folder, identity)
        if earlier is not None:
            return earlier.content
        prepared = _prepare(config, prepared_models, compute, folder, train_set, nonmembers, left_out)
        if compute.is_main:
            begin(folder, identity)
    told.on_plan(prepared)
    losses = _learn(prepared, told)
    gc.collect()  # teacher and student, before the utility loads them again
    if not compute.is_main:
        return {}
    content = _describe(prepared, identity, losses, command)
    content["utility"] = _utility(prepared, told)
    write_text(config.out / "README.md", model_card(content))
    manifest.save(content, prepared.key, folder.manifest)
    shutil.rmtree(folder.work, ignore_errors=True)
    return content


def prepare(config: DistillConfig) -> Prepared:
    """Settle everything that comes before the first step of a distillation; trains nothing.

    Raises:
        KdauditError: as `run_distill`.
    """
    compute = choose_compute(config)
    with _main_first(compute):
        folder = claim(config)
        return _prepare(config, find_models(config, folder.start), compute, folder, *_read(config), ())


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
    plan = Plan((renumbered,), tuple(int(one.ids.size) for one in items))
    config = replace(prepared.config, out=folder, keep_epochs=False, teacher_cache=None, resume=None, report_to="none")
    short = replace(
        prepared, config=config, folder=StudentFolder(folder, folder / manifest.FILE_NAME), plan=plan,
        examples=replace(prepared.examples, items=items),
    )  # fmt: skip
    told: list[tuple[int, float]] = []

    def note_time(stage: str, done: int, *_: object) -> None:
        if stage == TRAINING:
            told.append((done, perf_counter()))

    _learn(short, Told(on_progress=note_time))
    gc.collect()
    return min((end - start) / (done - before) for (before, start), (done, end) in pairwise(told))


def _main_first(compute: Compute) -> Any:
    """The main process makes folders and files before the others look at them."""
    from accelerate import PartialState

    return PartialState(cpu=compute.use_cpu).main_process_first()


def _read(config: DistillConfig) -> tuple[RecordSet, RecordSet | None]:
    code, pickle = config.trust_remote_code, config.allow_pickle

    def tokenizer() -> Any:
        return load_tokenizer(find(config.teacher, option="--teacher", allow_pickle=pickle, trust_remote_code=code))

    render = chat_renderer(tokenizer)
    read = partial(records.read, text_field=config.text_field, id_field=config.id_field, render=render)
    nonmembers = read(config.nonmembers, option="--nonmembers") if config.nonmembers is not None else None
    return read(config.train, option="--train"), nonmembers


def _identity(
    config: DistillConfig,
    models: Models,
    train_set: RecordSet,
    nonmembers: RecordSet | None,
    left_out: Collection[str],
) -> dict[str, Any]:
    return {
        **config.identity(),
        "left_out_sha256": hashlib.sha256("".join(sorted(left_out)).encode()).hexdigest() if left_out else None,
        "train_sha256": train_set.sha256,
        "nonmembers_sha256": nonmembers.sha256 if nonmembers else None,
        "teacher_fingerprint": models.teacher.fingerprint,
        "start_fingerprint": models.start.fingerprint,
    }


def _prepare(
    config: DistillConfig,
    models: Models,
    compute: Compute,
    folder: StudentFolder,
    train_set: RecordSet,
    nonmembers: RecordSet | None,
    left_out: Collection[str],
) -> Prepared:
    settle_beta(config.objective, config.beta)
    check_loggers(config.report_to)
    key = manifest.make_key(manifest.key_path(config.train, config.key_file))
    assignment = leave_out(assign(config, train_set, nonmembers), left_out, key)
    examples = make_examples(assignment.trained, models.tokenizer, window=models.window)
    sizes = tuple(int(example.ids.size) for example in examples.items)
    epochs = plan_steps(
        sizes, epochs=config.epochs, step_tokens=config.batch_tokens,
        n_parts=config.gradient_accumulation * compute.n_processes, rng=generator(config.seed, "order"),
    )  # fmt: skip
    held_out, n_unscored = _held_out(assignment, models)
    notes = [*models.notes, *_continuing(config, folder)]
    if examples.n_cut:
        notes.append(
            f"{examples.n_cut} of {len(assignment.trained)} members are longer than {models.window} tokens: cut"
        )
    if examples.n_left_out:
        notes.append(f"{examples.n_left_out} members leave no token to learn and teach nothing")
    if n_unscored:
        notes.append(f"{n_unscored} held-out records have no token to score and are left out of the utility")
    plan = Plan(tuple(epochs), sizes)
    return Prepared(
        config, train_set, nonmembers, assignment, models, compute, folder, key, examples, plan, held_out, tuple(notes)
    )


def _continuing(config: DistillConfig, folder: StudentFolder) -> list[str]:
    last = newest_checkpoint(folder.work) if config.resume is not False else None
    return [f"continues after step {last.name.removeprefix('checkpoint-')} of an unfinished run"] if last else []


def _held_out(assignment: Assignment, models: Models) -> tuple[HeldOut, int]:
    front = Front(lead_ids(models.tokenizer))
    held = assignment.held_out
    passages = encode(models.tokenizer, [record.text for record in held], [record.n_prompt for record in held])
    room = models.window - len(front.lead)
    cut = [one if one.ids.size <= room else one.head(int(one.char_end[room - 1])) for one in passages]
    scored = tuple(one for one in cut if one.ids.size > front.n_unscored(one))
    if not scored:
        raise RecordsError(
            f"none of the {len(held)} held-out records has a token to score", hint="hold out more, or longer, records"
        )
    return HeldOut(scored, front, models.vocabulary), len(held) - len(scored)


def _learn(prepared: Prepared, told: Told) -> list[float]:
    """Train the student and save it; gives the losses that were logged."""
    config, compute, models = prepared.config, prepared.compute, prepared.models
    with ExitStack() as stack:
        examples, ask, teacher_width = _teacher(prepared, told, stack)
        kept, model = learner(config, models, compute)
        probe = _probe(examples, model.device)
        projection = _projection(config, models, teacher_width)
        speak = speaker(model, probe, with_hidden=projection is not None)
        distiller = Distiller(kept, speak, _terms(config, models), projection)
        settings = Settings(
            lr=config.learning_rate, schedule=config.schedule, warmup=config.warmup,
            weight_decay=config.weight_decay, gradient_accumulation=config.gradient_accumulation,
            mixed_precision=compute.mixed_precision, seed=config.seed, use_cpu=compute.use_cpu,
            report_to=config.report_to, goldfish=config.goldfish,
        )  # fmt: skip

        def keep_epoch(number: int) -> None:
            if config.keep_epochs:
                save_student(kept, models.tokenizer, prepared.folder.epoch(number))

        def show(done: int, total: int, loss: float | None) -> None:
            told.on_progress(TRAINING, done, total, "" if loss is None else f"loss {loss:.3f}")

        losses = train(
            distiller, examples, prepared.plan, ask, settings, prepared.folder.work,
            rewrite=partial(_on_policy, config, model, models), watch=Watch(show, keep_epoch),
            resume=config.resume is not False,
        )  # fmt: skip
        if compute.is_main:
            save_student(kept, models.tokenizer, config.out)
    return losses


def _teacher(prepared: Prepared, told: Told, stack: ExitStack) -> tuple[Sequence[Example], Ask, int]:
    """What the student learns from, and how its teacher is asked; the teacher stays loaded as long as it is needed."""
    config, compute, models = prepared.config, prepared.compute, prepared.models
    examples: Sequence[Example] = prepared.examples.items
    batch_tokens = max(1, config.batch_tokens // (config.gradient_accumulation * compute.n_processes))
    load_teacher = partial(loaded, models.teacher, device=compute.device, dtype=compute.dtype)
    if config.sequence_level:
        with _main_first(compute), load_teacher() as teacher:
            examples = teacher_sequences(
                teacher, examples, prepared.folder.work / "sequences.safetensors",
                n_lead=len(prepared.held_out.front.lead), end=models.tokenizer.eos_token_id,
                seed=_stream(config.seed, "sequences"), batch_tokens=batch_tokens,
                on_done=lambda done: told.on_progress("the teacher writes", done, len(examples), ""),
            )  # fmt: skip
    if not config.needs_teacher:
        return examples, lambda ids, rows: None, 0
    if config.teacher_cache is not None:
        return examples, _cached(prepared, examples, told), 0
    teacher = stack.enter_context(load_teacher())
    speak = speaker(teacher, _probe(examples, teacher.device), with_hidden=config.hidden_weight > 0)
    return examples, _live(speak), models.teacher.hidden_size


def _live(speak: Speaker) -> Ask:
    import torch

    def ask(ids: torch.Tensor, rows: list[int]) -> Any:
        with torch.no_grad():
            return speak(ids)

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
    with ExitStack() as stack, _main_first(compute):

        def speak() -> Speaker:
            teacher = stack.enter_context(loaded(models.teacher, device=compute.device, dtype=compute.dtype))
            return speaker(teacher, _probe(examples, teacher.device))

        cache = open_cache(
            config.teacher_cache, key, examples, speak, device=torch.device(compute.device),
            batch_tokens=UTILITY_BATCH_TOKENS[compute.use_cpu],
            on_tokens=lambda done, total: told.on_progress("writing down the teacher", done, total, ""),
        )  # fmt: skip

    def ask(ids: torch.Tensor, rows: list[int]) -> CachedOutputs:
        said = cache.read(rows, ids.device)
        known = [examples[row] for row in rows if row != NOTHING]
        if config.goldfish is None or not known:
            return said
        targets = [is_learnt(one, config.goldfish)[max(one.n_given, 1) :] for one in known]
        kept = torch.from_numpy(np.concatenate(targets)).to(ids.device)
        return CachedOutputs(said.words[kept], said.log_probs[kept], said.log_rest[kept])

    return ask


def _on_policy(
    config: DistillConfig, model: Any, models: Models, examples: Sequence[Example], step: int, part: int
) -> list[Example] | None:
    """What the student writes itself in the steps that are drawn for it; None in the others."""
    if generator(config.seed, f"on-policy {step}").random() >= config.on_policy:
        return None
    return continue_all(
        model, examples, n_lead=len(lead_ids(models.tokenizer)), end=models.tokenizer.eos_token_id,
        seed=_stream(config.seed, f"on-policy {step} {part}"),
    )  # fmt: skip


def _terms(config: DistillConfig, models: Models) -> LossTerms:
    return LossTerms(
        objective=config.objective, beta=config.beta, hard_weight=config.weight, temperature=config.temperature,
        label_smoothing=config.label_smoothing, hidden_weight=config.hidden_weight, vocabulary=models.vocabulary,
    )  # fmt: skip


def _projection(config: DistillConfig, models: Models, teacher_width: int) -> torch.nn.Linear | None:
    """From the student's hidden states to the teacher's; learnt beside the student and dropped at the end."""
    import torch

    if not config.hidden_weight:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_stream(config.seed, "projection"))
        return torch.nn.Linear(models.start.hidden_size, teacher_width, bias=False)


def _probe(examples: Sequence[Example], device: torch.device) -> torch.Tensor:
    import torch

    return torch.from_numpy(examples[0].ids[None, :PROBE_TOKENS].astype("int64")).to(device)


def _stream(seed: int, name: str) -> int:
    """A seed for torch, one for every named draw."""
    return crc32(f"{seed} {name}".encode())


def _describe(prepared: Prepared, identity: Mapping[str, Any], losses: list[float], command: str) -> dict[str, Any]:
    """The manifest but for the utility; no text, and no id that could be looked up without the key."""
    config, models = prepared.config, prepared.models
    folder, assignment = prepared.folder, prepared.assignment
    files = weight_files(folder.path, "--out", allow_pickle=False)
    student = find(str(config.out), option="--out", load=config.student_load, allow_pickle=config.allow_pickle,
                   trust_remote_code=config.trust_remote_code)  # fmt: skip
    start_origin = origin(config)
    start_name = models.start.name if start_origin == "checkpoint" else folder.start.name
    return {
        "kdaudit_version": kdaudit.__version__,
        "command": command,
        "identity": dict(identity),
        "data": {
            "train": _describe_set(prepared.train),
            "nonmembers": _describe_set(prepared.nonmembers) if prepared.nonmembers else None,
            "text_field": config.text_field,
            "id_field": config.id_field,
            "rule": config.holdout_rule or "nonmembers",
            "teacher_saw": config.teacher_saw,
            "key_file": str(manifest.key_path(config.train, config.key_file)),
            "members": [manifest.record_id(prepared.key, record.text) for record in assignment.members],
            "held_out": [manifest.record_id(prepared.key, record.text) for record in assignment.held_out],
            "left_out": [manifest.record_id(prepared.key, record.text) for record in assignment.left_out],
        },
        "teacher": models.teacher.describe(),
        "start": {
            **models.start.describe(),
            "name": start_name,
            "origin": start_origin,
            "layers": config.student_layers,
            "is_reference": is_reference(config),
        },
        "student": {
            **student.describe(),
            "name": config.out.resolve().name,
            "files_sha256": sha256_files(files),
        },
        "training": {
            **config.identity(),
            "hard_weight": config.weight,
            "beta": settle_beta(config.objective, config.beta),
            "steps": len(prepared.plan.steps),
            "tokens": prepared.plan.n_tokens,
            "window_tokens": models.window,
            "cut": prepared.examples.n_cut,
            "vocabulary": models.vocabulary,
            "processes": prepared.compute.n_processes,
            "device": prepared.compute.device,
            "dtype": prepared.compute.dtype,
            "mixed_precision": prepared.compute.mixed_precision,
            "losses": losses,
            "optimizer": "AdamW, gradients clipped at 1",
            "notes": list(prepared.notes),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def _describe_set(found: RecordSet) -> dict[str, Any]:
    return {
        "source": found.source,
        "sha256": found.sha256,
        "records": len(found.records),
        "duplicates": found.n_duplicates,
    }


def _utility(prepared: Prepared, told: Told) -> dict[str, Any]:
    config, compute, models = prepared.config, prepared.compute, prepared.models
    options = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
    student = find(str(config.out), option="--out", load=config.student_load, **options)
    return measure_utility(
        {"teacher": models.teacher, "start": models.start, "student": student},
        prepared.held_out,
        device=compute.device,
        dtype=compute.dtype,
        batch_tokens=UTILITY_BATCH_TOKENS[compute.use_cpu],
        seed=config.seed,
        on_progress=lambda done, total: told.on_progress("utility", done, total, ""),
    )
