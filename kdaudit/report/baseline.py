"""The earlier run that a report compares with, and the scores that make the comparison a paired one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdaudit.config import TOLERANCE
from kdaudit.results import AuditResult, load
from kdaudit.results.scores import RecordScores, load_scores
from kdaudit.verdict import Gate
from kdaudit.verdict.baseline import rises
from kdaudit.verdict.pairing import check_scores, pair_rises
from kdaudit.verdict.rules import Measurement

SCORES = "scores.parquet"


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run."""

    path: Path
    """Of its results.json."""
    result: AuditResult
    tolerance: float
    scores: RecordScores | None
    """None: there are none beside its results."""

    def is_at(self, path: Path) -> bool:
        """Whether these are the results at `path`."""
        return self.path.resolve() == path.resolve()


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
