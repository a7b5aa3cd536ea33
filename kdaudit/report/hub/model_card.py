"""A model card for the Hub: its section on the audit, and the card's index of results."""

from __future__ import annotations

import codecs
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CardData, EvalResult, ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

from kdaudit.artefacts import replacing
from kdaudit.errors import ConfigError
from kdaudit.foreign import read_bytes
from kdaudit.metrics import METRICS
from kdaudit.report import checks, tables
from kdaudit.report.blocks import Block, Detail, Notes, Paragraph, Section, shown
from kdaudit.report.headline import strongest_notes
from kdaudit.report.reading import Report
from kdaudit.report.render import section_to_markdown
from kdaudit.report.text import MAX_NAME, plain
from kdaudit.results import AuditResult

BEGIN, END = "<!-- kdaudit:begin -->", "<!-- kdaudit:end -->"
"""Each on a line of its own; what stands between is rewritten."""

QUESTION = "How well can an attacker tell which records this model was trained on? 0.5 is guessing, 1 is certainty."
MAX_CARD = 2**24  # bytes

_MARKER = re.compile(rb"^(?:\xef\xbb\xbf)?[ \t]*<!-- kdaudit:(begin|end) -->[ \t]*(?=\r?$)", re.MULTILINE)


def update_model_card(path: Path, report: Report, *, with_index: bool) -> None:
    """Rewrite the section of the card at `path`, which describes the first student, or the model, of the only run.

    Args:
        path: an existing file.
        report: of one run.
        with_index: whether the metadata at its top gets the figures too.

    Raises:
        ConfigError: the file cannot be read, its markers do not pair up, or its metadata cannot be extended.
        OutputError: it cannot be written.
        DiskFullError: no space is left; the card is as it was.
    """
    try:
        card = read_bytes(path, at_most=MAX_CARD)
    except ValueError as error:
        raise ConfigError(f"--model-card: {path}: {error}") from error
    except OSError as error:
        hint = "--model-card rewrites a section of an existing file"
        raise ConfigError(f"--model-card: {path} cannot be read: {error.strerror}", hint=hint) from error
    changed = rewrite_section(card, render_section(report), name=str(path))
    if with_index:
        from kdaudit.report.hub.model_card import rewrite_index  # loads huggingface_hub

        changed = rewrite_index(changed, report.runs[0].result, name=str(path))
    if changed != card:
        target = path.resolve()  # a card of a cache is a link
        with replacing(target) as waiting:
            waiting.write_bytes(changed)
            shutil.copymode(target, waiting)


def render_section(report: Report) -> str:
    """The section in Markdown, without its markers."""
    (run,) = report.runs
    result = run.result
    data, validity = result.data, checks.checks(result)
    waived = [f"{gate.gate}: {gate.reason}" for gate in result.verdict.gates if gate.status == "waived"]
    notes = [*checks.unscored_notes(result), *result.validity.warnings]
    blocks: list[Block] = [
        Paragraph(QUESTION),
        Paragraph(result.verdict.sentence, "strong"),
        Notes(waived),
        tables.metric_table(result, METRICS["auc"]),
        Notes(list(strongest_notes(result))),
        validity,
        Notes(notes),
        Paragraph(
            f"{data.members} members, {data.nonmembers} non-members, kdaudit {result.kdaudit_version}. These attacks "
            "on these records: it does not prove that nothing else leaks."
        ),
    ]
    return section_to_markdown(Section("Membership-inference audit", "", shown(blocks, Detail.TERMINAL)))


def rewrite_section(card: bytes, section: str, *, name: str) -> bytes:
    """The card with `section` between its markers; with both at its end where it has none.

    Args:
        card: in an encoding that holds ASCII, with any line ends.
        section: lines that end in a newline; it gets the line ends of the card.
        name: of the card, for messages.

    Raises:
        ConfigError: the card is UTF-16, one marker is missing, they are in the wrong order, or there is more than
            one pair.
    """
    if card.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"--model-card: {name} is UTF-16 or UTF-32", hint="save it as UTF-8")
    line_end = b"\r\n" if b"\r\n" in card else b"\n"
    lines = section.encode().replace(b"\n", line_end)
    markers = list(_MARKER.finditer(card))
    if not markers:
        gap = b"" if not card else line_end if card.endswith(b"\n") else 2 * line_end
        return b"".join([card, gap, BEGIN.encode(), line_end, lines, END.encode(), line_end])
    if [marker[1] for marker in markers] != [b"begin", b"end"]:
        lines_of = [card[: marker.start()].count(b"\n") + 1 for marker in markers]
        found = ", ".join(
            f"{marker[1].decode()} in line {line}" for marker, line in zip(markers, lines_of, strict=True)
        )
        raise ConfigError(
            f"--model-card: {name} must hold {BEGIN} and then {END}, each once; it holds: {found}",
            hint="put both around the section that kdaudit may rewrite, or remove both: they are added at the end",
        )
    begin, end = markers
    after = card.index(b"\n", begin.end()) + 1
    return card[:after] + lines + card[end.start() :]


KEY = "model-index"
DATASET = "kdaudit-membership-inference"
"""Marks the results that are rewritten; all others stay."""
HINT = "mend the metadata at the top of the card, or leave --model-index out"

_BLOCK = re.compile(r"\A(\ufeff?\s*---[ \t]*\r?\n)(.*?)(^---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE)
_TRAILING = re.compile(r"(?:\r?\n(?:[ \t]*|#[^\n]*))*\Z")


def rewrite_index(card: bytes, result: AuditResult, *, name: str) -> bytes:
    """The card with the AUCs of the first student among its evaluation results.

    Only the key model-index of the metadata is written; every other byte of the card stays.

    Args:
        card: the whole file, in UTF-8.
        result: the audit.
        name: of the card, for messages.

    Raises:
        ConfigError: the card is not in UTF-8, or its metadata is not a mapping or indexes another number of models.
    """
    try:
        text = card.decode("utf-8")
        match = _BLOCK.match(text)
        line_end = "\r\n" if "\r\n" in text else "\n"
        mark = "\ufeff" if text.startswith("\ufeff") else ""
        before, metadata, after = match.groups() if match else (f"{mark}---{line_end}", "", f"---{line_end}")
        index = _merged(yaml.safe_load(metadata), result)
        values: dict[str, Any] = {KEY: index}
        block = CardData(**values).to_yaml(line_break=line_end)
        rest = text[match.end() if match else len(mark) :]
        changed = before + _spliced(metadata, block, line_end) + after + rest
        if not ModelCard(changed.removeprefix(mark)).data.get("eval_results"):
            raise ValueError("the Hub's own reader does not find it at the top")
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(f"--model-index: the metadata of {name} cannot be extended: {error}", hint=HINT) from error
    return changed.encode("utf-8")


def eval_results(result: AuditResult) -> list[EvalResult]:
    """One for each attack that was measured on the first student, or on the model that is audited alone."""
    student = result.targets[0]
    found = {name: attack.cells[student].auc for name, attack in result.attacks.items()}
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Membership inference",
            dataset_type=DATASET,
            dataset_name=f"{result.data.members} members, {result.data.nonmembers} non-members",
            dataset_args={"sha256": result.data.sha256},
            metric_type="roc_auc",
            metric_name=f"AUC of the {name} attack",
            metric_value=auc.value,
            metric_args={"attack": name, "low": auc.low, "high": auc.high, "level": auc.level},
        )
        for name, auc in found.items()
        if auc is not None and auc.value is not None
    ]


def _merged(metadata: Any, result: AuditResult) -> list[dict[str, Any]]:
    """The model index with this audit's results in the place of those of an earlier one."""
    index = [] if metadata is None else metadata.get(KEY) or []
    if len(index) > 1:
        raise ValueError(f"its {KEY} describes {len(index)} models")
    student = result.targets[0]
    was: dict[str, Any] = index[0] if index else {"name": _last_part(str(result.models[student].name)) or student}
    others = [one for one in was.get("results", []) if one["dataset"]["type"] != DATASET]
    results = eval_results(result)
    if not results:
        raise ValueError(f"no AUC was measured on the {student}")
    (own,) = eval_results_to_model_index(was["name"], results)
    return [{**was, "results": others + own["results"]}]


def _last_part(name: str) -> str:
    """The last part of a path or a Hub id: a card is public, the folders of the machine are not."""
    return plain(re.split(r"[/\\]", name.rstrip("/\\"))[-1], limit=MAX_NAME)


def _spliced(metadata: str, block: str, line_end: str) -> str:
    """The metadata with `block` where the key stands, else at its end."""
    node = yaml.compose(metadata, Loader=yaml.SafeLoader)
    for key, value in node.value if node else []:
        if key.value == KEY:
            start = key.start_mark.index
            was = _TRAILING.sub("", metadata[start : value.end_mark.index], count=1)
            return metadata[:start] + block + metadata[start + len(was) :]
    gap = line_end if metadata and not metadata.endswith("\n") else ""
    return f"{metadata}{gap}{block}{line_end}"
