"""Runs read from their folders: figures checked, gates judged again, and where those gates were declared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from kdaudit.config import TOLERANCE, ReportConfig
from kdaudit.errors import ConfigError
from kdaudit.foreign import read_json
from kdaudit.report.blocks import Status
from kdaudit.report.formats import check_formats
from kdaudit.report.ranges import check_ranges
from kdaudit.results import AuditResult, load
from kdaudit.results.file import HINT, MAX_BYTES
from kdaudit.results.scores import RecordScores, load_scores
from kdaudit.results.seal import MANIFEST, OWN, RESULTS, SCORES, file_sha256
from kdaudit.verdict import Gate, check_gates, judge, parse_gate
from kdaudit.verdict.baseline import rises
from kdaudit.verdict.pairing import check_scores, pair_rises
from kdaudit.verdict.rules import Measurement
from kdaudit.verdict.waivers import waive, waivers_by_gate
from kdaudit.waivers import Waiver

PLAIN = "plain"
"""The folder of the plain students, which a comparison of mitigations distils first."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run."""

    path: Path
    """The path of its results.json."""
    result: AuditResult
    tolerance: float
    scores: RecordScores | None
    """None: there are none beside its results."""

    def is_at(self, path: Path) -> bool:
        """Whether these are the results at `path`."""
        return self.path.resolve() == path.resolve()


def read_report(config: ReportConfig) -> Report:
    """Everything that the renderers need, gates judged.

    Raises:
        ConfigError: a run cannot be read, is given twice, a gate cannot be judged on it, or a waiver names no gate.
    """
    check_formats(config.formats)
    gates = [parse_gate(text) for text in config.gates]
    paths = [_results_file(path) for path in config.runs]
    repeated = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if repeated:
        raise ConfigError(f"RUN: {repeated[0]} is given twice", hint="name every run once")
    baseline = read_baseline(_results_file(config.baseline), config.tolerance) if config.baseline else None
    if baseline and len(paths) == 1 and baseline.is_at(paths[0]):
        raise ConfigError(f"--baseline: {config.baseline} is the run itself", hint="name an earlier run")
    runs = [_read_run(name, path, gates, baseline) for name, path in zip(_names(paths), paths, strict=True)]
    judged = {gate.gate for run in runs for gate in run.result.verdict.gates}
    waivers = waivers_by_gate(config.waivers, judged | {str(parse_gate(text)) for text in config.file_gates})
    return Report(
        tuple(replace(run, result=_waived(run.result, waivers)) for run in runs),
        _declarations(config.gates_file, config.gates),
        waivers,
        str(config.baseline or ""),
        _repository(Path.cwd()),
        baseline.result if baseline else None,
        config.today,
        policies=config.policies,
        release=config.release or "",
    )


def _repository(folder: Path) -> Path:
    """The root of the repository that holds the folder, or the folder itself where there is none."""
    return next((path for path in (folder, *folder.parents) if (path / ".git").exists()), folder)


def _waived(result: AuditResult, waivers: Mapping[str, Waiver]) -> AuditResult:
    return replace(result, verdict=waive(result.verdict, waivers))


def _results_file(run: Path) -> Path:
    if not run.is_dir():
        return run
    if not (run / RESULTS).exists() and (run / MANIFEST).exists():
        raise ConfigError(
            f"{run}: the run is not finished, it holds no {RESULTS}", hint="its `kdaudit attack` command continues it"
        )
    if not (run / RESULTS).exists() and (run / PLAIN).is_dir():
        raise ConfigError(
            f"{run}: the comparison is not finished, it holds no mitigation.json",
            hint="its `kdaudit mitigate` command continues it",
        )
    return run / RESULTS


def _names(paths: Sequence[Path]) -> list[str]:
    """The folder's name, or the file's where it is not called results.json; with more of the path where two agree."""
    names = [path.resolve().parent.name if path.name == RESULTS else path.stem for path in paths]
    counts = Counter(names)
    return [str(path) if counts[name] > 1 else name for name, path in zip(names, paths, strict=True)]


def _read_run(name: str, path: Path, gates: Sequence[Gate], baseline: Baseline | None) -> Run:
    result = load(path)
    try:
        check_ranges(result)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", hint=HINT) from error
    try:
        own = gates or [parse_gate(gate.gate) for gate in result.verdict.gates]
        check_gates(own, models=list(result.models), attacks=list(result.attacks))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", hint=error.hint) from error
    since = rises_above(baseline, result, path) if baseline else []
    judged = replace(result, verdict=judge(result.attacks, result.validity, own, rises=since))
    command, versions, seal = _read_manifest(path.with_name(MANIFEST), result)
    return Run(name, path, judged, command, versions, file_sha256(path), seal)


def _read_manifest(path: Path, result: AuditResult) -> tuple[str, Mapping[str, str], str]:
    """Command, library versions and hash of the manifest; nothing where there is no manifest of that very run.

    Raises:
        ConfigError: there is one that cannot be read.
    """
    if not path.exists():
        return "", {}, ""
    try:
        found: Any = read_json(path, at_most=MAX_BYTES)
        command, versions, data = found["command"], found["versions"], found["data"]
        if data["sha256"] != result.data.sha256:
            return "", {}, ""
        named = {_text(name): _text(version) for name, version in versions.items()}
        return _text(command), named, _text(found.get(OWN, ""))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: not the manifest of a run: {error}", hint="delete it to report without the command"
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not a text")
    return value


def _declarations(path: Path | None, gates: Sequence[str]) -> dict[str, Declaration]:
    """The line of every gate in its configuration file: the first that holds it as written, else that of the key."""
    if path is None:
        return {}
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    key = next((number for number, line in enumerate(lines, start=1) if re.match(r"\s*gates\s*=", line)), 1)
    return {
        str(parse_gate(gate)): Declaration(
            path, next((number for number, line in enumerate(lines[key - 1 :], start=key) if gate in line), key)
        )
        for gate in gates
    }


def read_baseline(path: Path, tolerance: float | None) -> Baseline:
    """Read an earlier run, and its scores where they lie beside its results.

    Raises:
        ConfigError: one of the files cannot be read, or they are not of one run.
    """
    result = load(path)
    return Baseline(path, result, TOLERANCE if tolerance is None else tolerance, _read_scores(path, result))


def rises_above(baseline: Baseline, result: AuditResult, path: Path) -> Sequence[tuple[Gate, Sequence[Measurement]]]:
    """The gates on the rise of a run's AUCs since the baseline; none for the baseline itself.

    Args:
        baseline: the earlier run.
        result: the run.
        path: of its results.json.

    Raises:
        ConfigError: the scores beside the run cannot be read, or are not its own.
    """
    if baseline.is_at(path):
        return []
    scores = _read_scores(path, result) if baseline.scores else None
    paired = pair_rises(scores, baseline.scores) if scores and baseline.scores else None
    return rises(result, baseline.result, tolerance=baseline.tolerance, paired=paired)


def _read_scores(path: Path, result: AuditResult) -> RecordScores | None:
    beside = path.with_name(SCORES)
    if not beside.exists():
        return None
    scores = load_scores(beside)
    check_scores(scores, result, str(beside))
    return scores


@dataclass(frozen=True, slots=True)
class Declaration:
    """Where a gate stands in a configuration file."""

    path: Path
    line: int
    """Counted from 1."""


@dataclass(frozen=True, slots=True)
class Run:
    """One audit, read from its folder."""

    name: str
    """Tells the runs of a report apart."""
    path: Path
    """The path of its results.json, as the user gave it."""
    result: AuditResult
    """As measured; its verdict is of the gates of this report."""
    command: str = ""
    """That measured it, from the manifest beside the results; empty where there is none."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The versions of the libraries that measured it, likewise."""
    sha256: str = ""
    """The hash of its results.json, as it was read."""
    seal: str = ""
    """The hash of the manifest beside the results; empty where it holds no hashes."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a reader is told."""

    runs: tuple[Run, ...]
    """In the order given; at least one."""
    declared: Mapping[str, Declaration] = field(default_factory=dict)
    """By gate in its normal form; a gate that no configuration file declares is absent."""

    waivers: Mapping[str, Waiver] = field(default_factory=dict)
    """By gate in its normal form: gates whose failure is accepted. What that changed stands in the verdicts."""
    baseline: str = ""
    """What `--baseline` named; empty where nothing was compared with an earlier run."""
    root: Path = Path()
    """The folder of the repository, absolute: files are named from there."""
    earlier: AuditResult | None = None
    """The run that `--baseline` named."""
    written: date | None = None
    """The day on which it is written, by which waivers expire; None where nobody said."""
    policies: tuple[str, ...] = ()
    """Whose clauses an annex maps the figures to."""
    release: str = ""
    """What an attacker will have, as the user declares it."""

    @property
    def status(self) -> Status:
        """The worst of all runs: any failure fails, else any open question leaves it open."""
        order: tuple[Status, ...] = ("fail", "inconclusive", "pass")
        found = {run.result.verdict.status for run in self.runs}
        return next((status for status in order if status in found), "not_gated")
