"""`kdaudit docs`: the pages of the documentation, as they are carried in the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import kdaudit
from kdaudit.cli import output
from kdaudit.cli.command import Command, Given
from kdaudit.errors import ConfigError, did_you_mean
from kdaudit.options import Option, options_of

PACKAGE = Path(kdaudit.__file__).parent
FOLDERS = (PACKAGE / "docs", PACKAGE.parent / ".github" / "docs")
"""In the wheel, and in a checkout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocsSwitches:
    """What is asked for."""

    topic: Annotated[
        str | None,
        Option("The page to print. Without it the pages are listed.", is_argument=True, shows_default=False),
    ] = None


def docs(given: Given) -> None:
    """Print a page of the documentation, or list the pages. Needs no network."""
    topic = given.build(DocsSwitches).topic
    found = pages()
    if topic is None:
        output.print_topics({name: title_of(text) for name, text in found.items()})
        return
    if topic not in found:
        raise ConfigError(f"there is no page {topic}", hint=did_you_mean(topic, found))
    output.print_page(found[topic])


def pages() -> dict[str, str]:
    """The Markdown of every page by its name, in alphabetical order."""
    files = sorted(file for folder in FOLDERS for file in folder.glob("*.md"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def title_of(text: str) -> str:
    """The heading of a page."""
    return text.split("\n", 1)[0].removeprefix("# ")


COMMAND = Command(
    "docs",
    docs,
    options_of(DocsSwitches),
    variables="KDAUDIT_DOCS",
    example="kdaudit docs tutorial",
    may_be_several=True,
)
