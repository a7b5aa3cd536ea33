"""The run folder: what an audit leaves behind, every file written whole or not at all."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import kdaudit
from kdaudit.artefacts import replacing, write_text, writing
from kdaudit.config import AuditConfig
from kdaudit.errors import ConfigError
from kdaudit.foreign import read_json, reason
from kdaudit.lock import claim, refuse_other_settings
from kdaudit.results import AuditedModel, AuditedRecords
from kdaudit.results.file import encode
from kdaudit.results.seal import LIKELIHOODS, sealed

if TYPE_CHECKING:
    from kdaudit.attacks.base import Attack
    from kdaudit.audit.data import AuditData
    from kdaudit.metrics.scores import Floats

COMPLETE = "complete"
"""The status of a run that is finished; its manifest holds the hashes of its files."""
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "scikit-learn", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class RunManifest:
    """Everything that is needed to repeat a run, and nothing of any text."""

    command: str
    identity: Mapping[str, Any]
    """What a later run must share with this one to continue it."""
    models: Mapping[str, AuditedModel]
    data: AuditedRecords
    compute: Mapping[str, Any]
    """Device, dtype, batch size."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where the artefacts of one run lie."""

    path: Path

    @property
    def signals(self) -> Path:
        """The cache of signals."""
        return self.path / "signals"

    @property
    def manifest(self) -> Path:
        """What was run, with what."""
        return self.path / "manifest.json"

    @property
    def results(self) -> Path:
        """What was found: the only file that later stages read."""
        return self.path / "results.json"

    @property
    def scores(self) -> Path:
        """One row per record, model and attack."""
        return self.path / "scores.parquet"

    @property
    def likelihoods(self) -> Path:
        """What every model makes of each record, for audits that take this run's teacher."""
        return self.path / LIKELIHOODS

    @property
    def summary(self) -> Path:
        """The results in Markdown, for a pull request."""
        return self.path / "summary.md"


def open_folder(config: AuditConfig) -> RunFolder:
    """The run folder of `config`, made where it does not exist.

    Raises:
        ConfigError: it holds something other than a run.
        OutputError: it cannot be written.
    """
    folder = RunFolder(config.out)
    leftovers = ("signals", folder.manifest.name)  # another process of this run may just have written its manifest
    claim(
        config.out, is_ours=folder.manifest.is_file(), holds_no="earlier run", leftovers=leftovers,
        overwrite=config.overwrite,
    )  # fmt: skip
    return folder


def identify(config: AuditConfig, data: AuditData, models: Mapping[str, AuditedModel]) -> dict[str, Any]:
    """What a later run must share with this one to continue it: configuration, data and weights."""
    identity = {**config.identity(), "data_sha256": data.sha256}
    for name, model in models.items():
        identity[f"{name}_fingerprint"] = model.fingerprint
        identity[f"{name}_reference_fingerprint"] = model.reference.fingerprint if model.reference else None
    return identity


def refuse_another_run(folder: RunFolder, identity: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder whose run had another configuration, other records or other weights.

    With `overwrite`, what an earlier run found is removed instead: it must not stand beside this run's manifest.

    Raises:
        ConfigError: naming what differs.
        OutputError: an earlier file cannot be removed.
    """
    if overwrite:
        with writing(folder.path):
            for path in (
                folder.results,
                folder.scores,
                folder.likelihoods,
                folder.summary,
                *folder.path.glob("report.*"),
            ):
                path.unlink(missing_ok=True)
        return
    if not folder.manifest.is_file():
        return
    hint = "choose another --out, or replace that run with --overwrite"
    refuse_other_settings(folder.path, _read_identity(folder), identity, holds="a run", hint=hint)


def _read_identity(folder: RunFolder) -> dict[str, Any]:
    hint = "choose another --out, or pass --overwrite"
    try:
        found = read_json(folder.manifest)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder.manifest} cannot be read: {reason(error)}", hint=hint) from error
    identity = found.get("identity") if isinstance(found, dict) else None
    if not isinstance(identity, dict):
        raise ConfigError(f"{folder.manifest} is not the manifest of a run", hint=hint)
    return identity


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that compute."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def write_manifest(folder: RunFolder, about: RunManifest, *, status: str) -> None:
    """Write manifest.json; `status` is running or complete."""
    content = {
        "kdaudit_version": kdaudit.__version__,
        "status": status,
        **encode(about, "manifest"),
        "versions": library_versions(),
    }
    content = sealed(content, folder.path) if status == COMPLETE else content
    write_text(folder.manifest, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_scores(
    folder: RunFolder,
    data: AuditData,
    scores: Mapping[str, Mapping[str, Floats]],
    *,
    is_calibration: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    attacks: Sequence[Attack],
) -> None:
    """Write scores.parquet, one row per record, model and attack; a record that was not scored has a null.

    The file's metadata says under `kdaudit.attacks` by which version and with which parameters each attack scored.

    Args:
        folder: where.
        data: the records.
        scores: attack -> model -> (n,).
        is_calibration: (n,), True for records that fitted thresholds.
        attacks: that gave the scores.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = pa.array(list(data.records.column("id")))
    member = pa.array(data.is_member)
    part = pa.array(np.where(is_calibration, "calibration", "evaluation")).dictionary_encode()
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("member", pa.bool_()),
            ("part", part.type),
            ("model", pa.dictionary(pa.int32(), pa.string())),
            ("attack", pa.dictionary(pa.int32(), pa.string())),
            ("score", pa.float64()),
        ],
        metadata={"kdaudit.attacks": json.dumps({one.name: {"version": one.version, **one.values} for one in attacks})},
    )
    with replacing(folder.scores) as waiting, pq.ParquetWriter(waiting, schema) as writer:
        for attack, by_model in scores.items():
            for model, values in by_model.items():
                columns = [ids, member, part, *(_repeated(name, len(values)) for name in (model, attack))]
                writer.write_table(pa.table([*columns, pa.array(values, from_pandas=True)], schema=schema))


def _repeated(name: str, n: int) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([name]))
