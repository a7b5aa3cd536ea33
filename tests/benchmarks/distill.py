"""What the training loop of `kdaudit distill` costs beside a bare one.

Prints figures, asserts nothing. Run it on an idle machine: contended threads make small models several times slower.

Speed: tokens per second over the same optimiser steps of the same batches, in alternating pairs. The bare loop is a
teacher's forward pass, a student's forward and backward pass, a one-line loss over all logits, clipping and the same
optimiser, nothing else. Memory: peak of a fresh process that takes steps of 2048 tokens at a vocabulary of 50257; the
logits' part is what a step takes beyond one that computes no logits at all.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from kdaudit.distill.batches import Inputs, collate, probe
from kdaudit.distill.data import Curriculum, make_examples, plan_steps
from kdaudit.distill.losses import IGNORED, distillation_loss
from kdaudit.distill.student import Distiller, LossTerms, speaker
from kdaudit.distill.trainer import Settings, Watch, train
from kdaudit.targets.causal import CAUSAL, causal_frame
from kdaudit.targets.plan import Example

PAIRS = 5
STEPS = 12
STEP_TOKENS = 2048
WORDS = 50257
TERMS = LossTerms(objective="forward-kl", beta=None, hard_weight=0.5, temperature=2.0)
LR = 1e-4


def main() -> None:
    """Measure what was asked for, everything by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--teacher", type=Path, help="with --student and --texts: measure these instead of GPT-2 alikes"
    )
    parser.add_argument("--student", type=Path)
    parser.add_argument("--texts", type=Path, help="JSONL of texts")
    parser.add_argument("--only", choices=["speed", "memory"], help="one part alone")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--step", choices=["ours", "bare", "body"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        take_steps(options.step, options.device)
        return
    if options.only in {None, "speed"}:
        time_loops(options)
    if options.only in {None, "memory"}:
        measure_memory(options.device)


def time_loops(options: argparse.Namespace) -> None:
    """Tokens per second of both loops on the same steps."""
    teacher, student, examples = _given(options) if options.teacher else _made(options.device)
    teacher.requires_grad_(False).eval()
    plan = _plan(examples)
    ours, bare = [], []
    for _ in range(PAIRS):
        ours.append(_time_ours(teacher, student, examples, plan))
        bare.append(_time_bare(teacher, student, examples, plan))
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    print(
        f"{len(plan.steps)} steps of at most {STEP_TOKENS} tokens on {options.device}: distill "
        f"{statistics.median(ours):,.0f} tokens/s, bare loop {statistics.median(bare):,.0f}; ratio "
        f"{statistics.median(ratios):.3f} (of {PAIRS} pairs, {min(ratios):.3f} to {max(ratios):.3f})"
    )


def _time_ours(teacher: Any, student: Any, examples: tuple[Example, ...], plan: Curriculum) -> float:
    tried = probe(examples[0], CAUSAL, teacher.device, n_tokens=64)
    ask_teacher = speaker(teacher, tried)

    def ask(inputs: Inputs, rows: list[int], epoch: int) -> Any:
        with torch.no_grad():
            return ask_teacher(inputs)

    student.requires_grad_(True)
    settings = Settings(
        lr=LR, schedule="one-cycle", warmup=0.1, weight_decay=0.01, gradient_accumulation=1, mixed_precision="no",
        seed=0, use_cpu=teacher.device.type == "cpu", report_to="none",
    )  # fmt: skip
    times: list[float] = []
    watch = Watch(on_step=lambda *_: times.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as work:
        train(
            Distiller(student, speaker(student, tried), TERMS, None),
            examples,
            CAUSAL,
            plan,
            ask,
            settings,
            Path(work),
            watch=watch,
        )
    return plan.n_tokens / (times[-1] - times[0])


def _time_bare(teacher: Any, student: Any, examples: tuple[Example, ...], plan: Curriculum) -> float:
    student.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=LR, weight_decay=0.01, fused=True)
    batches = [collate([(i, 0, examples[i]) for part in step for i in part], CAUSAL) for step in plan.steps]
    start = time.perf_counter()
    for batch in batches:
        ids, targets = batch["tensors"]["input_ids"].to(student.device), batch["targets"].to(student.device)
        with torch.no_grad():
            taught = teacher(ids).logits
        _one_line_loss(student(ids).logits, taught, targets).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    if student.device.type == "cuda":
        torch.cuda.synchronize()
    return plan.n_tokens / (time.perf_counter() - start)


def _one_line_loss(learnt: torch.Tensor, taught: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    kept = targets != IGNORED
    student, teacher, words = learnt[kept], taught[kept], targets[kept]
    hard = functional.cross_entropy(student.float(), words)
    soft = functional.kl_div(
        (student.float() / 2).log_softmax(-1),
        (teacher.float() / 2).log_softmax(-1),
        log_target=True,
        reduction="batchmean",
    )
    return 0.5 * hard + 0.5 * 4 * soft


def measure_memory(device: str) -> None:
    """Peak of a fresh process per kind of step; the logits' part is what lies above a step without logits."""
    peaks = {}
    for kind in ("body", "bare", "ours"):
        command = [sys.executable, __file__, "--step", kind, "--device", device]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[kind] = float(done.stdout.strip().splitlines()[-1])
    bare, ours = peaks["bare"] - peaks["body"], peaks["ours"] - peaks["body"]
    print(
        f"peak of a step of {STEP_TOKENS} tokens at {WORDS} words: without logits {peaks['body']:,.0f} MB, bare loop "
        f"{peaks['bare']:,.0f} MB, distill {peaks['ours']:,.0f} MB; logits' part {ours / bare:.2f} of the bare loop's"
    )


def take_steps(kind: str, device: str) -> None:
    """Two steps of one kind; prints the peak of this process in MB."""
    teacher, student = (_gpt2(layers, WORDS, seed).to(device) for seed, layers in ((0, 4), (1, 2)))
    teacher.requires_grad_(False).eval()
    ids = torch.randint(0, WORDS, (8, STEP_TOKENS // 8), generator=torch.Generator().manual_seed(0)).to(device)
    ask = [speaker(teacher, _read(ids[:1, :64])), speaker(student, _read(ids[:1, :64]))]
    for _ in range(2):
        if kind == "bare":
            with torch.no_grad():
                taught = teacher(ids).logits
            loss = _one_line_loss(student(ids).logits, taught, _predicted(ids))
        else:
            with torch.no_grad():
                said = ask[0](_read(ids)).outputs
            own = ask[1](_read(ids)).outputs
            loss = (
                own.states.square().mean()
                if kind == "body"
                else distillation_loss(
                    own,
                    said,
                    _predicted(ids),
                    objective="forward-kl",
                    hard_weight=0.5,
                    temperature=2.0,
                    n_targets=STEP_TOKENS,
                )
            )
        loss.backward()
        student.zero_grad()
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    print(peak / 1e6)


def _read(ids: torch.Tensor) -> Inputs:
    return Inputs({"input_ids": ids}, torch.full((len(ids),), ids.shape[1]))


def _predicted(ids: torch.Tensor) -> torch.Tensor:
    """What each output of a causal model predicts: the token after it."""
    return functional.pad(ids[:, 1:], (0, 1), value=IGNORED)


def _given(options: argparse.Namespace) -> tuple[Any, Any, tuple[Example, ...]]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kdaudit.records import Record

    teacher, student = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(options.device)
        for path in (options.teacher, options.student)
    )
    lines = options.texts.read_text(encoding="utf-8").splitlines()
    records = [Record(str(i), json.loads(line)["text"], i) for i, line in enumerate(lines)]
    window = int(student.config.max_position_embeddings)
    tokenizer = AutoTokenizer.from_pretrained(options.student)
    return teacher, student, make_examples(records, tokenizer, causal_frame(tokenizer), window=window).items


def _made(device: str) -> tuple[Any, Any, tuple[Example, ...]]:
    rng = np.random.default_rng(0)
    examples = tuple(Example(rng.integers(0, WORDS, size=128).astype(np.int32), 0) for _ in range(200))
    return _gpt2(4, WORDS, 0).to(device), _gpt2(2, WORDS, 1).to(device), examples


def _gpt2(n_layers: int, words: int, seed: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=words, n_embd=256, n_layer=n_layers, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    )  # fmt: skip


def _plan(examples: tuple[Example, ...]) -> Curriculum:
    sizes = [int(example.ids.size) for example in examples]
    rng = np.random.default_rng(0)
    (epoch,) = plan_steps(sizes, epochs=1, step_tokens=STEP_TOKENS, n_parts=1, rng=rng)
    steps = epoch[:STEPS]
    kept = {index for step in steps for part in step for index in part}
    return Curriculum((steps,), tuple(size if index in kept else 0 for index, size in enumerate(sizes)))


if __name__ == "__main__":
    main()
