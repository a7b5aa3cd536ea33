"""What a report is about: runs whose gates have been judged, and where those gates were declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kdaudit.report.blocks import Status
from kdaudit.results import AuditResult
from kdaudit.waivers import Waiver


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

    @property
    def status(self) -> Status:
        """The worst of all runs: any failure fails, else any open question leaves it open."""
        order: tuple[Status, ...] = ("fail", "inconclusive", "pass")
        found = {run.result.verdict.status for run in self.runs}
        return next((status for status in order if status in found), "not_gated")
