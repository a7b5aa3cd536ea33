"""One declaration per option: what a field says reaches the help, the file, the environment and the configuration."""

from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from kdaudit.cli.command import Command, ConfigFile, Given, add
from kdaudit.config import AuditConfig, ReportConfig
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError
from kdaudit.mitigate.settings import MitigateConfig
from kdaudit.options import Option, options_of, problems_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """A command's configuration before a newcomer adds an option."""

    seed: Annotated[int, Option("The seed.", least=0)] = 0
    config_file: ConfigFile = None


LINE = ("patience", Annotated[int | None, Option("How long to wait.", least=1)], None)
After: Any = make_dataclass("After", [LINE], bases=(Before,), frozen=True, slots=True, kw_only=True)
"""The same configuration with one more field."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A program whose one command takes the configuration; gives what that was built with."""
    monkeypatch.chdir(tmp_path)
    built: list[Any] = []

    def wait(given: Given) -> None:
        """Wait."""
        built.append(After(**given.to(options_of(After))))

    app = typer.Typer(add_completion=False)
    app.callback()(lambda: None)
    command = Command("wait", wait, options_of(After), variables="PROGRAM", example="program wait")
    add(app, command, known=command.options)

    def run(*arguments: str) -> Any:
        app(args=["wait", *arguments], standalone_mode=False)
        return built.pop() if built else None

    return run


def test_a_further_field_is_in_the_help_the_command_line_the_environment_the_file_and_the_configuration(
    program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--patience" in shown
    assert "How long to wait." in shown
    assert "PROGRAM_PATIENCE" in shown
    assert program().patience is None
    Path("kdaudit.toml").write_text("patience = 3\n", encoding="utf-8")
    assert program().patience == 3
    monkeypatch.setenv("PROGRAM_PATIENCE", "4")
    assert program().patience == 4
    assert program("--patience", "5") == After(patience=5, config_file=Path("kdaudit.toml"))
    assert [*problems_of(After(patience=0))] == ["--patience: 0 is too small, the least is 1"]
    Path("kdaudit.toml").write_text("patient = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="unknown key 'patient'") as caught:
        program()
    assert caught.value.hint == "did you mean 'patience'?"


CHECKED = make_dataclass(
    "CHECKED",
    [
        ("whole", Annotated[int | None, Option("", least=2)], None),
        ("share", Annotated[float | None, Option("", least=0, most=1)], None),
        ("inside", Annotated[float | None, Option("", above=0, below=1)], None),
        ("rate", Annotated[float | None, Option("", above=0)], None),
        ("few", Annotated[int | None, Option("", most=9)], None),
        ("word", Annotated[str | None, Option("", choices=("a", "b"))], None),
        ("names", Annotated[tuple[str, ...], Option("", flag="--name -n")], ()),
        ("plain", str, "no option"),
    ],
)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("whole", 1, "1 is too small, the least is 2"),
        ("whole", 2, None),
        ("share", -0.1, "-0.1 lies outside 0 to 1"),
        ("share", 1.5, "1.5 lies outside 0 to 1"),
        ("share", 1.00000000001, "1.00000000001 lies outside 0 to 1"),
        ("share", 0.0, None),
        ("share", 1.0, None),
        ("share", float("nan"), "nan is not a finite number"),
        ("inside", 0.0, "0 lies outside 0 to 1"),
        ("inside", 1.0, "1 lies outside 0 to 1"),
        ("inside", 0.5, None),
        ("rate", 0.0, "0 is not above 0"),
        ("rate", float("inf"), "inf is not a finite number"),
        ("rate", 1e-9, None),
        ("few", 10, "10 is too large, the most is 9"),
        ("few", 10**400, f"{10**400} is too large, the most is 9"),
        ("word", "c", "'c' is none of a, b"),
        ("word", "", "'' is none of a, b"),
        ("word", "a", None),
        ("names", ("x", " "), "an empty value was given; is a variable unset?"),
        ("names", ("x",), None),
        ("plain", " ", None),
    ],
)
def test_a_value_is_held_against_its_declaration(field: str, value: object, problem: str | None) -> None:
    flag = {"names": "--name"}.get(field, f"--{field}")
    assert [*problems_of(CHECKED(**{field: value}))] == ([] if problem is None else [f"{flag}: {problem}"])


@pytest.mark.parametrize("config", [AuditConfig, ReportConfig, DistillConfig, MitigateConfig])
def test_every_option_has_its_help_and_a_name_of_its_own(config: type) -> None:
    options = options_of(config)
    assert len({one.name for one in options}) == len({one.flag for one in options}) == len(options) > 0
    for one in options:
        assert one.option.help.endswith((".", "…")), one.flag
        assert one.item in (str, int, float, bool, Path), one.flag
