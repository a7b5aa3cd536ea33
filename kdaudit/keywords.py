"""Options as keywords, written by `pytest --update-golden` from the fields of the configurations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict


class AuditKeywords(TypedDict, total=False):
    """The further options of `kdaudit.audit`."""

    teacher_run: str | Path | None
    """An earlier run folder, in the place of teacher: the scores of its teacher, or of its one model, on the same
    records. That teacher is not asked again."""
    data: str | Sequence[str | Path]
    """Members and non-members together, in any of the same forms. Give member_field, or both text fields.
    Repeatable."""
    member_field: str | None
    """The field of data that says of every record whether it is a member: 1 or 0, true or false, member or
    nonmember."""
    member_text_field: str | None
    """The field of a member's text, where it is another than text_field."""
    nonmember_text_field: str | None
    """The field of a non-member's text, where it is another than text_field."""
    manifest: str | Path | None
    """The manifest of the student. Default: kdaudit.json in its folder."""
    key_file: str | Path | None
    """The key of the manifest's record ids. Default: the key beside the training file."""
    text_field: str
    """The field or column that holds the text."""
    id_field: str
    """The field or column that holds the id. Where there is none, the id is a keyed hash of the text."""
    answer_field: str | None
    """The field with the answer of a record with a prompt, such as chosen of preference pairs."""
    pairs: str | None
    """How a question and its answer in two fields are shown: chat, text (one after the other) or alpaca. Default:
    prompt and completion as text, others as a chat."""
    chat_template: str | Path
    """Whose template writes chats: own (each model's), teacher, student, or the file of a template. With own, the words
    of an answer alone are scored where templates differ."""
    score: str | None
    """What is scored of a chat: last (the last answer), assistant (every answer of the assistant) or all (what the user
    says too). A completion is one answer. Default: what a distilled student learnt, else assistant."""
    txt_record: str
    """What is a record in a .txt file: line, paragraph or file."""
    skip_empty: bool
    """Leave empty texts out, and count them. Default: refuse them."""
    n_shots: int
    """How many shots prefix attacks put before a text."""
    teacher_reference: str | Path | None
    """The checkpoint that the teacher started from, before it saw the members."""
    student_references: str | Sequence[str | Path | None]
    """The checkpoint that the student started from. Give one for all students, or one for each student."""
    model_reference: str | Path | None
    """The checkpoint that a model that is audited alone started from."""
    teacher_base: str | Path | None
    """The base of a teacher that is an adapter, where it lies elsewhere than the adapter says."""
    student_bases: str | Sequence[str | Path]
    """The base of students that are adapters, where it lies elsewhere than they say. Give one for all students, or one
    for each student."""
    model_base: str | Path | None
    """The base of a model that is audited alone and is an adapter, where it lies elsewhere than the adapter says."""
    attacks: str | Sequence[str]
    """An attack, or a group of attacks (paper, all). Repeatable, or joined by commas. Default: paper."""
    settings: str | Sequence[str]
    """A parameter of an attack, such as min-k.fraction=0.1. Repeatable. list_attacks lists all."""
    gates: str | Sequence[str]
    """A limit such as 'student.auc <= 0.60' or 'difference.auc <= 0.02'. Repeatable, or joined by commas."""
    overwrite: bool
    """Replace another run in the folder."""
    seed: int
    """The seed of every random draw."""
    limit: int | None
    """The largest number of records of each class. The seed draws them."""
    max_tokens: int | None
    """The number of tokens after which a text is cut. Default: the smallest context of the models."""
    calibration_share: float
    """The share of each class that fits thresholds. These records do not measure the thresholds."""
    batch_tokens: int | None
    """The number of tokens in one forward pass. Default: 4096 on a CPU, 16384 elsewhere."""
    signals: str | None
    """What the run folder keeps of a pass: full (numbers of every token) or reduced (the scores). Default: full, and
    reduced from 200,000 records on."""
    device: str
    """The device: auto, cuda, cuda:N, mps or cpu."""
    device_map: str | None
    """Put each model on several devices: auto (its layers on the GPUs, then on the CPU) or tp (every layer in parts,
    one in each process that torchrun starts). Default: one device."""
    max_memory: str | None
    """What a model and its batches may take of each GPU, and of the CPU, under device_map auto, such as
    24GiB,24GiB,cpu=64GiB. Default: what is free."""
    dtype: str
    """The precision: auto, float32, bfloat16 or float16. auto is float32 on a CPU, and the checkpoint's own
    elsewhere."""
    attention: str | None
    """How attention is computed: eager, sdpa, flash_attention_2 or flash_attention_3. The last two need a package and a
    GPU, and read batches without padding. Default: as transformers decides."""
    teacher_load: str | None
    """Quantise the teacher with bitsandbytes: 4bit or 8bit."""
    student_load: str | None
    """Quantise the students with bitsandbytes: 4bit or 8bit."""
    model_load: str | None
    """Quantise a model that is audited alone with bitsandbytes: 4bit or 8bit."""
    kind: str | None
    """Read all models as one kind: causal, masked or seq2seq. Default: what their architecture says."""
    mask_plan: str | None
    """What is hidden from a masked model: partition, pll, pll-word or random:K. Default: partition."""
    mask_groups: int | None
    """The number of groups of words, and so of passes, in a partition. Default: 7."""
    allow_pickle: bool
    """Read pickled weights, which can run code. Default: read safetensors only."""
    trust_remote_code: bool
    """Run the modelling code that a checkpoint brings."""
    paper_compat: bool
    """Add the paper's in-sample figures to results.json. No gate reads them."""


class DistillKeywords(TypedDict, total=False):
    """The further options of `kdaudit.distill`."""

    student_layers: str | None
    """Start from these layers of the teacher, such as 0,2,4. The first layer is 0."""
    student_config: str | Path | None
    """Start from random weights of the architecture in this config.json."""
    holdout: str | None
    """Hold out this share (0.2) or this number (500) of the records of train. Default: 0.2."""
    coins: bool
    """Toss a fair coin for every record: heads trains on it, tails holds it out."""
    teacher_saw: str | None
    """Which records of train the teacher was trained on: train, none or unknown. Needed without nonmembers."""
    text_field: str
    """The field or column that holds the text."""
    id_field: str
    """The field or column that holds the id."""
    answer_field: str | None
    """The field with the answer of a record with a prompt, such as chosen of preference pairs."""
    pairs: str | None
    """How a question and its answer in two fields are shown: chat, text (one after the other) or alpaca. Default:
    prompt and completion as text, others as a chat."""
    score: str
    """What is learnt of a chat: last (the last answer), assistant (every answer of the assistant) or all (what the user
    says too). A completion is one answer."""
    txt_record: str
    """What is a record in a .txt file: line, paragraph or file."""
    skip_empty: bool
    """Leave empty texts out, and count them. Default: refuse them."""
    limit: int | None
    """The largest number of records of each file. The seed draws them."""
    key_file: str | Path | None
    """The secret key of the record ids. Default: FILE.kdaudit-key beside train."""
    manifest_out: str | Path | None
    """The file for the manifest. Default: OUT/kdaudit.json."""
    objective: str
    """The divergence: forward-kl, reverse-kl, jsd or skew-kl. hard means the ground truth alone."""
    beta: float | None
    """The weight inside jsd (default 0.5; 0 is forward KL) or skew-kl (default 0.1)."""
    hard_weight: float | None
    """w in the loss w * cross-entropy + (1 - w) * T^2 * divergence. Default: 0.5. 0 means the teacher alone."""
    temperature: float
    """T, the temperature of both models in the divergence."""
    label_smoothing: float
    """The share of the ground truth that is spread over all words."""
    goldfish: int | None
    """Leave one token in this many out of the targets. A hash of the tokens before it chooses it."""
    on_policy: float
    """The share of steps on sequences that the student writes itself. It continues each record's prompt, or the first
    quarter of its text. These sequences have no ground truth."""
    sequence_level: bool
    """Learn from what the teacher writes after each prompt. Masked models write nothing."""
    hidden_weight: float
    """The weight of the loss that matches hidden states: squared distances of all layers, or one minus the cosine of
    the last layers of masked models."""
    epochs: int
    """The number of passes over the members."""
    lr: float | None
    """The peak learning rate of AdamW. Default: 5e-05, and 0.0002 with lora. Gradients are clipped at 1."""
    schedule: str
    """The schedule of the learning rate: one-cycle or linear."""
    warmup: float
    """The share of the steps in which the learning rate rises."""
    weight_decay: float
    """The weight decay of AdamW."""
    batch_tokens: int
    """The number of tokens in one optimiser step over all processes. Padding does not count."""
    gradient_accumulation: int
    """Split every step into this many batches. It changes memory, not results."""
    max_tokens: int | None
    """The number of tokens after which a text is cut. Default: the smaller context of the two models."""
    copies_per_epoch: int
    """Keep a copy of the student after every epoch."""
    kind: str | None
    """Read both models as one kind: causal, masked or seq2seq. Default: what their architecture says."""
    whole_word: bool
    """Hide 15 % of the words from a masked model in every epoch, instead of 15 % of the tokens."""
    lora: int | None
    """Train a LoRA adapter of this rank on all linear layers."""
    teacher_load: str | None
    """Quantise the teacher with bitsandbytes: 4bit or 8bit."""
    teacher_base: str | Path | None
    """The base of a teacher that is an adapter, where it lies elsewhere than the adapter says."""
    student_load: str | None
    """Quantise the weights that lora adapts with bitsandbytes (QLoRA): 4bit or 8bit."""
    device: str
    """The device: auto or cpu. For several devices, start kdaudit by accelerate launch."""
    dtype: str
    """The precision of the computation: auto, float32, bfloat16 or float16. Trained weights stay in float32. auto is
    float32 on a CPU and bfloat16 elsewhere."""
    gradient_checkpointing: bool
    """Use less memory and about a third more time."""
    teacher_cache: str | Path | None
    """Write the teacher's likeliest words to this folder once, then train without the teacher in memory."""
    teacher_top_k: int
    """The number of words that the cache holds for each token. All other words count as one."""
    seed: int
    """The seed of every random draw."""
    split_seed: int | None
    """The seed that draws the held-out records and limit. Default: seed."""
    report_to: str
    """Where the training is logged: none, tensorboard, wandb, mlflow, …"""
    resume: bool | None
    """Continue the unfinished run in OUT, or discard it. Default: continue."""
    overwrite: bool
    """Replace another student in OUT."""
    allow_pickle: bool
    """Read pickled weights, which can run code."""
    trust_remote_code: bool
    """Run the modelling code that a checkpoint brings."""
