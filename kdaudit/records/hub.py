"""Rows out of a data set of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdaudit.errors import HubError, RecordsError
from kdaudit.records.rows import ROWS_AT_A_TIME, Row, column_rows, require_field, wanted_columns

PREFIX = "hub:"
SPEC = re.compile(
    r"hub:(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>[^:\[\]]+))?:(?P<split>[^:\[\]]+(?:\[[^\[\]]*\])?)"
)


def hub_rows(source: str, label: str, text_field: str, id_field: str) -> Iterator[Row]:
    """Rows of `hub:name[:config]:split`; no code of the data set is run.

    Raises:
        RecordsError: the source is not of that form, or it has no such configuration, split or field.
        HubError: the data set can neither be reached nor found in the local cache.
    """
    spec = SPEC.fullmatch(source)
    if spec is None:
        raise RecordsError(f"{label}: not of the form hub:name[:config]:split", hint="for example hub:ag_news:test")
    if Path(spec["name"]).exists():  # datasets would read it instead of the Hub's
        hint = "run from another folder, or give a file of it"
        raise RecordsError(f"{label}: '{spec['name']}' is also a path here", hint=hint)
    data = _load(spec["name"], spec["config"], spec["split"], label)
    require_field(label, text_field, data.column_names, noun="column")
    data = data.select_columns(wanted_columns(data.column_names, text_field, id_field))
    for start, batch in enumerate(data.iter(batch_size=ROWS_AT_A_TIME)):
        yield from column_rows(start * ROWS_AT_A_TIME + 1, batch)


def _load(name: str, config: str | None, split: str, label: str) -> Any:
    import datasets  # heavy

    datasets.disable_progress_bars()
    try:
        try:
            return datasets.load_dataset(name, config, split=split)
        except (OSError, datasets.exceptions.DatasetNotFoundError):  # a ConnectionError is an OSError
            return datasets.load_dataset(_snapshot(name, label), config, split=split)
    except ValueError as error:  # an unknown configuration or split; its message names those that exist
        raise RecordsError(f"{label}: {error}", hint="the form is hub:name[:config]:split") from error
    except datasets.exceptions.DatasetsError as error:
        raise RecordsError(f"{label}: the data set cannot be read: {type(error).__name__}") from error


def _snapshot(name: str, label: str) -> str:
    """Where `hf download` put the data set; `datasets` itself does not look there when offline."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(name, repo_type="dataset", local_files_only=True)
    except OSError as error:
        raise HubError(
            f"{label}: the data set cannot be reached and is not in the local cache",
            hint=f"where the Hub can be reached: hf download --repo-type dataset {name}",
        ) from error
