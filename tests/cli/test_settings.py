"""Where options come from: the command line, the environment, a file, the defaults; in that order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdaudit.config import AuditConfig
from kdaudit.results import load
from tests.commands import Done, Given, check_refused, kdaudit

Ask = Callable[..., tuple[AuditConfig, Done]]


@pytest.fixture
def ask(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a command in an empty folder up to where the audit would begin: the configuration, and what was printed."""
    monkeypatch.chdir(tmp_path)
    result, configs = load(finished / "results.json"), list[AuditConfig]()

    def pretend(config: AuditConfig, **options: Any) -> object:
        configs.append(config)
        return result

    monkeypatch.setattr("kdaudit.cli.attack.audit_with_progress", pretend)

    def run(*options: object) -> tuple[AuditConfig, Done]:
        done = kdaudit("attack", "--teacher", "t", "--student", "s", *options)
        assert done.code == 0, done.err
        return configs[-1], done

    return run


def test_without_anything_the_defaults_hold(ask: Ask) -> None:
    config, _ = ask()
    assert config == AuditConfig(teacher="t", students=("s",))


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(*options: object) -> tuple[int, tuple[str, ...]]:
        config, _ = ask(*options)
        return config.seed, config.gates

    assert settings() == (0, ())
    Path("kdaudit.toml").write_text('seed = 1\ngates = ["student.auc <= 0.1"]\n', encoding="utf-8")
    assert settings() == (1, ("student.auc <= 0.1",))
    monkeypatch.setenv("KDAUDIT_SEED", "2")
    monkeypatch.setenv("KDAUDIT_GATES", "student.auc <= 0.2; teacher.auc <= 0.2 ;")
    assert settings() == (2, ("student.auc <= 0.2", "teacher.auc <= 0.2"))
    assert settings("--seed", 0, "--gate", "student.auc <= 0.3") == (0, ("student.auc <= 0.3",))


@pytest.mark.parametrize("command", ["attack", "report"])
def test_gates_joined_by_commas_are_several_and_a_decimal_comma_is_none(
    command: str, ask: Ask, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined, parts = "student.auc<=0.3,teacher.auc <= 0.2", ("student.auc<=0.3", "teacher.auc <= 0.2")
    assert ask("--gate", joined)[0].gates == parts
    assert ask("--gate", joined, "--gate", parts[0])[0].gates == parts
    monkeypatch.setenv("KDAUDIT_GATES", f"{joined}; difference.auc<=0.1")
    assert ask()[0].gates == (*parts, "difference.auc<=0.1")
    start = ("report", finished) if command == "report" else ("attack", "--teacher", "t", "--student", "s")
    check_refused(kdaudit(*start, "--gate", "student.auc <= 0,60"), "the limit '0,60' is not a number")
    monkeypatch.delenv("KDAUDIT_GATES")
    Path("kdaudit.toml").write_text(f'gates = ["{joined}"]\n', encoding="utf-8")
    assert ask()[0].gates == parts
    done = kdaudit("report", finished, "--out", "reports", "--format", "json")
    assert done.code == 3, done.err
    assert "teacher.auc<=0.2" in done.out
    assert "kdaudit.toml:1" in done.out


def test_a_pyproject_holds_settings_under_its_own_table(ask: Ask) -> None:
    Path("pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.kdaudit]\ngates = ["student.auc <= 0.6"]\nmax-tokens = 64\n'
        'attacks = ["loss", "zlib"]\nstudent-references = ["r"]\ncalibration_share = 0.5\npaper-compat = true\n',
        encoding="utf-8",
    )
    config, _ = ask()
    assert config.gates == ("student.auc <= 0.6",)
    assert config.max_tokens == 64
    assert config.attacks == ("loss", "zlib")
    assert config.student_references == ("r",)
    assert config.calibration_share == 0.5
    assert config.paper_compat
    Path("kdaudit.toml").write_text("seed = 5\n", encoding="utf-8")
    config, _ = ask()
    assert (config.seed, config.gates) == (5, ()), "kdaudit.toml alone counts where there is one"


def test_a_pyproject_of_another_tool_says_nothing(ask: Ask) -> None:
    Path("pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n", encoding="utf-8")
    config, _ = ask()
    assert config == AuditConfig(teacher="t", students=("s",))


def test_a_named_file_is_read_instead_of_the_folders(ask: Ask) -> None:
    Path("kdaudit.toml").write_text("seed = 1\n", encoding="utf-8")
    Path("other.toml").write_text("seed = 7\n", encoding="utf-8")
    config, _ = ask("--config", "other.toml")
    assert config.seed == 7


def test_the_files_own_checkpoints_and_data_need_no_options(ask: Ask, tmp_path: Path) -> None:
    Path("kdaudit.toml").write_text(
        'teacher = "T"\nstudents = ["S", "S2"]\nmembers = "m"\nnonmembers = "n"\nout = "here"\n', encoding="utf-8"
    )
    done = kdaudit("attack")
    assert done.code == 0, done.err
    config, _ = ask()
    assert (config.teacher, config.students, config.members, config.out) == ("t", ("s",), ("m",), Path("here"))


def test_gates_that_replace_the_files_are_announced(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("kdaudit.toml").write_text('gates = ["student.auc <= 0.1", "teacher.auc <= 0.1"]\n', encoding="utf-8")
    _, done = ask()
    assert "replace" not in done.out
    _, done = ask("--gate", "student.auc <= 0.3")
    note = "replace the 2 of"
    assert f"the gates of the command line {note}" in done.out
    assert "kdaudit.toml" in done.out
    monkeypatch.setenv("KDAUDIT_GATES", "student.auc <= 0.2")
    _, done = ask()
    assert f"the gates of KDAUDIT_GATES {note}" in done.out


def test_with_json_the_note_on_gates_goes_to_stderr(
    given: Given, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kdaudit.toml").write_text('gates = ["student.auc <= 0.1"]\n', encoding="utf-8")
    monkeypatch.setattr("kdaudit.cli.attack.audit_with_progress", lambda *_, **options: load(finished / "results.json"))
    done = given.attack(finished, "--gate", "student.auc <= 0.3", "--json")
    assert done.out == (finished / "results.json").read_text(encoding="utf-8")
    assert "replace the 1 of" in done.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("gate = ['student.auc <= 0.6']", ["unknown key 'gate'", "did you mean 'gates'?"]),
        ("max_token = 5", ["unknown key 'max_token'", "did you mean 'max_tokens'?"]),
        ("colour = 'red'", ["unknown key 'colour'"]),
        ("seed = '1'", ["'seed' must be a whole number, not str", "seed = 1"]),
        ("seed = true", ["'seed' must be a whole number, not bool"]),
        ("seed = 1.5", ["'seed' must be a whole number, not float"]),
        ("gates = 'student.auc <= 0.6'", ["'gates' must be a list of strings, not str"]),
        ("gates = [1]", ["every entry of 'gates' must be a string"]),
        ("paper-compat = 1", ["'paper-compat' must be true or false, not int"]),
        ("calibration_share = '0.5'", ["'calibration_share' must be a number, not str"]),
        ("seed = ", ["not valid TOML"]),
        ("seed" + ".a" * 50_000 + " = 1", ["lines of more dots than settings can have"]),
        ("gates = ['student.acu <= 1']", ["unknown metric 'acu'"]),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(
    content: str, words: list[str], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kdaudit.toml").write_text(content, encoding="utf-8")
    check_refused(given.attack(tmp_path / "run"), *words)
    Path("pyproject.toml").write_text(f"[tool.kdaudit]\n{content}\n", encoding="utf-8")
    Path("kdaudit.toml").unlink()
    check_refused(given.attack(tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["kdaudit.toml", "pyproject.toml"])
def test_an_error_in_a_file_names_the_line(
    name: str, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    head = "[tool.ruff]\nseed = 1\n[tool.kdaudit]\n" if name == "pyproject.toml" else "# settings\n\n\n"
    for wrong, words in (
        ("'seed' = 'x'", "'seed' must be"),
        ("sed = 1", "unknown key 'sed'"),
        ("gates = [1]", "every"),
    ):
        Path(name).write_text(f"{head}limit = 5\n{wrong}\n", encoding="utf-8")
        check_refused(given.attack(tmp_path / "run"), f"{name}, line 5: {words}")


@pytest.mark.parametrize("content", ["tool = 3", "[tool]\nkdaudit = 'on'"])
def test_a_pyproject_whose_tables_are_none_is_refused(
    content: str, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text(content, encoding="utf-8")
    check_refused(given.attack(tmp_path / "run"), "must be a table", "[tool.kdaudit]")


def test_a_named_file_that_is_not_there_is_refused(given: Given, tmp_path: Path) -> None:
    check_refused(
        given.attack(tmp_path / "run", "--config", tmp_path / "none.toml"), "--config: cannot read", "none.toml",
        "check the path",
    )  # fmt: skip


def test_a_wrong_value_in_the_environment_is_a_usage_error(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDAUDIT_SEED", "many")
    done = given.attack(tmp_path / "run")
    assert done.code == 2
    assert "seed" in done.err.lower()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("attack", "--limit", "1", "--seed", "1", "--limit", "2", "--seed=2"), ("--limit", "--seed")),
        (("attack", "--quiet", "-q"), ("--quiet",)),
        (("distill", "--no-resume", "--resume"), ("--resume",)),
        (("distill", "--out", "a", "--out", "a"), ("--out",)),
        (("mitigate", "--epochs", "2", "--epochs", "3"), ("--epochs",)),
        (("report", "run", "--out", "a", "--out", "b"), ("--out",)),
        (("demo", "--seed", "1", "--seed", "1"), ("--seed",)),
    ],
)
def test_an_option_that_has_one_value_and_is_given_twice_is_refused_by_name(
    arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = kdaudit(*arguments)
    check_refused(done, *(f"{word}: given 2 times, but it has one value" for word in words), "--help says")


def test_a_pattern_that_the_shell_has_spelt_out_is_answered_with_quotes(ask: Ask) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        Path(name).touch()
    done = kdaudit("attack", "--teacher", "t", "--student", "s", "--members", "a.jsonl", "b.jsonl", "--nonmembers", "n")
    check_refused(done, "b.jsonl: stands behind no option", "quote a pattern")


def test_an_option_that_can_be_repeated_counts_every_time_and_help_may_be_asked_for_twice(ask: Ask) -> None:
    config, _ = ask("--student", "b", "--attack", "loss", "--attack", "zlib")
    assert (config.students, config.attacks) == (("s", "b"), ("loss", "zlib"))
    config, _ = ask("--members", "a b", "--members", "c", "--nonmembers", "n")
    assert (config.members, config.nonmembers) == (("a b", "c"), ("n",))
    assert kdaudit("attack", "--help", "--help").code == 0


def test_sources_of_records_come_from_file_and_environment_one_or_several(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("kdaudit.toml").write_text('members = ["m", "-"]\nnonmembers = "n o"\n', encoding="utf-8")
    config, _ = ask()
    assert (config.members, config.nonmembers) == (("m", "-"), ("n o",))
    monkeypatch.setenv("KDAUDIT_MEMBERS", "in the; environment")
    config, _ = ask()
    assert config.members == ("in the", "environment")
