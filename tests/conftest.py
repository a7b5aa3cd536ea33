"""What every test shares: no network, and golden files that change only on request."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import: huggingface_hub reads it once
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # subprocess tests fork
os.environ.pop("GITHUB_ACTIONS", None)  # else help is coloured, and reports end up in the summary of CI itself
os.environ.pop("COLUMNS", None)  # pytest-xdist says 80 to its workers; a command takes what it takes without a terminal
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small only wait for further threads

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.commands", "tests.distill.students"]

# a busy machine is no failure, and a submission is judged on the same examples every time
settings.register_profile("kdaudit", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("kdaudit")

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Golden:
    """Compares output with the agreed file of that name under tests/golden."""

    update: bool

    def check(self, name: str, actual: str) -> None:
        path = GOLDEN / name
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual, encoding="utf-8")
        assert actual == path.read_text(encoding="utf-8")


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
