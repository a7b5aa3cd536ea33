"""The training loop: transformers' Trainer, with our batches and our loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from kdaudit.distill.batches import NOTHING, ExampleSet, Inputs, PlannedBatches, collate
from kdaudit.distill.data import Curriculum
from kdaudit.distill.folder import newest_checkpoint, seal
from kdaudit.distill.losses import count_targets
from kdaudit.distill.sharding import (
    gather_optimizer,
    gather_weights,
    layer_classes,
    set_optimizer,
    set_weights,
    whole,
)
from kdaudit.distill.student import Distiller, Taught
from kdaudit.errors import ConfigError, ModelError
from kdaudit.foreign import reading
from kdaudit.models.environment import is_sharded, restored_environment
from kdaudit.models.surgery import NoNorm
from kdaudit.signals.running import explaining_unread_tokens, is_out_of_memory
from kdaudit.targets.plan import Example, Kind

WEIGHTS = "model.safetensors"  # the names that the trainer looks for when it continues
OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"
SAVES = 10  # checkpoints of a run
SAVE_SECONDS = 600  # between two checkpoints at most
LOG_STEPS = 10

Ask = Callable[[Inputs, list[int], int], Taught]
"""A batch, the examples in it and the epoch -> what the teacher says of them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the loop runs."""

    lr: float
    schedule: str
    warmup: float
    weight_decay: float
    gradient_accumulation: int
    mixed_precision: str
    """no, bf16 or fp16."""
    seed: int
    use_cpu: bool
    report_to: str
    goldfish: int | None = None
    """One token in this many is not learnt; None: all are."""
    copies_per_epoch: int = 0
    """How often `Watch.on_copy` is told in every epoch."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What the loop tells whoever started it."""

    on_step: Callable[[int, int, float | None], None] = lambda done, total, loss: None
    """(tokens done, tokens in all, mean loss of the last steps or None)."""
    on_copy: Callable[[float], None] = lambda epochs: None
    """Told where a copy is to be kept, with the epochs that are done, in every process."""


def train(
    distiller: Distiller,
    examples: Sequence[Example],
    kind: Kind,
    plan: Curriculum,
    ask: Ask,
    settings: Settings,
    work: Path,
    *,
    rewrite: Callable[[Sequence[Example], int, int], list[Example] | None] = lambda *_: None,
    watch: Watch = Watch(),
    resume: bool = True,
) -> list[float]:
    """Train the student inside of `distiller`; checkpoints of the run lie in `work`.

    Args:
        distiller: changed in place; left in eval mode on the training device.
        examples: what the plan's indices mean.
        kind: of teacher and student: says which outputs predict which tokens.
        plan: the steps.
        ask: the teacher.
        settings: of the loop.
        work: folder of the run's checkpoints; the newest whole one is continued.
        rewrite: (examples of a batch, step, part) -> what the student learns from instead, or None: as they are.
        watch: what to tell.
        resume: continue what is in `work`.

    Returns:
        Mean loss of every `LOG_STEPS` steps, nats per token.

    Raises:
        ModelError: the loss or a gradient is not finite; the last good checkpoint is kept.
    """
    with torch.random.fork_rng(devices=[]), restored_environment():  # the trainer seeds torch's global state
        trainer = _DistillTrainer(distiller, examples, kind, plan, ask, settings, work, rewrite, watch)
        trainer.remove_callback(PrinterCallback)  # it prints to stdout
        last = newest_checkpoint(work) if resume else None
        with _saying_what_memory_needs():
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    distiller.eval()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    ends = range(LOG_STEPS, len(losses) + 1, LOG_STEPS)
    return [math.fsum(losses[end - LOG_STEPS : end]) / LOG_STEPS for end in ends]


@contextmanager
def _saying_what_memory_needs() -> Iterator[None]:
    try:
        with explaining_unread_tokens("a model"):
            yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            "memory ran out while training; the last checkpoint is kept",
            hint="the same command with a larger --gradient-accumulation, with --gradient-checkpointing, "
            "--teacher-load 4bit or --teacher-cache continues, or starts over with less",
        ) from error


class _DistillTrainer(Trainer):
    """Our batches, our loss, and checkpoints that hold what is trained."""

    def __init__(
        self,
        distiller: Distiller,
        examples: Sequence[Example],
        kind: Kind,
        plan: Curriculum,
        ask: Ask,
        settings: Settings,
        work: Path,
        rewrite: Callable[[Sequence[Example], int, int], list[Example] | None],
        watch: Watch,
    ) -> None:
        self._examples, self._plan, self._ask, self._rewrite = examples, plan, ask, rewrite
        self._settings, self._distiller, self._is_sharded = settings, distiller, is_sharded()
        self._collate = partial(collate, kind=kind, goldfish=settings.goldfish)
        self._n_steps = len(plan.steps)
        arguments = TrainingArguments(
            output_dir=str(work), max_steps=self._n_steps, gradient_accumulation_steps=settings.gradient_accumulation,
            learning_rate=settings.lr, weight_decay=settings.weight_decay, max_grad_norm=1.0,
            bf16=settings.mixed_precision == "bf16", fp16=settings.mixed_precision == "fp16",
            use_cpu=settings.use_cpu, seed=settings.seed, report_to=_loggers(settings.report_to),
            save_strategy="no", save_total_limit=2, logging_nan_inf_filter=False,
            logging_steps=1,  # a mean over several would begin anew where a killed run is continued
            disable_tqdm=True, remove_unused_columns=False, ddp_find_unused_parameters=False,
            accelerator_config={"even_batches": False}, dataloader_pin_memory=not settings.use_cpu,
        )  # fmt: skip
        if arguments.n_gpu > 1:
            arguments._n_gpu = 1  # several devices take several processes (accelerate launch), not copies in threads
        teller = _Teller(plan, watch, settings)
        super().__init__(model=distiller, args=arguments, callbacks=[teller])

    def create_accelerator_and_postprocess(self) -> None:
        """Under FSDP kdaudit says which layers are cut, and has the loss and the sums of gradients in float32."""
        super().create_accelerator_and_postprocess()
        if not self._is_sharded:
            return
        if not getattr(self.accelerator, "is_fsdp2", False):
            raise ConfigError("this accelerate does not train by FSDP2", hint="update accelerate to 1.6 or newer")
        plugin = self.accelerator.state.fsdp_plugin
        plugin.auto_wrap_policy = transformer_auto_wrap_policy
        plugin.transformer_cls_names_to_wrap = layer_classes(self._distiller.student)
        is_mixed = self._settings.mixed_precision == "bf16"
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if is_mixed else None, reduce_dtype=torch.float32, output_dtype=None
        )  # the output is the loss, and stays in float32

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader: DataLoader[Any] = DataLoader(
            ExampleSet(self._examples), batch_sampler=PlannedBatches(self._plan.epochs), collate_fn=self._collate,
            pin_memory=self.args.dataloader_pin_memory,
        )  # fmt: skip
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Scales are not drawn towards 0: not those of a norm, and not those of what took its place."""
        spared = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, NoNorm)}
        return [name for name in super().get_decay_parameter_names(model) if name not in spared]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """One cycle, or linear with warm-up."""
        chosen: Any = optimizer or self.optimizer
        share = self._settings.warmup
        if num_training_steps == 1:  # of a single step every schedule is the end, where nothing is learnt
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, lambda _: 1.0)
        elif self._settings.schedule == "linear":
            n_warm = math.ceil(share * num_training_steps)
            self.lr_scheduler = get_linear_schedule_with_warmup(chosen, n_warm, num_training_steps)
        else:
            if share * num_training_steps == 1:
                share += 1e-9  # a rise of no step at all, which torch divides by
            cycle: Any = torch.optim.lr_scheduler.OneCycleLR(
                chosen, self._settings.lr, total_steps=num_training_steps, pct_start=share, cycle_momentum=False
            )
            self.lr_scheduler = cycle
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """The parts of one step that fall to this process, and the targets of the whole step."""
        parts = [next(epoch_iterator) for _ in range(num_batches)]
        for k, part in enumerate(parts):
            rows = part["rows"].tolist()
            known = [self._examples[row] for row in rows if row != NOTHING]
            position = k * self.accelerator.num_processes + self.accelerator.process_index
            rewritten = self._rewrite(known, self.state.global_step, position) if known else None
            part["is_own"] = rewritten is not None
            if rewritten is not None:
                epoch = int(part["epoch"])
                part.update(self._collate([(row, epoch, one) for row, one in zip(rows, rewritten, strict=True)]))
        n_own = [sum(count_targets(part["targets"]) for part in parts), sum(int(part["sizes"].sum()) for part in parts)]
        n_targets, n_read = self.accelerator.gather(torch.tensor([n_own], device=device)).sum(dim=0).clamp(min=1)
        for part in parts:
            part["n_read"] = n_read
        return parts, n_targets

    def compute_loss(
        self, model: torch.nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This part's share of the step's mean loss; summed over parts and averaged over processes by the trainer."""
        read = Inputs(inputs["tensors"], inputs["sizes"])
        taught = self._ask(read, inputs["rows"].tolist(), int(inputs["epoch"]))
        loss = model(
            inputs=read, targets=inputs["targets"], taught=taught, n_targets=num_items_in_batch,
            n_read=inputs["n_read"], is_own=inputs["is_own"],
        )  # fmt: skip
        if not bool(torch.isfinite(loss)):
            raise _not_finite("loss", float(loss.detach()), self.state.global_step + 1, Path(str(self.args.output_dir)))
        return loss * self.accelerator.num_processes

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # every process writes the state of its random numbers
        if self.args.should_save:
            seal(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with _reading(resume_from_checkpoint):
            if self._is_sharded:
                set_weights(self._distiller, load_file(Path(resume_from_checkpoint) / WEIGHTS))
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A checkpoint lacks frozen and tied weights by design: the trainer would call that a loss."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The same files as those of one process, which any number of processes can continue."""
        if not self._is_sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        optimizer, scheduler = self._optimizer_and_scheduler()
        state = gather_optimizer(optimizer, is_kept=self.args.should_save)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER)
            torch.save(scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _reading(checkpoint):
            if not self._is_sharded:
                super()._load_optimizer_and_scheduler(checkpoint)
            elif checkpoint is not None:
                optimizer, scheduler = self._optimizer_and_scheduler()
                set_optimizer(optimizer, torch.load(Path(checkpoint) / OPTIMIZER, weights_only=True, mmap=True))
                scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))

    def _optimizer_and_scheduler(self) -> tuple[Any, Any]:
        return self.optimizer, self.lr_scheduler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Under FSDP every process has a part in it: the trainer would write the weights in a format of its own."""
        if self._is_sharded:
            self._save(output_dir)
        else:
            super().save_model(output_dir, _internal_call)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _reading(checkpoint):
            super()._load_rng_state(checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """What is trained, each weight once: a frozen base and tied copies need no room in every checkpoint."""
        folder = Path(output_dir or str(self.args.output_dir))
        weights = gather_weights(self._distiller, is_kept=self.args.should_save, trained_only=True)
        if not self.args.should_save:
            return
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / WEIGHTS)


def _reading(checkpoint: str | None) -> AbstractContextManager[None]:
    """Explain errors of a checkpoint that is as it was written, yet not what this run would write."""
    return reading(f"{checkpoint} cannot be continued", ModelError, hint="start over by --no-resume")


class _Teller(TrainerCallback):
    """Says how far the loop is, when to write a checkpoint, and when a gradient is not finite."""

    def __init__(self, plan: Curriculum, watch: Watch, settings: Settings) -> None:
        self._watch, self._checks_gradients = watch, settings.mixed_precision != "fp16"
        sizes = plan.sizes
        per_step = [sum(sizes[i] for part in step for i in part) for step in plan.steps]
        self._done = list(accumulate(per_step, initial=0))  # tokens after each step
        self._n_steps = len(per_step)
        self._total, self._copies = plan.n_tokens, plan.copies(settings.copies_per_epoch)
        self._every = max(1, math.ceil(self._n_steps / SAVES))
        self._saved_at = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._watch.on_step(self._done[state.global_step], self._total, None)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._checks_gradients:
            return  # a scaler looks at float16 gradients itself and leaves such a step out
        gradients = [weight.grad for weight in kwargs["model"].parameters() if weight.grad is not None]
        norm = float(whole(torch.nn.utils.get_total_norm(gradients)))
        if not math.isfinite(norm):
            raise _not_finite("gradient", norm, state.global_step + 1, Path(str(args.output_dir)))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        step = state.global_step
        loss = state.log_history[-1].get("loss") if state.log_history else None
        self._watch.on_step(self._done[step], self._total, loss)
        if step in self._copies:
            self._watch.on_copy(self._copies[step])
        is_due = step % self._every == 0 or step == self._n_steps
        if args.world_size == 1:  # the clocks of several processes differ, and all must save together
            is_due = is_due or time.monotonic() - self._saved_at > SAVE_SECONDS
        if is_due:
            control.should_save = True
            self._saved_at = time.monotonic()
        return control


def _not_finite(what: str, value: float, step: int, work: Path) -> ModelError:
    last = newest_checkpoint(work)
    kept = f"the weights after step {last.name.removeprefix('checkpoint-')} are kept in {last}" if last else ""
    return ModelError(
        f"the {what} is {value} at step {step}: training stopped" + (f"; {kept}" if kept else ""),
        hint="lower --lr, take --dtype float32 or bfloat16, or look for damaged texts; start over with --no-resume",
    )


def check_loggers(report_to: str) -> None:
    """Refuse a logger that does not exist or is not installed, before anything is trained.

    Raises:
        ConfigError: naming it, and those that are there.
    """
    from transformers.integrations.integration_utils import get_available_reporting_integrations

    there = get_available_reporting_integrations()
    lacking = [name for name in _loggers(report_to) if name not in there]
    if lacking:
        raise ConfigError(
            f"--report-to: '{lacking[0]}' is not a logger, or is not installed",
            hint=f"installed here: {', '.join(there) or 'none'}; or leave it out",
        )


def _loggers(report_to: str) -> list[str]:
    return [] if report_to == "none" else [name.strip() for name in report_to.split(",")]
