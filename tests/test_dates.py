"""The day that results and reports carry."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from kdaudit.dates import today
from kdaudit.errors import ConfigError
from kdaudit.results import load
from kdaudit.results.file import to_json
from tests.report.reports import LEAKY


def test_it_is_today_unless_the_environment_names_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert abs((datetime.now(UTC).date() - today()).days) <= 1
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86399")
    assert today() == date(1970, 1, 1)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert today() == date(1970, 1, 2)


@pytest.mark.parametrize("written", ["yesterday", "1e9", "9" * 30])
def test_a_day_that_cannot_be_read_is_refused(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", written)
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH"):
        today()


def test_results_whose_day_is_no_day_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**to_json(LEAKY), "measured": "2026-02-30"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="day"):
        load(path)


def test_results_of_an_earlier_version_have_no_day(tmp_path: Path) -> None:
    layout = to_json(LEAKY)
    del layout["measured"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(layout), encoding="utf-8")
    assert load(path).measured == ""
