"""The audit's figures in a model card's metadata, where the Hub looks for evaluation results."""

from __future__ import annotations

import re
from typing import Any

import yaml
from huggingface_hub import CardData, EvalResult, ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

from kdaudit.errors import ConfigError
from kdaudit.report.text import MAX_NAME, plain
from kdaudit.results import AuditResult

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
    """One for each attack that was measured on the first student."""
    student = next(name for name in result.models if name != "teacher")
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
    student = next(name for name in result.models if name != "teacher")
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
