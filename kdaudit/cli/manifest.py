"""`kdaudit manifest`: a student that another tool trained becomes one that can be audited by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kdaudit.cli import output
from kdaudit.cli.command import Command, Given, Quiet
from kdaudit.options import options_of
from kdaudit.recipes.settings import ManifestConfig
from kdaudit.report.blocks import Notes, Table

NOT_TOLD = "not told"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSwitches:
    """What the command prints."""

    quiet: Quiet = False


def manifest(given: Given) -> None:
    """Write the manifest of a student that another tool trained, so that `kdaudit attack` audits it by itself.

    All records of --train are its members. What CONFIG does not tell of the recipe stays out of the manifest, and
    what makes the recipe another than it looks is said.

    Exit codes: 0 done, 2 usage or input wrong, 4 anything else.
    """
    config = given.build(ManifestConfig)
    is_quiet = given.build(ManifestSwitches).quiet
    from kdaudit.cli.progress import hush_libraries  # loads torch: not at the top, so --help stays light

    hush_libraries()
    from kdaudit.recipes.run import write_manifest

    path, content = write_manifest(config, command=given.line)
    if is_quiet:
        return
    data, notes = content["data"], content["training"]["notes"]
    output.show([Table(f"What {config.config} tells", ("setting", "value"), tuple(_rows(content)))])
    if notes:
        output.show([Notes(tuple(notes), "What to know of it")])
    output.note(f"written: {path}; the key of its record ids: {data['key_file']} (never publish it)")
    elsewhere = f" --manifest {path}" if config.manifest_out else ""
    output.note(
        f"audit it: kdaudit attack --teacher {content['teacher']['name']} --student {config.student}{elsewhere}"
    )


def _rows(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    training, data = content["training"], content["data"]
    yield "trainer", training["trainer"]
    yield "teacher", content["teacher"]["name"]
    yield "start", content["start"]["name"] if "start" in content else NOT_TOLD
    yield "members", f"{len(data['members']):,}"
    yield "held out", f"{len(data['held_out']):,}"
    for words, name in (
        ("objective", "objective"), ("beta", "beta"), ("weight on the ground truth", "hard_weight"),
        ("temperature", "temperature"), ("share of steps on the student's own texts", "on_policy"),
        ("epochs", "epochs"), ("learning rate", "lr"), ("tokens of a text at most", "max_tokens"),
        ("rank of the adapter", "lora"),
    ):  # fmt: skip
        found = training.get(name)
        if found is not None or name not in {"beta", "on_policy", "lora"}:
            yield words, NOT_TOLD if found is None else f"{found:g}" if isinstance(found, float) else str(found)


COMMAND = Command(
    "manifest",
    manifest,
    (*options_of(ManifestConfig), *options_of(ManifestSwitches)),
    variables="KDAUDIT_MANIFEST",
    example="kdaudit manifest --from trl gkd.yaml --train train.jsonl --nonmembers others.jsonl --student STUDENT",
)
