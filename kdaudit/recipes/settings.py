"""What `kdaudit manifest` is given: each option is declared here, once, and checked when built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from kdaudit.config import ASSISTANT, KINDS, LAYOUT, PAIRS, SCORED, TXT_RECORDS, twice_piped
from kdaudit.options import Option, problems_of, refuse, strip_each
from kdaudit.recipes import TRAINERS

DATA, MODELS = "Records and membership", "Models"
NO_START = "none"
"""What --start says of a start that nobody has any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestConfig:
    """A student that another tool trained, and what it was trained with."""

    # fmt: off
    config: Annotated[Path, Option("The configuration that the tool was started with: YAML, JSON or TOML.",
        is_argument=True)]
    trainer: Annotated[str, Option("The tool that trained the student.", flag="--from", choices=tuple(TRAINERS))]
    train: Annotated[tuple[str, ...], Option(
        "The records that the student was trained on, all of them: a file, a folder of shards, a quoted pattern or "
        "hub:NAME[:CONFIG]:SPLIT. Repeatable: several are one set.", names="records", separator=";", parse=strip_each)]
    nonmembers: Annotated[tuple[str, ...], Option(
        "Records that neither the teacher nor the student has ever seen. Repeatable.",
        names="records", separator=";", parse=strip_each)]
    student: Annotated[str, Option("The folder of the student.", names="checkpoint")]
    teacher: Annotated[str | None, Option(
        "The teacher, where CONFIG does not name it or it lies elsewhere now.", MODELS, names="checkpoint")] = None
    start: Annotated[str | None, Option(
        "The checkpoint that the student started from, where CONFIG does not name it or it lies elsewhere now; none "
        "where it is gone. It serves as the reference model.", MODELS, names="checkpoint")] = None
    teacher_base: Annotated[str | None, Option(
        "The base of a teacher that is an adapter, where it lies elsewhere than the adapter says.",
        MODELS, names="checkpoint")] = None
    student_base: Annotated[str | None, Option(
        "The base of a student that is an adapter, where it lies elsewhere than the adapter says.",
        MODELS, names="checkpoint")] = None
    text_field: Annotated[str, Option("The field or column that holds the text.", DATA)] = "text"
    id_field: Annotated[str, Option("The field or column that holds the id.", DATA)] = "id"
    answer_field: Annotated[str | None, Option(
        "The field with the answer of a record with a prompt, such as chosen of preference pairs.", DATA)] = None
    pairs: Annotated[str | None, Option(
        "How a question and its answer in two fields are shown: chat, text (one after the other) or alpaca. Default: "
        "prompt and completion as text, others as a chat.", DATA, choices=PAIRS)] = None
    score: Annotated[str, Option(
        "What was learnt of a chat: last (the last answer), assistant (every answer of the assistant) or all (what the "
        "user says too). A completion is one answer.", DATA, choices=SCORED)] = ASSISTANT
    txt_record: Annotated[str, Option(
        "What is a record in a .txt file: line, paragraph or file.", DATA, choices=TXT_RECORDS)] = "line"
    skip_empty: Annotated[bool, Option("Leave empty texts out, and count them. Default: refuse them.", DATA)] = False
    key_file: Annotated[Path | None, Option(
        "The secret key of the record ids. Default: FILE.kdaudit-key beside --train.", DATA)] = None
    manifest_out: Annotated[Path | None, Option(
        "The file for the manifest. Default: kdaudit.json in the folder of the student.")] = None
    kind: Annotated[str | None, Option(
        "Read the models as one kind: causal, masked or seq2seq. Default: what their architecture says.",
        MODELS, flag="--as", choices=KINDS)] = None
    overwrite: Annotated[bool, Option("Replace a manifest that is there.")] = False
    allow_pickle: Annotated[bool, Option("Read pickled weights, which can run code.", MODELS)] = False
    trust_remote_code: Annotated[bool, Option("Run the modelling code that a checkpoint brings.", MODELS)] = False
    # fmt: on

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: lists every problem, each in a line of its own.
        """
        refuse([*problems_of(self), *_contradictions(self)], "manifest")

    @property
    def layout(self) -> dict[str, Any]:
        """How the records stand in their sources, by keyword of `kdaudit.records.read`."""
        return {name: getattr(self, name) for name in LAYOUT}

    @property
    def trust(self) -> dict[str, Any]:
        """What may be read of a checkpoint, by keyword of `kdaudit.models.checkpoint.find`."""
        return {"allow_pickle": self.allow_pickle, "trust_remote_code": self.trust_remote_code}


def _contradictions(config: ManifestConfig) -> Iterator[str]:
    for flag, given in (("--train", config.train), ("--nonmembers", config.nonmembers)):
        if not given:
            yield f"{flag}: no records are given"
    yield from twice_piped({"train": config.train, "nonmembers": config.nonmembers})
    if config.id_field == config.text_field:
        yield f"--id-field: '{config.id_field}' is the field of the text"
