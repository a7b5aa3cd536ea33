"""README and pages: what they name exists, and the program carries the pages."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from kdaudit.cli.docs import pages, title_of
from kdaudit.cli.main import app
from tests.commands import check_refused, kdaudit

ROOT = Path(__file__).parents[1]
TEXTS = {"README": (ROOT / "README.md").read_text(encoding="utf-8"), **pages()}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def command_lines() -> Iterator[tuple[str, str]]:
    """Every command of kdaudit in a block of shell, and the page that it stands on."""
    for name, text in TEXTS.items():
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("kdaudit "):
                    yield name, line


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_every_command_line_is_one_that_the_program_takes(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no configuration file
    _, command, *arguments = shlex.split(line, comments=True)
    COMMANDS[command].make_context(command, arguments)


@pytest.mark.parametrize("page", TEXTS)
def test_every_option_that_a_page_names_exists(page: str) -> None:
    known = {option for command in COMMANDS.values() for one in command.params for option in one.opts}
    known |= {"--version", "--help", "--multi_gpu", "--num_processes", "--update-golden"}
    known |= {"--config_file", "--nproc-per-node", "--ntasks", "--gpus-per-task"}  # of launchers
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", TEXTS[page]))
    assert named - known == set()


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_to_a_page_leads_to_one(page: str) -> None:
    folder = ROOT if page == "README" else ROOT / ".github/docs"
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXTS[page])
    assert [link for link in links if not (folder / link).is_file()] == []


def test_the_readme_is_short_and_names_every_page() -> None:
    assert len(TEXTS["README"].splitlines()) <= 200
    assert [name for name in pages() if f".github/docs/{name}.md" not in TEXTS["README"]] == []


def test_the_pages_are_listed_with_their_titles_and_printed_as_they_are() -> None:
    listed = kdaudit("docs")
    assert listed.code == 0
    for name, text in pages().items():
        assert re.search(rf"^{name} +{re.escape(title_of(text))}", listed.out, re.MULTILINE)
        assert kdaudit("docs", name).out == text


def test_a_page_that_is_not_there_is_named_with_the_nearest_one() -> None:
    check_refused(kdaudit("docs", "atack"), "no page atack", "did you mean 'attack'?")
    check_refused(kdaudit("docs", "xyz"), "choose one of: attack, chat-student,")
