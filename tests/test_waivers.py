"""Waivers as a configuration file declares them: what stands where, and what is refused."""

from datetime import date
from pathlib import Path

import pytest

from kdaudit.config import AuditConfig
from kdaudit.config_file import read_config_file
from kdaudit.errors import ConfigError
from kdaudit.options import options_of
from kdaudit.waivers import Waiver, expired

FILE = """seed = 1
# gates we accept
[[waivers]]
gate = "student.auc <= 0.6"
reason = "known since the first release"
expires = 2030-01-31

[[ waivers ]]
gate = "teacher.auc<=0.7"
reason = "the teacher is not published"
expires = "2030-02-01"
"""


def read(path: Path, content: str) -> tuple[Waiver, ...]:
    path.write_text(content, encoding="utf-8")
    found: tuple[Waiver, ...] = read_config_file(path, known=options_of(AuditConfig))["waivers"]
    return found


def test_each_waiver_knows_its_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "kdaudit.toml"
    assert read(path, FILE) == (
        Waiver("student.auc <= 0.6", "known since the first release", date(2030, 1, 31), path, 3),
        Waiver("teacher.auc<=0.7", "the teacher is not published", date(2030, 2, 1), path, 8),
    )


def test_a_pyproject_holds_waivers_under_its_own_table(tmp_path: Path) -> None:
    content = FILE.replace("seed", "[tool.kdaudit]\nseed").replace("waivers", "tool.kdaudit.waivers")
    assert [waiver.line for waiver in read(tmp_path / "pyproject.toml", content)] == [4, 9]


def test_an_inline_array_is_found_by_its_key(tmp_path: Path) -> None:
    content = 'seed = 1\nwaivers = [\n  {gate = "a", reason = "b", expires = 2030-01-01},\n]\n'
    assert [waiver.line for waiver in read(tmp_path / "kdaudit.toml", content)] == [2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('gate = "g"\nexpires = 2030-01-01', "line 1: waiver: 'reason' is missing"),
        ('gate = "g"\nreason = "r"', "'expires' is missing"),
        ('gate = "g"\nreason = " "\nexpires = 2030-01-01', "the reason is empty"),
        ('gate = "g"\nreason = "r"\nexpires = 2030-01-01\nuntil = 1', "unknown key 'until'"),
        ('gate = "g"\nreason = "r"\nexpires = "soon"', "expires is not a date: 'soon'"),
        ('gate = "g"\nreason = "r"\nexpires = 20300101', "expires is not a date"),
        ('gate = "g"\nreason = "r"\nexpires = 2030-01-01T00:00:00', "expires is not a date"),
        ('gate = 3\nreason = "r"\nexpires = 2030-01-01', "must be strings"),
    ],
)
def test_a_waiver_that_cannot_be_meant_is_refused(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kdaudit\.toml") as caught:
        read(tmp_path / "kdaudit.toml", f"[[waivers]]\n{line}\n")
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("content", ["waivers = 3", 'waivers = ["student.auc"]', '[waivers]\ngate = "g"'])
def test_waivers_are_tables(content: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be an array of tables"):
        read(tmp_path / "kdaudit.toml", content)


def test_a_gate_that_holds_controls_is_shown_escaped_and_short() -> None:
    (line,) = expired([Waiver("a\n\x1b[31m" + "x" * 10_000, "r", date(2030, 1, 31), Path("f"), 3)], date(2031, 1, 1))
    assert line.startswith(r"f, line 3: the waiver of 'a\n\x1b[31mxxx")
    assert len(line) < 200


def test_a_waiver_counts_on_its_last_day_and_not_after() -> None:
    waiver = Waiver("g", "r", date(2030, 1, 31), Path("kdaudit.toml"), 3)
    assert expired([waiver], date(2030, 1, 31)) == []
    assert expired([waiver], date(2030, 2, 1)) == ["kdaudit.toml, line 3: the waiver of 'g' expired on 2030-01-31"]
