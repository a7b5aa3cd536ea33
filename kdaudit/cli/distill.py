"""`kdaudit distill`: a student whose folder says who was a member."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from kdaudit.cli import output
from kdaudit.distill.settings import BATCH_TOKENS, HARD_WEIGHT, HOLDOUT, LEARNING_RATES, TOP_K, DistillConfig

DATA = "Records and membership"
LOSS = "Loss"
TRAINING = "Training"
MODELS = "Models"


def distill(
    teacher: Annotated[
        str, typer.Option(help="The teacher: a checkpoint folder or a Hub id. @revision pins a commit.")
    ],
    train: Annotated[
        str,
        typer.Option(
            help="The records to train on, as .jsonl, .csv, .txt, .parquet or hub:NAME[:CONFIG]:SPLIT. A record "
            "is a text, a prompt with a completion, or chat messages."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The folder for the student. The same command continues an unfinished run in it.")
    ],
    student: Annotated[str | None, typer.Option(help="Start from this checkpoint.", rich_help_panel=MODELS)] = None,
    student_layers: Annotated[
        str | None,
        typer.Option(
            help="Start from these layers of the teacher, such as 0,2,4. The first layer is 0.", rich_help_panel=MODELS
        ),
    ] = None,
    student_config: Annotated[
        Path | None,
        typer.Option(help="Start from random weights of the architecture in this config.json.", rich_help_panel=MODELS),
    ] = None,
    nonmembers: Annotated[
        str | None,
        typer.Option(help="Records that neither the teacher nor the student ever sees.", rich_help_panel=DATA),
    ] = None,
    holdout: Annotated[
        str | None,
        typer.Option(
            help=f"Hold out this share (0.2) or this number (500) of the records of --train. Default: {HOLDOUT}.",
            rich_help_panel=DATA,
        ),
    ] = None,
    coins: Annotated[
        bool,
        typer.Option(
            "--coins",
            help="Toss a fair coin for every record: heads trains on it, tails holds it out.",
            rich_help_panel=DATA,
        ),
    ] = False,
    teacher_saw: Annotated[
        str | None,
        typer.Option(
            help="Which records of --train the teacher was trained on: train, none or unknown. Needed without "
            "--nonmembers.",
            rich_help_panel=DATA,
        ),
    ] = None,
    text_field: Annotated[
        str, typer.Option(help="The field or column that holds the text.", rich_help_panel=DATA)
    ] = "text",
    id_field: Annotated[str, typer.Option(help="The field or column that holds the id.", rich_help_panel=DATA)] = "id",
    limit: Annotated[
        int | None,
        typer.Option(help="The largest number of records of each file. The seed draws them.", rich_help_panel=DATA),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="The secret key of the record ids. Default: FILE.kdaudit-key beside --train.", rich_help_panel=DATA
        ),
    ] = None,
    manifest_out: Annotated[
        Path | None,
        typer.Option(help="The file for the manifest. Default: OUT/kdaudit.json.", rich_help_panel=DATA),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="The divergence: forward-kl, reverse-kl, jsd or skew-kl. hard means the ground truth alone.",
            rich_help_panel=LOSS,
        ),
    ] = "forward-kl",
    beta: Annotated[
        float | None,
        typer.Option(
            help="The weight inside jsd (default 0.5; 0 is forward KL) or skew-kl (default 0.1).", rich_help_panel=LOSS
        ),
    ] = None,
    hard_weight: Annotated[
        float | None,
        typer.Option(
            help="w in the loss w * cross-entropy + (1 - w) * T^2 * divergence. "
            f"Default: {HARD_WEIGHT}. 0 means the teacher alone.",
            rich_help_panel=LOSS,
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="T, the temperature of both models in the divergence.", rich_help_panel=LOSS)
    ] = 1.0,
    label_smoothing: Annotated[
        float, typer.Option(help="The share of the ground truth that is spread over all words.", rich_help_panel=LOSS)
    ] = 0.0,
    goldfish: Annotated[
        int | None,
        typer.Option(
            help="Leave one token in this many out of the targets. A hash of the tokens before it chooses it.",
            rich_help_panel=LOSS,
        ),
    ] = None,
    on_policy: Annotated[
        float,
        typer.Option(
            help="The share of steps on sequences that the student writes itself. It continues each record's "
            "prompt, or the first quarter of its text. These sequences have no ground truth.",
            rich_help_panel=LOSS,
        ),
    ] = 0.0,
    sequence_level: Annotated[
        bool,
        typer.Option(
            "--sequence-level", help="Learn from what the teacher writes after each prompt.", rich_help_panel=LOSS
        ),
    ] = False,
    hidden_weight: Annotated[
        float,
        typer.Option(
            help="The weight of the loss that matches hidden states through a learned projection.", rich_help_panel=LOSS
        ),
    ] = 0.0,
    epochs: Annotated[int, typer.Option(help="The number of passes over the members.", rich_help_panel=TRAINING)] = 3,
    lr: Annotated[
        float | None,
        typer.Option(
            help=f"The peak learning rate of AdamW. Default: {LEARNING_RATES['full']:g}, "
            f"and {LEARNING_RATES['lora']:g} with --lora. Gradients are clipped at 1.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="The schedule of the learning rate: one-cycle or linear.", rich_help_panel=TRAINING)
    ] = "one-cycle",
    warmup: Annotated[
        float, typer.Option(help="The share of the steps in which the learning rate rises.", rich_help_panel=TRAINING)
    ] = 0.1,
    weight_decay: Annotated[float, typer.Option(help="The weight decay of AdamW.", rich_help_panel=TRAINING)] = 0.01,
    batch_tokens: Annotated[
        int,
        typer.Option(
            help="The number of tokens in one optimiser step over all processes. Padding does not count.",
            rich_help_panel=TRAINING,
        ),
    ] = BATCH_TOKENS,
    gradient_accumulation: Annotated[
        int,
        typer.Option(
            help="Split every step into this many batches. It changes memory, not results.", rich_help_panel=TRAINING
        ),
    ] = 1,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="The number of tokens after which a text is cut. Default: the smaller context of the two models.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    keep_epochs: Annotated[
        bool,
        typer.Option("--keep-epochs", help="Keep a copy of the student after every epoch.", rich_help_panel=TRAINING),
    ] = False,
    lora: Annotated[
        int | None, typer.Option(help="Train a LoRA adapter of this rank on all linear layers.", rich_help_panel=MODELS)
    ] = None,
    teacher_load: Annotated[
        str | None, typer.Option(help="Quantise the teacher with bitsandbytes: 4bit or 8bit.", rich_help_panel=MODELS)
    ] = None,
    student_load: Annotated[
        str | None,
        typer.Option(
            help="Quantise the weights that --lora adapts with bitsandbytes (QLoRA): 4bit or 8bit.",
            rich_help_panel=MODELS,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="The device: auto or cpu. For several devices, start kdaudit by accelerate launch.",
            rich_help_panel=TRAINING,
        ),
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="The precision of the computation: auto, float32, bfloat16 or float16. Trained weights stay in "
            "float32. auto is float32 on a CPU and bfloat16 elsewhere.",
            rich_help_panel=TRAINING,
        ),
    ] = "auto",
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing", help="Use less memory and about a third more time.", rich_help_panel=TRAINING
        ),
    ] = False,
    teacher_cache: Annotated[
        Path | None,
        typer.Option(
            help="Write the teacher's likeliest words to this folder once, then train without the teacher in memory.",
            rich_help_panel=MODELS,
        ),
    ] = None,
    teacher_top_k: Annotated[
        int,
        typer.Option(
            help="The number of words that the cache holds for each token. All other words count as one.",
            rich_help_panel=MODELS,
        ),
    ] = TOP_K,
    seed: Annotated[int, typer.Option(help="The seed of every random draw.")] = 0,
    split_seed: Annotated[
        int | None,
        typer.Option(
            help="The seed that draws the held-out records and --limit. Default: --seed.", rich_help_panel=DATA
        ),
    ] = None,
    report_to: Annotated[
        str, typer.Option(help="none, or the loggers: tensorboard, wandb, mlflow, …", rich_help_panel=TRAINING)
    ] = "none",
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Continue the unfinished run in OUT, or discard it. Default: continue.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another student in OUT.")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights, which can run code.", rich_help_panel=MODELS)
    ] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Run the modelling code that a checkpoint brings.", rich_help_panel=MODELS
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the result alone, without plan and progress.")
    ] = False,
) -> None:
    """Distil a student from a teacher, with a manifest that lets `kdaudit attack` audit it by itself.

    The loss is w * cross-entropy + (1 - w) * T^2 * divergence, a mean over the tokens of each optimiser step. AdamW,
    one cycle of the learning rate, 8192 tokens a step unless you say otherwise.

    Exit codes: 0 done, 2 usage or input wrong, 4 anything else; a killed run continues with the same command.
    """
    config = DistillConfig(
        teacher=teacher, train=train, out=out, student=student, student_layers=student_layers,
        student_config=student_config, nonmembers=nonmembers, holdout=holdout, coins=coins, teacher_saw=teacher_saw,
        text_field=text_field, id_field=id_field, limit=limit, objective=objective, beta=beta, hard_weight=hard_weight,
        temperature=temperature, label_smoothing=label_smoothing, goldfish=goldfish, on_policy=on_policy,
        sequence_level=sequence_level, hidden_weight=hidden_weight, epochs=epochs, lr=lr, schedule=schedule,
        warmup=warmup, weight_decay=weight_decay, batch_tokens=batch_tokens,
        gradient_accumulation=gradient_accumulation, max_tokens=max_tokens, lora=lora, teacher_load=teacher_load,
        student_load=student_load, device=device, dtype=dtype, gradient_checkpointing=gradient_checkpointing,
        teacher_cache=teacher_cache, teacher_top_k=teacher_top_k, copies_per_epoch=int(keep_epochs), seed=seed,
        split_seed=split_seed, report_to=report_to, resume=resume, key_file=key_file, manifest_out=manifest_out,
        trust_remote_code=trust_remote_code, allow_pickle=allow_pickle, overwrite=overwrite,
    )  # fmt: skip
    from kdaudit.cli.audit import hush_libraries  # loads torch: not at the top, so --help stays light
    from kdaudit.cli.progress import StageBars

    hush_libraries()  # before the trainer's libraries are loaded, which have advice to give
    from kdaudit.distill.learn import Told
    from kdaudit.distill.run import run_distill

    is_main = os.environ.get("RANK", "0") == "0"
    with StageBars(is_shown=is_main and not quiet) as bars:
        told = Told(
            on_plan=lambda prepared: None if quiet or not is_main else output.print_distill_plan(prepared),
            on_progress=bars.update,
        )
        try:
            content = run_distill(config, command=shlex.join(["kdaudit", *sys.argv[1:]]), told=told)
        except KeyboardInterrupt:
            output.note(f"interrupted; the same command continues from the last checkpoint in {config.out}")
            raise
    if content and is_main:
        output.print_student(content, config.out, is_quiet=quiet)
