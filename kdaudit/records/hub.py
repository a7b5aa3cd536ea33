"""Rows out of a data set of the Hugging Face Hub.

What lies there as JSON, CSV, text or Parquet is read as a file of that kind is: `datasets` would guess types from
the values, so that an id 01 became 1, a date another text, and a text "NA" none at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from kdaudit.errors import HubError, RecordsError
from kdaudit.records import rows
from kdaudit.records.columns import typed_rows
from kdaudit.records.layout import Layout
from kdaudit.records.rows import Problem, Row

PREFIX = "hub:"
SPEC = re.compile(
    r"hub:(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>[^:\[\]]+))?:(?P<split>[^:\[\]]+(?:\[[^\[\]]*\])?)"
)
READ_ALIKE = {"name", "version", "data_dir", "data_files", "description", "features", "chunksize", "sep", "delimiter"}
"""Settings of a data set that change nothing in how its files are to be read, or that are honoured here."""

Reader = Callable[[BinaryIO], Iterator[Row | Problem]]


def hub_rows(source: str, label: str, layout: Layout) -> Iterator[Row | Problem]:
    """Rows of `hub:name[:config]:split`, counted from 1; no code of the data set is run.

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
    import datasets  # heavy

    datasets.disable_progress_bars()
    try:
        builder = _builder(spec["name"], spec["config"], label)
        reader = _reader(builder, label, layout)
        found = (
            _typed_rows(builder, spec["split"], label, layout)
            if reader is None
            else _split_rows(builder, spec["split"], reader)
        )
        for line, row in enumerate(found, start=1):
            yield replace(row, line=line)
    except (ValueError, AssertionError) as error:  # an unknown configuration or split; its message names those there
        raise RecordsError(f"{label}: {error}", hint="the form is hub:name[:config]:split") from error
    except datasets.exceptions.DatasetsError as error:
        raise RecordsError(f"{label}: the data set cannot be read: {type(error).__name__}") from error


def _builder(name: str, config: str | None, label: str) -> Any:
    import datasets

    try:
        found = datasets.load_dataset_builder(name, config)
    except (OSError, datasets.exceptions.DatasetNotFoundError):  # a ConnectionError is an OSError
        return datasets.load_dataset_builder(_snapshot(name, label), config)
    if found.config.data_files:
        return found
    try:  # offline, datasets comes back with what it made of the files; the files themselves may be there too
        return datasets.load_dataset_builder(_snapshot(name, label), config)
    except (HubError, OSError, datasets.exceptions.DatasetsError):
        return found


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


def _reader(builder: Any, label: str, layout: Layout) -> Reader | None:
    """How a file of the data set is read; None where only `datasets` knows how."""
    from datasets.packaged_modules.csv.csv import Csv
    from datasets.packaged_modules.json.json import Json
    from datasets.packaged_modules.parquet.parquet import Parquet
    from datasets.packaged_modules.text.text import Text

    config = builder.config
    usual = type(config)()
    others = [one.name for one in fields(config) if getattr(config, one.name) != getattr(usual, one.name, None)]
    if not config.data_files or set(others) - READ_ALIKE - {"field"}:
        return None
    match builder:
        case Csv():
            return lambda file: rows.table_rows(file, label, layout, delimiter=config.sep)
        case Json():
            return lambda file: _json_rows(file, label, layout, config.field)
        case Text():
            return lambda file: rows.text_rows(file, label, layout)
        case Parquet():
            return lambda file: rows.parquet_rows(file, label, layout)
    return None


def _json_rows(file: BinaryIO, label: str, layout: Layout, field: str | None) -> Iterator[Row | Problem]:
    """A JSON file of the Hub may also be one list, or hold one."""
    is_list = field is not None or file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    file.seek(0)
    return rows.json_list_rows(file, label, layout, field) if is_list else rows.json_rows(file, label, layout)


def _split_rows(builder: Any, split: str, reader: Reader) -> list[Row | Problem]:
    """The rows of a split or a slice of it, such as train[:100], out of its files."""
    import datasets

    files = {str(name): list(paths) for name, paths in builder.config.data_files.items()}
    wanted = "+".join(files) if split == "all" else split
    instruction = datasets.ReadInstruction.from_spec(wanted)
    names = {part.partition("[")[0].strip() for part in wanted.split("+")}
    downloads = datasets.DownloadManager(dataset_name=builder.dataset_name, base_path=builder.base_path)
    found: dict[str, list[Row | Problem]] = {name: [] for name in files}
    for name in names & files.keys():
        for path in downloads.iter_files(downloads.download_and_extract(files[name])):
            with open(path, "rb") as file:
                found[name] += reader(file)
    absolute = instruction.to_absolute({name: len(some) for name, some in found.items()})
    return list(chain.from_iterable(found[part.splitname][part.from_ : part.to] for part in absolute))


def _typed_rows(builder: Any, split: str, label: str, layout: Layout) -> Iterator[Row]:
    """Rows of what is stored with types of its own, or by settings that only `datasets` knows."""
    builder.download_and_prepare()
    yield from typed_rows(builder.as_dataset(split=split), label, layout)
