"""What every test shares: no network, and golden files that change only on request."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import: huggingface_hub reads it once
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # subprocess tests fork
os.environ.pop("GITHUB_ACTIONS", None)  # else help is coloured, and reports end up in the summary of CI itself
os.environ.pop("COLUMNS", None)  # pytest-xdist says 80 to its workers; a command takes what it takes without a terminal
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small only wait for further threads

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.commands", "tests.distill.students"]

# a busy machine is no failure, and a submission is judged on the same examples every time
settings.register_profile("kdaudit", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("kdaudit")

GOLDEN = Path(__file__).parent / "golden"


class Elements(HTMLParser):
    """Every element with its attributes and every text between them, in order; how they are indented says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((f"<{tag}>", *sorted(f"{name}={value}" for name, value in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"</{tag}>",))

    def handle_decl(self, decl: str) -> None:
        self.found.append((decl,))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))

    def handle_data(self, data: str) -> None:
        if text := " ".join(data.split()):
            self.found.append((text,))


def parsed(name: str, text: str) -> object:
    """What a file says: the elements of a page, the values of JSON, the lines of any other."""
    if name.endswith(".html"):
        elements = Elements()
        elements.feed(text)
        elements.close()
        return elements.found
    return json.loads(text) if name.endswith((".json", ".sarif")) else text.splitlines()


@dataclass(frozen=True)
class Golden:
    """Compares output with the agreed file of that name under tests/golden, by what it says."""

    update: bool

    def check(self, name: str, actual: str) -> None:
        path = GOLDEN / name
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual, encoding="utf-8")
        agreed = path.read_text(encoding="utf-8")
        assert parsed(name, actual) == parsed(name, agreed)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the agreed files from what the code gives")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(update=bool(request.config.getoption("--update-golden")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A simulation takes as long as it takes."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))
