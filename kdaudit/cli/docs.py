"""`kdaudit docs`: the pages of the documentation, as they are carried in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import kdaudit
from kdaudit.cli import output
from kdaudit.errors import ConfigError, did_you_mean

PACKAGE = Path(kdaudit.__file__).parent
FOLDERS = (PACKAGE / "docs", PACKAGE.parent / ".github" / "docs")
"""In the wheel, and in a checkout."""


def docs(
    topic: Annotated[
        str | None, typer.Argument(help="The page to print. Without it the pages are listed.", show_default=False)
    ] = None,
) -> None:
    """Print a page of the documentation, or list the pages. Needs no network."""
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
