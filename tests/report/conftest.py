import json
from dataclasses import replace
from pathlib import Path

import pytest

import kdaudit
from kdaudit.report.reading import Report
from tests.report.reports import LEAKY, attack, read, write_run

MANIFEST = {
    "command": "kdaudit attack --teacher owner/teacher --student './my  student' --gate 'student.auc <= 0.6'",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "data": {"sha256": LEAKY.data.sha256},
}


@pytest.fixture
def leaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """A leaky student under three gates, read from a run folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kdaudit, "__version__", "0.1.0")
    run = write_run(Path("leaky"), LEAKY)
    (run / "manifest.json").write_text(json.dumps(MANIFEST), encoding="utf-8")
    return read(run)


@pytest.fixture
def two_runs(leaky: Report) -> Report:
    """The same beside a student that leaks less."""
    attacks = {**LEAKY.attacks, "loss": attack(0.75, 0.55), "reference": attack(0.88, 0.56)}
    student = replace(LEAKY.strongest["student"], value=0.56, low=0.536, high=0.584)
    better = replace(LEAKY, attacks=attacks, strongest={**LEAKY.strongest, "student": student})
    return read(Path("leaky"), write_run(Path("better"), better), gates=("student.auc <= 0.6",))
