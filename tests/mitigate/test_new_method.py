"""A method with a strength of its own is one file and one line: the command line and the comparison find it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError
from kdaudit.mitigate import METHODS
from kdaudit.mitigate.base import PANEL, Method, Strength
from kdaudit.mitigate.settings import MitigateConfig
from kdaudit.options import Option

# The one file of a new method.
METHOD = Method(
    "warm-teacher",
    summary="raises the temperature of the teacher",
    source="Hinton et al. 2015, arXiv:1503.02531",
    strength=Strength(4.0, Option("For the method warm-teacher: the temperature.", PANEL, key="method_warm", above=0)),
    settings=lambda strength: {"temperature": strength},
)

ONE_LINE = """
import sys
import kdaudit.mitigate
from tests.mitigate.test_new_method import METHOD
kdaudit.mitigate.METHODS[METHOD.name] = METHOD  # the line in the table
from kdaudit.cli.main import main
main(sys.argv[1:])
"""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ONE_LINE, *arguments], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_a_new_method_and_its_strength_stand_in_the_help_and_in_the_list() -> None:
    assert "--method-warm " in command("mitigate", "--help").stdout
    assert "raises the temperature" in command("mitigate", "--list-methods").stdout


def test_its_strength_is_checked_before_anything_is_read() -> None:
    done = command("mitigate", "--teacher", "t", "--student", "s", "--train", "f", "--nonmembers", "n", "--epochs", "2",
                   "--method", "warm-teacher", "--method-warm", "0", "--out", "o")  # fmt: skip
    assert done.returncode == 2
    assert "--method-warm: 0 is not above 0" in done.stderr


@pytest.mark.parametrize(("given", "temperature"), [({}, 4.0), ({"warm_teacher": 3.0}, 3.0)])
def test_its_students_are_distilled_with_it(
    given: dict[str, float], temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, METHOD.name, METHOD)
    plain = DistillConfig(teacher="t", train=("f",), out=Path("o"), student="s", nonmembers=("n",), epochs=2)
    config = MitigateConfig(distill=plain, methods=("warm-teacher",), out=Path("o"), strengths=given)
    (arm,) = config.arms
    assert config.student(arm, 0).temperature == temperature


def test_the_strength_of_a_method_that_there_is_not_is_refused() -> None:
    plain = DistillConfig(teacher="t", train=("f",), out=Path("o"), student="s", nonmembers=("n",), epochs=2)
    with pytest.raises(ConfigError, match="no method has the strength 'warm'"):
        MitigateConfig(distill=plain, methods=("lora",), out=Path("o"), strengths={"warm": 1.0})
